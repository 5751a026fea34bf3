"""Every page of the documentation that is a tutorial runs, from its first snippet to its last."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from imbsam.cli import main
from imbsam.cli.commands import Reproduce, Train, parse

DOCS = Path(__file__).parent.parent / "docs"
WRITTEN = {
    "index.md": ["runs/digits/report.html", "runs/first/report.html", "predictions.csv"],
    "commands.md": ["runs/first/report.html", "runs/compared/report.html", "predictions.csv", "decided.csv"],
    "what_imbsam_is.md": [],
    "choosing.md": ["runs/choice/report.html"],
    "methods.md": [],
    "touches.md": [],
    "pitfalls.md": [],
    "anomaly.md": ["detector/report.html", "scores.csv"],
    "tutorials/images.md": ["runs/photos/report.html", "predictions.csv"],
    "tutorials/table.md": ["runs/table/report.html", "predictions.csv"],
    "tutorials/loop.md": ["checkpoint.pt"],
    "tutorials/targets.md": [],
    "tutorials/cluster.md": [
        "runs/spread/report.html",
        "runs/tuned/tune.json",
        "runs/best/report.html",
        "runs/shared/report.html",
    ],
}
"""Pages, and files that they leave behind."""

SHORT = {"train": ("--epochs", "1", "--threads", "1")}
SHORT["compare"] = (*SHORT["train"], "--seeds", "1", "--jobs", "1")
SHORT["tune"] = ("--epochs", "1", "--threads", "1", "--trials", "2")


def blocks(page: str) -> list[tuple[str, str]]:
    return re.findall(r"```(python|sh)\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)


def commands(block: str) -> list[list[str]]:
    lines = [shlex.split(line, comments=True) for line in block.replace("\\\n", " ").splitlines()]
    assert all(program in ("imbsam", "torchrun") for program, *_ in lines)
    return [words[program == "imbsam" :] for words in lines for program in words[:1]]


def together(words: list[str]) -> None:
    """Run a command that begins with torchrun, in a process of its own."""
    line = [sys.executable, "-m", "torch.distributed.run", *words[1:], *SHORT["train"]]
    ran = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
@pytest.mark.parametrize("page", WRITTEN)
def test_a_tutorial_runs_in_an_empty_folder(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(page)
    assert found
    names: dict[str, object] = {}
    for language, block in found:
        if language == "python":
            exec(compile(block, page, "exec"), names)
            continue
        for words in commands(block):
            if words[0] == "torchrun":
                together(words)
                continue
            with pytest.raises(SystemExit) as ended:
                main([*words, *SHORT.get(words[0], ())])
            assert ended.value.code == 0, capsys.readouterr().err
    assert not [name for name in WRITTEN[page] if not (tmp_path / name).exists()]
    if page == "anomaly.md":
        area = re.search(r"AUROC (0\.\d+)", capsys.readouterr().out)
        assert area is not None
        assert float(area[1]) > 0.8
    if page == "tutorials/loop.md":
        assert names["flat"].few > names["plain"].few


def test_every_recipe_is_a_command_that_exists() -> None:
    recipes = [words for _, block in blocks("reproducing.md") for words in commands(block)]
    assert len(recipes) >= 8
    for words in recipes:
        # Of a recipe's command its file is read, too.
        command = parse(words)
        assert isinstance(command, Train | Reproduce)
        if isinstance(command, Train) and command.options.data.target is None:
            assert command.options.data.sampler == "shuffle"
            # The lists of photographs are larger than what is padded.
            assert command.options.data.augment == ("auto" if "@" in words[1] else "cifar")
            assert command.options.training.average == "none"
