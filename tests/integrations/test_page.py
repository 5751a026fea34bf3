"""The page on integrations: its table is made of the tests behind it, and its snippets are lines of the examples."""

import ast
import re
import textwrap

import pytest

from integrations import works_with
from integrations.works_with import COLUMNS, ROOT, ROWS, Cell, with_table

EXAMPLES = ROOT / "examples"
PAGE = works_with.PAGE.read_text(encoding="utf-8")
CELLS = [(name, column, cell) for name, row in ROWS.items() for column, cell in row.cells.items()]


def test_the_table_is_the_one_made_of_the_tests() -> None:
    assert with_table(PAGE) == PAGE, "python tests/integrations/works_with.py writes it"


@pytest.mark.parametrize(("name", "column", "cell"), CELLS, ids=lambda value: value if isinstance(value, str) else "")
def test_behind_every_cell_stand_tests_that_exist(name: str, column: str, cell: Cell) -> None:
    assert column in COLUMNS
    assert cell.tests
    for test in cell.tests:
        file, function = test.split("::")
        tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
        assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test


@pytest.mark.parametrize("name", ROWS)
def test_the_versions_are_those_that_are_pinned(name: str) -> None:
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"{ROWS[name].distribution}=={works_with.installed(ROWS[name])}" in pinned


def test_every_snippet_is_in_the_example_its_section_names() -> None:
    sections = re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
    snippets = 0
    for section in sections:
        named = [ROOT / path for path in re.findall(r"\((?:\.\./)(examples/\w+\.py)\)", section)]
        lines = "\n".join(path.read_text(encoding="utf-8") for path in named)
        for snippet in re.findall(r"```python\n(.*?)```", section, flags=re.DOTALL):
            indented = (textwrap.indent(snippet, " " * spaces) for spaces in (0, 4, 8, 12))
            assert any(text in lines for text in indented), snippet
            snippets += 1
    assert snippets >= 8


def test_every_example_is_on_the_page() -> None:
    for path in EXAMPLES.glob("*.py"):
        assert path.stem == "digits" or f"examples/{path.name}" in PAGE
