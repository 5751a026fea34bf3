"""Every page of the documentation that is a tutorial runs, from its first snippet to its last."""

import re
import shlex
from pathlib import Path

import pytest

from imbsam.cli import main

DOCS = Path(__file__).parent.parent / "docs"
TUTORIALS = ["anomaly.md"]


@pytest.mark.parametrize("page", TUTORIALS)
def test_a_tutorial_runs_in_an_empty_folder(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (DOCS / page).read_text(encoding="utf-8")
    found = re.findall(r"```(python|sh)\n(.*?)```", text, flags=re.DOTALL)
    assert len(found) >= 4
    names: dict[str, object] = {}
    for language, block in found:
        if language == "python":
            exec(compile(block, page, "exec"), names)
            continue
        for line in block.splitlines():
            program, *words = shlex.split(line)
            assert program == "imbsam"
            with pytest.raises(SystemExit) as ended:
                main(words)
            assert ended.value.code == 0, capsys.readouterr().err
    if page == "anomaly.md":
        area = re.search(r"AUROC (0\.\d+)", capsys.readouterr().out)
        assert area is not None
        assert float(area[1]) > 0.8
        assert (tmp_path / "detector/report.html").exists()
