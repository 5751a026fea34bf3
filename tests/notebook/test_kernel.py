"""In the kernel of a notebook: estimators say how far they are in one line, the command in plain lines."""

import sys
from pathlib import Path

import nbformat
import pytest
from run_notebook import executed

# Warnings of the kernel's own are not ours to mend.
STRICT = "import warnings; warnings.simplefilter('error'); warnings.filterwarnings('default', module='ipykernel')"

DATA = """
import numpy as np
draw = np.random.default_rng(0)
X = draw.normal(size=(120, 4))
y = (draw.random(120) < 0.2).astype(int)
"""

CELLS = {
    "network": f"""{DATA}
from imbsam import SharpClassifier
network = SharpClassifier(max_iter=30, verbose=True, random_state=0).fit(X, y)
""",
    "stopped": """
stopped = SharpClassifier(
    max_iter=200, verbose=True, early_stopping=True, n_iter_no_change=2, random_state=0
).fit(X, y)
print(stopped.n_iter_)
""",
    "blend": """
from imbsam import BlendClassifier
blend = BlendClassifier(("plain", "forest", "logistic"), folds=2, n_jobs=2, verbose=True, random_state=0).fit(X, y)
""",
    "shown": "network",
    "command": f"!{sys.executable} -m imbsam train digits --epochs 3 --track none --out run",
    "call": """
from imbsam.cli import main
try:
    main(["compare", "digits", "--epochs", "1", "--seeds", "1", "--jobs", "1", "--track", "none", "--out", "runs"])
except SystemExit as ended:
    assert ended.code == 0
""",
}


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> dict[str, list[nbformat.NotebookNode]]:
    """What each of the cells shows."""
    path: Path = tmp_path_factory.mktemp("notebook") / "cells.ipynb"
    cells = [nbformat.v4.new_code_cell(source.strip(), id=name) for name, source in CELLS.items()]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)
    return {cell.id: cell.outputs for cell in executed(path, STRICT).cells}


def text_of(outputs: list[nbformat.NotebookNode]) -> str:
    return "".join(output.text if output.output_type == "stream" else str(output.data) for output in outputs)


def test_epochs_are_one_line_that_was_replaced(outputs):
    (output,) = outputs["network"]
    assert output.output_type == "display_data"
    assert output.data["text/plain"].startswith("epoch 30: loss 0.")
    assert output.data["text/plain"].endswith(" (30 of 30)")
    assert "<progress" not in output.data["text/html"]


def test_early_stopping_says_where_it_stopped(outputs):
    line, printed = outputs["stopped"]
    stopped = int(printed.text)
    assert stopped < 200
    assert line.data["text/plain"].startswith(f"epoch {stopped}: ")
    assert line.data["text/plain"].endswith(f"({stopped} of 200)")


def test_models_that_are_trained_in_threads_share_one_line(outputs):
    (output,) = outputs["blend"]
    # Two models on folds and one on all rows, of each but the forest, which its own bags judge.
    assert output.data["text/plain"].endswith("(7 of 7)")


def test_an_estimator_is_shown_by_its_parameters_and_by_what_came_of_the_fit(outputs):
    (output,) = outputs["shown"]
    assert output.data["text/plain"] == "SharpClassifier(max_iter=30, random_state=0, verbose=True)"
    assert "sk-estimator" in output.data["text/html"]
    assert "4 → 128 → 128 → 2 units" in output.data["text/html"]


@pytest.mark.parametrize(("cell", "line"), [("command", "epoch 3/3  loss "), ("call", "3 of 3 runs: ")])
def test_the_command_prints_plain_lines(outputs, cell, line):
    text = text_of(outputs[cell])
    assert line in text
    assert "report: " in text
    assert "\x1b" not in text
    assert len(text.splitlines()) < 30
    assert {output.output_type for output in outputs[cell]} == {"stream"}
