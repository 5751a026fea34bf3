"""The page of methods says of every registered method what it costs and where it comes from."""

import re
from pathlib import Path

import pytest

from imbsam.optim import ASCENTS, METHODS, list_methods

PAGE = (Path(__file__).parent.parent / "docs/methods.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^#)", PAGE, flags=re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize("name", METHODS)
def test_each_method_has_a_section_with_its_cost_and_source(name):
    section = " ".join(SECTIONS[name].split())
    method = METHODS[name]
    assert re.search(r"`[^`]*(g|grad|SAM)[^`]*`|SAM", section)
    costs = [cost.strip("` .") for cost in re.findall(r"Cost (.*?)(?:\. |$|,)", section)]
    assert costs
    assert costs[0] == method.cost.split(",")[0]
    if name != "plain":
        assert method.source.split(",")[-1].strip() in section
        assert method.link in section


def test_the_page_has_no_section_without_a_method():
    assert set(SECTIONS) == set(METHODS) == set(list_methods())


def test_the_page_lists_every_ascent():
    section = PAGE.partition("\n# Ascents\n")[2].partition("\n# ")[0]
    assert set(re.findall(r"^\| `(\w+)` \|", section, flags=re.MULTILINE)) == set(ASCENTS)
