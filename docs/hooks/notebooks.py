"""Notebooks as pages: text as it stands, code and the outputs that are kept in the notebook below it."""

import html
import json
from collections.abc import Mapping
from pathlib import Path

Output = Mapping[str, object]


def page_of(path: Path) -> str:
    """The Markdown of a notebook's page.

    Args:
        path: The notebook.
    """
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    parts = [part for cell in cells for part in _parts(cell)]
    return "\n\n".join([*parts, f"This page is the notebook `{path.name}`."]) + "\n"


def _parts(cell: Mapping[str, object]) -> list[str]:
    source = _text(cell["source"])
    if cell["cell_type"] == "markdown":
        return [source]
    alternative = str(cell["metadata"].get("alt", ""))
    return [f"```python\n{source}\n```", *(_shown(output, alternative) for output in cell["outputs"])]


def _shown(output: Output, alternative: str) -> str:
    """One output: HTML or a picture where there is one, else text."""
    if output["output_type"] == "stream":
        return _preformatted(_text(output["text"]))
    data = output["data"]
    if "text/html" in data:
        # In one block, so that Markdown takes nothing in it for its own.
        return f"<div>{_text(data['text/html'])}</div>"
    if "image/png" in data:
        encoded = _text(data["image/png"]).replace("\n", "")
        return f'<img alt="{html.escape(alternative)}" src="data:image/png;base64,{encoded}">'
    return _preformatted(_text(data["text/plain"]))


def _preformatted(text: str) -> str:
    return f"```text\n{text.rstrip()}\n```"


def _text(lines: str | list[str]) -> str:
    """A text, which a notebook holds as a whole or by lines."""
    return lines if isinstance(lines, str) else "".join(lines)
