"""Terms: every method of the family is a sum of weighted per-sample gradients, some of them at perturbed weights."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from imbsam.errors import OptionError

Selection = Callable[[Tensor, Tensor], Tensor]
"""From the losses of the batch's rows at ``w`` and at ``w + e``, both ``(B,)``, to descent weights, ``(B,)``."""


@dataclass(frozen=True, eq=False)
class Term:
    """One addend of a step, ``grad_w [sum_i descent_i l_i] (w + e)``, ``e`` along ``grad_w [sum_i ascent_i l_i] (w)``.

    Args:
        descent: Weight of each row in the step, shape ``(B,)``, float64, on the CPU.
        ascent: Weight of each row in the direction of ``e``, shape ``(B,)``; ``None`` stands for ``e = 0``.
        radius: The option of the parameter groups that holds the neighbourhood size; 0 in every group is ``e = 0``.
        factor: Multiplies the neighbourhood size of this term.
        apart: Keep the term's gradient apart, for the method to combine, instead of adding it to the step's.
        select: Choose the rows of the descent by what the perturbation does to their losses; ``descent`` is then what
            the selection starts from.
        label: What the ascent's memory of the term goes by, for a method whose terms change places from batch to
            batch; by default its place.
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
        """The rows that weigh something in the step, shape ``(R,)``."""
        return weighed(self.descent)

    @cached_property
    def ascent_rows(self) -> Tensor:
        """Those that weigh something in the direction, shape ``(R,)``."""
        if self.ascent is None:
            return torch.zeros(0, dtype=torch.long)
        return self.rows if self.ascent is self.descent else weighed(self.ascent)

    def scaled(self, scale: float, *, ascent: bool = True) -> "Term":
        """The term with every weight multiplied.

        Args:
            scale: By what.
            ascent: Whether those of the direction, too.
        """
        direction = self.ascent * scale if ascent and self.ascent is not None else self.ascent
        return replace(self, descent=self.descent * scale, ascent=direction)

    def at_the_weights(self) -> "Term":
        """The term without its perturbation."""
        return replace(self, ascent=None, select=None)


def weighed(weights: Tensor) -> Tensor:
    """The rows whose weight is not 0, shape ``(R,)``."""
    return weights.nonzero().squeeze(1)


def mean_weights(targets: Tensor, factor: float = 1.0) -> Tensor:
    """The weights of the batch's mean loss, ``1 / B`` each, times a factor, shape ``(B,)``, float64."""
    return torch.full((len(targets),), factor / len(targets), dtype=torch.float64)


@dataclass(frozen=True)
class OfSize:
    """Terms that the number of rows alone decides.

    Args:
        still: The batch's mean loss at the weights themselves.
        perturbed: That loss, perturbed along its own gradient: SAM's only term.
        nothing: Of no row, as a tail that the batch has no row of.
    """

    still: Term
    perturbed: Term
    nothing: Term


def of_size(rows: int) -> OfSize:
    """The terms for so many rows."""
    mean = torch.full((rows,), 1 / rows, dtype=torch.float64)
    none = torch.zeros_like(mean)
    return OfSize(Term(mean), Term(mean, ascent=mean), Term(none, ascent=none))


def divided(weights: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
    """Split the weights of rows by a share of each, both ``(B,)``: what is left, and the shares."""
    # Taken back from the difference, so that the two add up to the weights in every bit where nothing is perturbed.
    left = weights - shares * weights
    return left, weights - left


def checked_tail(tail: Tensor) -> Tensor:
    """A copy on the CPU of a mask that marks the tail classes."""
    if not isinstance(tail, Tensor) or tail.dtype != torch.bool or tail.ndim != 1 or len(tail) == 0:
        got = f"{tail.dtype} of shape {tuple(tail.shape)}" if isinstance(tail, Tensor) else repr(tail)
        raise OptionError(
            f"tail must mark the tail classes, a bool tensor of shape (C,), as priors.tail() gives; got {got}."
        )
    return tail.detach().cpu().clone()


def checked_weights(weights: Tensor) -> Tensor:
    """A float64 copy on the CPU of the weights of classes, shape ``(C,)``."""
    weights = torch.as_tensor(weights).detach().cpu().double()
    if weights.ndim != 1 or not len(weights) or not bool((weights.isfinite() & (weights >= 0)).all()):
        raise OptionError("weights must hold one finite number of at least 0 for each class, shape (C,).")
    return weights
