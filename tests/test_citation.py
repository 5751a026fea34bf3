"""The citation file is valid, and names this version."""

from pathlib import Path

import yaml
from cffconvert import Citation

from imbsam import __version__

FILE = Path(__file__).parent.parent / "CITATION.cff"


def test_the_citation_file_is_valid() -> None:
    citation = Citation(FILE.read_text(encoding="utf-8"), src=str(FILE))
    citation.validate()


def test_the_citation_file_names_this_version() -> None:
    assert yaml.safe_load(FILE.read_text(encoding="utf-8"))["version"] == __version__
