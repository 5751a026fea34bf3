"""Groups with ``maximize``, whose loss is to rise: everything that assumes a falling loss changes its sign."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._weights import ParamGroup, params_of


def sign_of(groups: Sequence[ParamGroup], method: str) -> int:
    """Return 1 where the loss is to fall, -1 where it is to rise.

    Args:
        groups: Parameter groups of the optimizer.
        method: The name to show in errors.

    Raises:
        OptionError: If the loss is to rise in some groups and to fall in others.
    """
    turned = {bool(group.get("maximize")) for group in groups}
    if len(turned) > 1:
        raise OptionError(
            f"{method} depends on whether the loss rises or falls, but some groups maximize it and others do not: give "
            "all groups the same `maximize`."
        )
    return -1 if True in turned else 1


def minimised(gradient: Mapping[Tensor, Tensor], groups: Sequence[ParamGroup]) -> Mapping[Tensor, Tensor]:
    """Return the gradient of what each parameter is to minimise."""
    turned = {p for group in groups if group.get("maximize") for p in params_of(group)}
    return {p: -g if p in turned else g for p, g in gradient.items()} if turned else gradient
