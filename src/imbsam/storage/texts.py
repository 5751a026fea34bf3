"""Texts of somebody else's, as they may be shown."""

# Joiners that letters of Persian or Hindi and many emoji need; other format characters can reorder the page.
_JOINERS = "\u200c\u200d"


def printable(text: str) -> str:
    """Put a string on one line and replace what cannot be shown: control characters, halves of surrogates.

    Args:
        text: Any string, for instance a class name taken from a folder's name.

    Returns:
        The text with runs of white space as one blank and unprintable characters as U+FFFD; ``(empty)`` if
        nothing is left.
    """
    shown = (c if c.isprintable() or c in _JOINERS else " " if c.isspace() else "\ufffd" for c in text)
    return " ".join("".join(shown).split()) or "(empty)"
