"""Tables on the pages of the documentation, between marks such as ``<!-- speed -->`` and ``<!-- /speed -->``."""

import re
from collections.abc import Mapping
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"


def put(page: Path, tables: Mapping[str, str]) -> None:
    """Write each table between the marks of its name, in the place of what is there.

    Raises:
        ValueError: If the page has no such marks.
    """
    text = page.read_text()
    for name, table in tables.items():
        parts = re.split(rf"(?<=<!-- {name} -->\n).*?(?=<!-- /{name} -->)", text, flags=re.S)
        if len(parts) != 2:
            raise ValueError(f"{page} must have the marks of {name!r} once, and has them {len(parts) - 1} times")
        text = f"{parts[0]}{table.rstrip()}\n{parts[1]}"
    page.write_text(text)
