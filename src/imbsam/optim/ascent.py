"""Where a perturbation points: the direction that climbs the loss from the weights."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from imbsam.errors import OptionError


@dataclass(frozen=True)
class Slope:
    """The parameters of one group that have a gradient, aligned with it.

    Args:
        rho: Neighbourhood size of the group.
        params: Parameters.
        grads: Their ascent gradients; an ascent may overwrite them.
    """

    rho: float
    params: list[Tensor]
    grads: list[Tensor]


class Ascent(Protocol):
    """A rule that moves parameters along their ascent gradient."""

    def climb(self, slopes: Sequence[Slope]) -> Tensor:
        """Add the perturbation to the parameters, in place.

        Args:
            slopes: One entry per parameter group with a gradient; the groups share one global norm.

        Returns:
            The gradient's norm, a scalar tensor, so that a non-finite one can be noticed later.
        """


class Gradient:
    """The normalised gradient, ``e = rho * g / (|g| + d)`` (Foret et al. 2021, eq. 2; d = 0 there).

    The norm is global, over all parameters of all groups. A zero gradient gives no perturbation.

    Args:
        damping: d. A tail whose loss has almost vanished has a gradient that is only noise; normalisation alone
            makes a step of full length of it, damping keeps it short.

    Raises:
        OptionError: If ``damping`` is negative or not finite.
    """

    def __init__(self, damping: float = 0.0) -> None:
        if not (math.isfinite(damping) and damping >= 0):
            raise OptionError(f"damping must be finite and at least 0; got {damping}.")
        self.damping = damping

    def climb(self, slopes: Sequence[Slope]) -> Tensor:
        """Add ``rho * g / (|g| + d)`` to the parameters."""
        norm = global_norm([g for slope in slopes for g in slope.grads])
        length = norm + self.damping
        for slope in slopes:
            scale = torch.where(length > 0, slope.rho / length, 0.0)
            for params, grads in _by_device(slope.params, slope.grads):
                on_device = scale.to(grads[0].device, non_blocking=True)
                if any(g.is_sparse for g in grads):
                    for p, g in zip(params, grads, strict=True):
                        p.add_(g * on_device.to(g.dtype))
                else:
                    torch._foreach_mul_(grads, on_device)
                    torch._foreach_add_(params, grads)
        return norm

    def __repr__(self) -> str:
        return f"Gradient(damping={self.damping})"


def global_norm(grads: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm over all tensors together.

    Args:
        grads: Dense or sparse tensors of any floating or complex dtype, on any devices; at least one.

    Returns:
        A scalar on the first tensor's device, float64 if any tensor is, else float32: half precision would
        overflow in the squares.
    """
    values = [g.coalesce().values() if g.is_sparse else g for g in grads]
    values = [torch.view_as_real(v) if v.is_complex() else v for v in values]
    dtype = torch.float64 if any(v.dtype == torch.float64 for v in values) else torch.float32
    norms: Sequence[Tensor] = torch._foreach_norm(values, 2, dtype=dtype)
    home = norms[0].device
    norm: Tensor = torch.linalg.vector_norm(torch.stack([n.to(home, non_blocking=True) for n in norms]))
    return norm


def _by_device(params: list[Tensor], grads: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    devices = {g.device for g in grads}
    if len(devices) == 1:
        return [(params, grads)]
    pairs = list(zip(params, grads, strict=True))
    return [
        ([p for p, g in pairs if g.device == device], [g for _, g in pairs if g.device == device])
        for device in sorted(devices, key=str)
    ]
