"""Every snippet of the README runs."""

import re
import shlex
from pathlib import Path

import pytest

from imbsam.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_snippets_run_one_after_the_other():
    names: dict[str, object] = {}
    assert len(blocks("python")) >= 4
    for block in blocks("python"):
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


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks("sh") for line in block.splitlines() if line.strip()]
    assert len(commands) >= 5
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "imbsam"
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert ended.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "runs/compared/report.html").exists()
    assert (tmp_path / "predictions.csv").read_text().startswith("name,class,probability\n")


def test_the_readme_names_only_files_that_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (Path(__file__).parent.parent / link).exists(), link
