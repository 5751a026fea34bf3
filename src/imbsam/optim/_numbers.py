"""Checks of numeric options: a value of the wrong kind or out of range raises an error that names the option."""

import math
from numbers import Integral, Real

from imbsam.errors import OptionError


def check_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """Check that an option is a finite real number in its range: no bool, no text, no tensor.

    Args:
        name: Name of the option.
        value: Value that was given.
        least: Smallest allowed value.
        above: Exclusive lower bound.
        most: Largest allowed value.
        below: Exclusive upper bound.
        whole: Whether the value has to be a whole number.

    Raises:
        OptionError: If the value is not such a number.
    """
    kind = type(value)
    # The plain kinds first: to ask an abstract class takes longest.
    number = kind is int or (kind is float and not whole)
    number = number or (isinstance(value, Integral if whole else Real) and kind is not bool)
    if number and math.isfinite(value):  # type: ignore[arg-type]
        own = float(value)  # type: ignore[arg-type]
        low = (least is None or own >= least) and (above is None or own > above)
        if low and (most is None or own <= most) and (below is None or own < below):
            return
    bounds = {"at least": least, "above": above, "at most": most, "below": below}
    limits = " and ".join(f"{words} {bound}" for words, bound in bounds.items() if bound is not None)
    if whole:
        wanted = f"a whole number, {limits}"
    else:
        endless = most is None and below is None
        wanted = " and ".join(filter(None, ["finite" if endless else "", limits]))
    got = f"{value}" if number else f"{value!r}"
    raise OptionError(f"{name} must be {wanted}; got {got}.")
