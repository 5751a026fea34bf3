"""Syntax ``NAME:OPTION=VALUE,...`` of the command line: a name with options of its own."""

import re

import yaml

from imbsam.errors import OptionError


def read_spec(label: str, option: str) -> tuple[str, dict[str, object]]:
    """Read a name with options.

    Args:
        label: Text of the user, ``NAME`` or ``NAME:OPTION=VALUE,OPTION=VALUE``.
        option: Option of the command, for the message.

    Returns:
        The name, and its options.

    Raises:
        OptionError: If it cannot be read.
    """
    chosen, _, rest = label.partition(":")
    values: dict[str, object] = {}
    # A comma in brackets, or one that no NAME= follows, belongs to the value before it, as in tail=classes=a,b.
    for pair in re.split(r",(?=[\w-]+=)(?![^\[]*\])", rest) if rest else ():
        name, equals, value = pair.partition("=")
        try:
            # A star begins an alias in YAML, and here a pattern of names, as *.weight.
            values[name.replace("-", "_")] = value if value.startswith("*") else yaml.safe_load(value)
        except yaml.YAMLError:
            equals = ""
        if not equals or not name:
            raise OptionError(
                f"{option} {label}: {pair!r} is not NAME=VALUE, for example imbsam:rho=0.1,tail-weight=2."
            )
    return chosen, values
