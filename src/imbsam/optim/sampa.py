"""SAMPa: SAM whose two gradients can be computed in parallel."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._gradients import Combined, Parts
from imbsam.optim._maximize import minimised
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term, mean_weights
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm

KEPT = "ascent 0"
"""Name of the memory that both terms use: the gradient at the predicted weights ``y``."""


class Predicted(Ascent):
    """Ascent ``e = rho * m / |m|``, or ``e = rho * m`` where rho is negative; ``m`` is the method's memory of the term.

    No gradient of this step is needed, so that no pass waits for the direction.
    """

    spares_passes = True
    remembers = True

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return False: no step needs the gradient."""
        return False

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters."""
        held = []
        for slope in slopes:
            params = [p for p in slope.params if p in memory]
            # Copied: what the method keeps must outlive the step, and add_normalised overwrites it.
            held.append(Slope(slope.rho, params, [memory[p].clone() for p in params], []))
        held = [slope for slope in held if slope.params]
        if not held:
            return Climbed()
        norm = global_norm([m for slope in held for m in slope.grads])
        # Of length 1, whatever m is: then the scale is rho itself.
        add_normalised(held, torch.ones_like(norm) if any(s.rho < 0 for s in held) else norm, 0.0)
        return Climbed(norm)

    def __repr__(self) -> str:
        return "Predicted()"


class SAMPa(SharpnessAware):
    """SAMPa (Xie et al., NeurIPS 2024, arXiv:2410.10683): SAM that takes the ascent gradient at predicted weights.

    ``g = (1 - lambda) * grad L(w + rho * m / |m|) + lambda * grad L(y)``, with ``m`` the gradient at the ``y`` of the
    step before and ``y = w - lr * m`` the prediction of the next weights; ``m`` is then ``grad L(y)``. Neither pass
    needs the result of the other, so two devices could make them at the same time. Here one device makes both in turn:
    a step costs two forward-backwards of every row, as SAM's does, and saves no time.

    The first step is the base's own and gives the first ``m``, as in the official code. That code predicts by the whole
    step of SGD, with momentum and weight decay, and takes the gradient at ``w + e`` of the previous batch; the formula
    here is the paper's, and both gradients are of the present batch. A step returns the loss at ``w + e``; with
    BatchNorm one more forward of every row, at the weights, gives the loss and moves the statistics.

    Args:
        base: Any ``torch.optim.Optimizer`` instance with a learning rate, or a list of several; it makes the step.
        rho: Neighbourhood size; 0.1 in the official script.
        share: lambda, above 0 and below 1; 0.2 there.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range, or a group of the base has no ``lr``.
    """

    keeps = (KEPT,)

    def __init__(self, base: Base, *, rho: float = 0.1, share: float = 0.2, **common: Unpack[Common]) -> None:
        check_number("share", share, above=0, below=1)
        super().__init__(base, rho=rho, ascent=Predicted(), **common)
        if not all("lr" in group for group in self.param_groups):
            raise OptionError("SAMPa predicts the next weights by the learning rate: choose a base that has lr.")
        self.share = share

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss twice, each apart: at the perturbed weights, and at the predicted weights."""
        mean = mean_weights(targets)
        if not (self.is_sharp and self._has_radius and self.memory.get(KEPT)):
            return [Term(mean)]
        perturbed = Term(mean, ascent=mean, apart=True, label=0)
        # w - lr m: the step's own length, against the gradient.
        predicted = Term(mean, ascent=mean, radius="lr", factor=-1.0, apart=True, label=0)
        return [perturbed, predicted]

    @property
    def _has_radius(self) -> bool:
        return any(group["rho"] for group in self.param_groups)

    def combine(self, parts: Parts) -> Combined | None:
        """Add both gradients by their shares, and keep that at the predicted weights (in the first step, at ``w``)."""
        if "descent 1" in parts:
            at_y = parts.gradient("descent 1")
            # Here and not in the rows' weights: an ordinary closure backpropagates the mean loss as it is.
            both = zip(parts.gradient("descent 0"), at_y, strict=True)
            return Combined([(1 - self.share) * a + self.share * b for a, b in both], self._kept_of(parts, at_y))
        if not self._has_radius or self.steps + 1 < self.sharp_from:
            return None
        return Combined(memory=self._kept_of(parts, parts.gradient("step")))

    def _kept_of(self, parts: Parts, gradient: Sequence[Tensor]) -> dict[str, Memory]:
        dense = [(g.to_dense() if g.is_sparse else g) / parts.loss_scale for g in gradient]
        return {KEPT: minimised(dict(zip(parts.params, dense, strict=True)), self.param_groups)}
