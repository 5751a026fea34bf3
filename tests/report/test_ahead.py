"""What draws a page is imported while others make the runs."""

import importlib
import subprocess
import sys

from imbsam import report


def test_the_page_is_there_before_it_is_asked_for():
    code = (
        "import sys; from imbsam import report; assert 'imbsam.report.page' not in sys.modules; "
        "report.load_ahead().join(); assert 'imbsam.report.page' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_cannot_be_imported_is_told_later(monkeypatch, capsys):
    def fails(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", fails)
    report.load_ahead().join()
    assert capsys.readouterr() == ("", "")
