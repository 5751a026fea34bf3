"""The notebook runs from top to bottom, shows what it should, and is kept with outputs that fit it."""

import json
from pathlib import Path

import nbformat
import pytest
from notebooks import page_of
from run_notebook import executed

TOUR = Path(__file__).parent.parent / "examples/tour.ipynb"
STRICT = "import warnings; warnings.simplefilter('error'); warnings.filterwarnings('default', module='ipykernel')"

SHOWN = {
    "imports": [],
    "loop-data": ["table"],
    "loop-train": ["table"],
    "loop-picture": ["picture", "text"],
    "table-fit": ["line", "table"],
    "table-picture": ["text", "picture"],
    "table-decide-code": ["text"],
    "anomalies-fit": ["table"],
    "anomalies-picture": ["picture", "text"],
}
"""What each cell shows, in order."""


def kind(output: nbformat.NotebookNode) -> str:
    if output.output_type == "stream":
        assert output.name == "stdout", output.text
        return "text"
    data = output.data
    return "picture" if "image/png" in data else "table" if "<table" in data["text/html"] else "line"


def shown(notebook: nbformat.NotebookNode) -> dict[str, list[str]]:
    return {cell.id: list(map(kind, cell.outputs)) for cell in notebook.cells if cell.cell_type == "code"}


@pytest.fixture(scope="module")
def kept() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=4)


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel_without_a_warning(tmp_path):
    place = tmp_path / TOUR.name
    place.write_bytes(TOUR.read_bytes())
    ran = executed(place, STRICT)
    assert shown(ran) == SHOWN
    # It reads and writes no file.
    assert [path.name for path in tmp_path.iterdir()] == [TOUR.name]
    plain, flat = ran.cells[[cell.id for cell in ran.cells].index("loop-picture")].outputs[1].text.splitlines()
    assert plain.startswith("SGD finds ")
    assert flat.startswith("ImbSAM finds ")
    means = [sum(map(float, line.partition(": ")[2].replace(" %", "").split(", "))) / 5 for line in (plain, flat)]
    assert means[1] > means[0] + 3


def test_the_outputs_that_are_kept_are_those_of_one_run(kept):
    assert shown(kept) == SHOWN
    cells = [cell for cell in kept.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))


def test_the_notebook_is_small_and_tells_nothing_of_the_machine_it_ran_on(kept):
    text = TOUR.read_text(encoding="utf-8")
    assert len(text) < 250_000
    assert "\\u001b" not in text
    assert "/home/" not in text
    assert kept.metadata.language_info == {"name": "python"}
    assert all(set(cell.metadata) <= {"alt"} for cell in kept.cells)


def test_every_picture_has_words_for_those_who_do_not_see_it(kept):
    for cell in kept.cells:
        if "picture" in [kind(output) for output in cell.get("outputs", ())]:
            assert len(cell.metadata.alt) > 40, cell.id


def test_a_page_has_the_text_the_code_and_every_output(tmp_path):
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell(
            "show()",
            metadata={"alt": 'a "curve"'},
            outputs=[
                nbformat.v4.new_output("stream", text="two\nlines\n"),
                nbformat.v4.new_output("display_data", {"image/png": "aGVs\nbG8=\n", "text/plain": "<Figure>"}),
                nbformat.v4.new_output("display_data", {"text/html": "<b>bold</b>", "text/plain": "bold"}),
                nbformat.v4.new_output("execute_result", {"text/plain": "42"}),
            ],
        ),
    ]
    path = tmp_path / "some.ipynb"
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    assert isinstance(json.loads(path.read_text())["cells"][1]["outputs"][0]["text"], list)
    assert page_of(path).split("\n\n") == [
        "# Title",
        "```python\nshow()\n```",
        "```text\ntwo\nlines\n```",
        '<img alt="a &quot;curve&quot;" src="data:image/png;base64,aGVsbG8=">',
        "<div><b>bold</b></div>",
        "```text\n42\n```",
        "This page is the notebook `some.ipynb`.\n",
    ]
