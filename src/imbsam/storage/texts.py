"""Texts from outside in a form that can be shown and written: names of files need not be valid text."""

import codecs
import json
import shlex
from collections.abc import Callable, Mapping

READABLE = "imbsam-readable"
"""Value of ``errors=`` by which an encoding writes what it lacks in plain letters, see :func:`readable`."""

# Joiners that letters of Persian or Hindi and many emoji need; other format characters can reorder the page.
_JOINERS = "\u200c\u200d"
_PLAIN = {
    **{"±": "+/-", "×": "x", "…": "...", "→": "->", "•": "*", "·": "*", "\u00a0": " "},
    **dict.fromkeys("–—−‐‑‒", "-"),
    **dict.fromkeys("‘’", "'"),
    **dict.fromkeys("“”", '"'),
    **dict.fromkeys("─━╸╺", "-"),
    **dict.fromkeys("│┃", "|"),
    **dict.fromkeys("╭╮╰╯┌┐└┘├┤┬┴┼", "+"),
}


def readable(text: str) -> str:
    r"""Return a text that every UTF-8 file accepts: a byte of a name that is not UTF-8 becomes ``\xdf``, for example.

    Python stores such a byte as half of a surrogate, which no file and no terminal accepts.
    """
    return text.encode("utf-8", READABLE).decode()


def quoted(text: str) -> str:
    r"""Quote a word of a command line for the shell: ``'two words'``, ``$'Stra\xdfe'``."""
    if all(character.isprintable() for character in text):
        return shlex.quote(text)
    kept = (f"\\{c}" if c in "\\'" else c if c.isprintable() else _escaped(c) for c in text)
    return f"$'{''.join(kept)}'"


def printable(text: str) -> str:
    r"""Put a string on one line, and escape what cannot be shown as Python does: ``\x07``, ``\u202e``, ``\xdf``.

    Args:
        text: Any string, for example a class name taken from a folder's name.

    Returns:
        The text with runs of white space as one blank and unprintable characters escaped; ``(empty)`` if nothing is
        left.
    """
    shown = (c if c.isprintable() or c in _JOINERS else " " if c.isspace() else _escaped(c) for c in text)
    return " ".join("".join(shown).split()) or "(empty)"


def json_text(content: object, *, indent: int | None = None, default: Callable[[object], object] | None = None) -> str:
    """Return JSON in ASCII, with :func:`readable` names.

    Args:
        content: Plain values, and values that ``default`` makes plain.
        indent: See :func:`json.dumps`.
        default: See :func:`json.dumps`.
    """
    text = json.dumps(content, indent=indent, default=default)
    # Half of a surrogate: JSON has no meaning for it, and strict readers refuse it.
    return json.dumps(_readable_in(json.loads(text)), indent=indent) if "\\ud" in text else text


def _readable_in(value: object) -> object:
    if isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping):
        return {readable(str(name)): _readable_in(each) for name, each in value.items()}
    return [_readable_in(each) for each in value] if isinstance(value, list) else value


def _escaped(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # A byte that was not UTF-8.
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x20 or code == 0x7F else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _encoded(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(character) or _escaped(character) for character in lacking), error.end


codecs.register_error(READABLE, _encoded)
