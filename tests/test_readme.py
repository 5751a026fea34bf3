"""Every snippet of the README runs."""

import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from imbsam.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippet_runs():
    names: dict[str, object] = {}
    (block,) = blocks("python")
    exec(compile(block, "README.md", "exec"), names)
    assert names["loss"].ndim == 0


def test_the_loop_in_the_readme_trains_the_rare_digits():
    names: dict[str, object] = {}
    block = blocks("python")[0].replace("range(3)", "range(60)")
    exec(compile(block, "README.md", "exec"), names)
    rare = names["y"] >= 8
    predicted = names["model"](names["x"][rare]).argmax(1)
    assert names["tail"].tolist() == [False] * 8 + [True] * 2
    assert (predicted == names["y"][rare]).double().mean() > 0.9


def data_as_the_readme_has_them(folder: Path) -> None:
    """A folder of images, a table and a table with a few known anomalies."""
    draw = np.random.default_rng(0)
    for name, count in (("common", 30), ("rare", 12)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (16, 16), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "photos" / name / f"{number}.png")
    table = pd.DataFrame(draw.normal(size=(120, 3)), columns=["length", "width", "weight"])
    table.assign(species=np.where(table.length > 1.2, "rare", "common")).to_csv(folder / "table.csv", index=False)
    table.assign(known=(table.weight > 1.5).astype(int)).to_csv(folder / "log.csv", index=False)


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data_as_the_readme_has_them(tmp_path)
    (block,) = blocks("sh")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 3
    for program, *words in commands:
        assert program == "imbsam"
        with pytest.raises(SystemExit) as ended:
            main([*words, *(("--epochs", "1", "--threads", "1") if words[0] == "train" else ())])
        assert ended.value.code == 0, capsys.readouterr().err
    for report in ("runs/photos/report.html", "runs/table/report.html", "detector/fit.html"):
        assert (tmp_path / report).exists()


def test_the_readme_is_read_in_a_screen_and_a_half():
    assert len(README.splitlines()) <= 100


def test_the_readme_names_only_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link
