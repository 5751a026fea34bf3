"""Docstrings as the site shows them: ``:class:`SAM``` is a link, and an example is Python code."""

import re
from pathlib import Path

import griffe

REFERENCE = Path(__file__).parents[1] / "reference"
LISTED = re.findall(r"^::: (\S+)$", "\n".join(p.read_text(encoding="utf-8") for p in REFERENCE.glob("*.md")), re.M)
NAMES = [path.rpartition(".")[2] for path in LISTED]
BY_NAME = {name: path for name, path in zip(NAMES, LISTED, strict=True) if NAMES.count(name) == 1}

ROLE = re.compile(r":(?:class|func|meth|attr|data|mod):`(?:[^`<]+<)?~?([\w.]+)>?`")
EXAMPLE = re.compile(r"^(\s*)Example:$", re.MULTILINE)


class Roles(griffe.Extension):
    """Rewrites every docstring."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = EXAMPLE.sub(r"\1Examples:", with_links(obj.docstring.value))


def with_links(docstring: str) -> str:
    """A docstring with links in the place of roles."""
    return ROLE.sub(_linked, docstring)


def _linked(role: re.Match[str]) -> str:
    """A link to the name, or to the class it belongs to, where the reference lists it; else the name as code."""
    *_, above, name = ["", *role[1].split(".")]
    if name in BY_NAME:
        return f"[`{name}`][{BY_NAME[name]}]"
    if above in BY_NAME:
        return f"[`{above}.{name}`][{BY_NAME[above]}]"
    return f"`{name}`"
