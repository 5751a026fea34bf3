"""Every snippet of the page on sharpness runs."""

import re
import shlex
from pathlib import Path

import pytest

from imbsam.cli import main

PAGE = (Path(__file__).parent.parent / "docs/sharpness.md").read_text(encoding="utf-8")
SMALL = ("--rows", "2", "--plane-points", "3")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_python_snippet_runs():
    names: dict[str, object] = {}
    (block,) = blocks("python")
    exec(compile(block, "sharpness.md", "exec"), names)
    assert names["losses"].shape == (3, 4)
    assert names["tail_losses"].shape == (3,)
    assert names["curve"].min() >= 0


def test_the_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (block,) = blocks("sh")
    for line in block.splitlines():
        program, *words = shlex.split(line)
        assert program == "imbsam"
        with pytest.raises(SystemExit) as ended:
            main([*words, "--quiet", *(SMALL if words[0] == "sharpness" else ())])
        assert ended.value.code == 0, capsys.readouterr().err
    assert (tmp_path / "runs/sharpness/figures/density.png").exists()
    assert (tmp_path / "runs/along-tail/report.html").exists()
    assert (tmp_path / "runs/plain/sharpness-train.json").exists()
