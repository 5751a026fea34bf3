"""Run a notebook from top to bottom, and keep its outputs in it: ``python docs/hooks/run_notebook.py NOTEBOOK``."""

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

SECONDS = 600
"""That a cell may take."""


def executed(path: Path, before: str = "") -> nbformat.NotebookNode:
    """Run a notebook in a kernel of its own, in the folder it lies in.

    Args:
        path: The notebook.
        before: Code to run first, of which nothing is kept.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell raises.
    """
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(path.parent)}},
    )
    with client.setup_kernel():
        if before:
            first = nbformat.v4.new_code_cell(before)
            notebook.cells.insert(0, first)
            client.execute_cell(first, 0, store_history=False)
            notebook.cells.remove(first)
        for number, cell in enumerate(notebook.cells):
            client.execute_cell(cell, number)
    # The version of Python that happened to be at work.
    notebook.metadata.language_info = {"name": "python"}
    return notebook


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve()
    nbformat.write(executed(place), place)
