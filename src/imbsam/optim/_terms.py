"""Terms: every method of the family is a sum of weighted per-sample gradients, some at perturbed weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from imbsam.errors import OptionError

Selection = Callable[[Tensor, Tensor], Tensor]
"""Function from the losses of the rows at ``w`` and at ``w + e``, both ``(B,)``, to descent weights, ``(B,)``."""


@dataclass(frozen=True, eq=False)
class Term:
    """One addend of a step, ``grad_w [sum_i descent_i l_i] (w + e)``, ``e`` along ``grad_w [sum_i ascent_i l_i] (w)``.

    Args:
        descent: Weight of each row in the step, shape ``(B,)``, float64, on the CPU.
        ascent: Weight of each row in the direction of ``e``, shape ``(B,)``; ``None`` stands for ``e = 0``.
        radius: The option of the parameter groups that holds the neighbourhood size; 0 in every group is ``e = 0``.
        factor: Multiplies the neighbourhood size of this term.
        apart: Keep the term's gradient apart for the method to combine, instead of adding it to the step's gradient.
        select: Function that chooses the rows of the descent by how the perturbation changes their losses; the
            selection starts from ``descent``.
        label: Name of the ascent's memory of the term, for a method whose terms change places from batch to batch; by
            default the term's number.
    """

    descent: Tensor
    ascent: Tensor | None = None
    radius: str = "rho"
    factor: float = 1.0
    apart: bool = False
    select: Selection | None = None
    label: int | None = None

    @cached_property
    def rows(self) -> Tensor:
        """Rows with a weight in the step, shape ``(R,)``."""
        return weighed(self.descent)

    @cached_property
    def ascent_rows(self) -> Tensor:
        """Rows with a weight in the direction, shape ``(R,)``."""
        if self.ascent is None:
            return torch.zeros(0, dtype=torch.long)
        return self.rows if self.ascent is self.descent else weighed(self.ascent)

    def scaled(self, scale: float, *, ascent: bool = True) -> "Term":
        """Return the term with every weight multiplied by a number.

        Args:
            scale: Factor on the weights.
            ascent: Whether the weights of the direction are multiplied, too.
        """
        direction = self.ascent * scale if ascent and self.ascent is not None else self.ascent
        return replace(self, descent=self.descent * scale, ascent=direction)

    def at_the_weights(self) -> "Term":
        """Return the term without its perturbation."""
        return replace(self, ascent=None, select=None)


def weighed(weights: Tensor) -> Tensor:
    """Return the rows whose weight is not 0, shape ``(R,)``."""
    return weights.nonzero().squeeze(1)


def mean_weights(targets: Tensor, factor: float = 1.0) -> Tensor:
    """Return the weights of the batch's mean loss, ``1 / B`` each, times a factor, shape ``(B,)``, float64."""
    return torch.full((len(targets),), factor / len(targets), dtype=torch.float64)


@dataclass(frozen=True)
class OfSize:
    """Terms that depend on the number of rows alone.

    Args:
        still: Mean loss of the batch at the unperturbed weights.
        perturbed: Mean loss of the batch, perturbed along its own gradient: SAM's only term.
    """

    still: Term
    perturbed: Term


def of_size(rows: int) -> OfSize:
    """Return the terms of a batch with this number of rows."""
    mean = torch.full((rows,), 1 / rows, dtype=torch.float64)
    return OfSize(Term(mean), Term(mean, ascent=mean))


def divided(weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Split the weights of rows by a share of each, both ``(B,)``: return the rest, and the shares."""
    # Taken back from the difference, so that the two add up to the weights in every bit where nothing is perturbed.
    left = weights - shares * weights
    return left, weights - left


def checked_tail(tail: Tensor) -> Tensor:
    """Return a copy on the CPU of a mask that marks the tail classes."""
    if not isinstance(tail, Tensor) or tail.dtype != torch.bool or tail.ndim != 1 or len(tail) == 0:
        got = f"{tail.dtype} of shape {tuple(tail.shape)}" if isinstance(tail, Tensor) else repr(tail)
        raise OptionError(
            f"tail must mark the tail classes, a bool tensor of shape (C,), as priors.tail() returns; got {got}."
        )
    return tail.detach().cpu().clone()


def checked_weights(weights: Tensor) -> Tensor:
    """Return a float64 copy on the CPU of the weights of classes, shape ``(C,)``."""
    weights = torch.as_tensor(weights).detach().cpu().double()
    if weights.ndim != 1 or not len(weights) or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise OptionError("weights must have one finite number of at least 0 for each class, shape (C,).")
    return weights
