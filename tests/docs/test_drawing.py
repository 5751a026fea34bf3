"""The drawing of a step's passes is what its script draws."""

import runpy
from pathlib import Path

IMAGES = Path(__file__).parents[2] / "docs/images"


def test_the_drawing_is_what_its_script_draws():
    drawn = runpy.run_path(str(IMAGES / "passes.py"))["drawn"]()
    assert (IMAGES / "passes.svg").read_text(encoding="utf-8") == drawn
