"""Numbers that are options: of the right kind and in their range, or refused by name."""

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
    """See that an option is a finite real number in its range: no bool, no text, no tensor.

    Args:
        name: Of the option.
        value: What was given.
        least: The smallest that is allowed.
        above: All that is allowed is larger.
        most: The largest that is allowed.
        below: All that is allowed is smaller.
        whole: Whether it counts something.

    Raises:
        OptionError: Otherwise.
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
