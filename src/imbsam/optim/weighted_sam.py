"""SAM on a re-weighted loss: SAM with deferred re-weighting, and balanced SAM for imbalanced regression."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from imbsam.errors import OptionError, PriorsError
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._targets import checked_classes, row_weights
from imbsam.optim._terms import Term, checked_weights, mean_weights
from imbsam.optim.ascent import Ascent
from imbsam.priors import ClassPriors


class WeightedSAM(SharpnessAware):
    """SAM whose loss weighs each row by its class, in the direction and in the step.

    ``g = grad L_v(w + e)``, ``e = rho * grad L_v(w) / |grad L_v(w)|``, ``L_v = (1/B) sum_i v_{y_i} l_i``. With the
    class-balanced weights of :func:`class_balanced` and ``start`` at 80 % of the steps it is SAM with deferred
    re-weighting (Rangwani et al., NeurIPS 2022: rho of 0.5 to 0.8 once the weights are on); with the weights of
    :class:`TargetBins` it is balanced SAM for regression (Liu et al., ICCV 2025: rho 0.2 for AgeDB and 0.05 for
    IMDB-WIKI, weights by the square root of the count in both passes).
    Costs two forward-backwards of every row.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        weights: v, one for each class, shape ``(C,)``, finite, at least 0.
        rho: Neighbourhood size.
        start: Number of steps with all weights 1, before ``weights`` apply.
        ascent: Direction of the perturbation.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = True
    memberships = True

    def __init__(
        self,
        base: Base,
        weights: Tensor,
        *,
        rho: float = 0.05,
        start: int = 0,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        weights = checked_weights(weights)
        check_number("start", start, least=0, whole=True)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.weights = weights
        self.start = start

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the weighted mean loss, perturbed along its own gradient, as the only term."""
        checked_classes(targets, len(self.weights))
        rows = mean_weights(targets)
        if self.steps >= self.start:
            rows = rows * row_weights(targets, self.weights)
        return [Term(rows, ascent=rows)]


def class_balanced(priors: ClassPriors, *, beta: float = 0.9999) -> Tensor:
    """Compute weights by the effective number of samples, ``(1 - beta) / (1 - beta^n_c)``, that sum to C.

    Args:
        priors: Class priors of the training data; every class needs a sample.
        beta: Parameter of the effective number, in [0, 1) (Cui et al. 2019).

    Returns:
        Weight of each class, shape ``(C,)``, float64.

    Raises:
        OptionError: If ``beta`` is out of range.
        PriorsError: If a class has no training sample.
    """
    check_number("beta", beta, least=0, below=1)
    if int(priors.counts.min()) == 0:
        raise PriorsError(f"class {int(priors.counts.argmin())} has no training sample, so it has no weight.")
    return priors.class_balanced_weights(beta)


def inverse_counts(counts: Tensor, *, power: float = 0.5) -> Tensor:
    """Compute weights ``n_k^-power``, mean 1 over the training samples; a class or bin without a sample counts as one.

    Args:
        counts: Training samples of each class or bin, shape ``(K,)``.
        power: Exponent; 0.5 in the official code of balanced SAM.

    Returns:
        Weight of each class or bin, shape ``(K,)``, float64.

    Raises:
        OptionError: If ``power`` is not finite.
    """
    check_number("power", power)
    inverse = counts.double().clamp(min=1) ** -power
    return inverse * (counts.sum() / (inverse * counts).sum())


class TargetBins:
    """Bins of a continuous target, so that rare ranges of it can be weighted as rare classes are.

    Args:
        edges: Inner edges of the K bins, ascending, shape ``(K - 1,)``; a target equal to an edge is in the upper bin.
        counts: Training targets in each bin, shape ``(K,)``.

    Raises:
        OptionError: If the edges do not ascend.
    """

    def __init__(self, edges: Tensor, counts: Tensor) -> None:
        if edges.ndim != 1 or bool((edges.diff() <= 0).any()) or len(counts) != len(edges) + 1:
            raise OptionError("edges must ascend, shape (K - 1,), with one count for each of the K bins.")
        self.edges = edges.detach().cpu().double()
        self.counts = counts.detach().cpu()

    @classmethod
    def from_targets(cls, targets: Tensor | Sequence[float], bins: int = 20) -> "TargetBins":
        """Cut the range of the training targets into bins of equal width.

        Args:
            targets: Targets of the training data, shape ``(N,)``, finite.
            bins: Number of bins K, at least 2.

        Returns:
            The bins.

        Raises:
            OptionError: If there are no finite targets or they are all equal, or ``bins`` is below 2.
        """
        targets = torch.as_tensor(targets).detach().cpu().double()
        check_number("bins", bins, least=2, whole=True)
        if targets.ndim != 1 or not len(targets) or not bool(targets.isfinite().all()):
            raise OptionError("bins of a target need finite targets, shape (N,), N > 0.")
        lowest, highest = float(targets.min()), float(targets.max())
        if lowest == highest:
            raise OptionError(f"all targets are {lowest}: so there are no bins to cut.")
        edges = torch.linspace(lowest, highest, bins + 1, dtype=torch.float64)[1:-1]
        index = torch.bucketize(targets, edges, right=True)
        return cls(edges, torch.bincount(index, minlength=bins))

    def __call__(self, targets: Tensor) -> Tensor:
        """Return the bin of each target, shape ``(B,)``, int64, which ``passes`` and ``step`` take as targets."""
        return torch.bucketize(targets.detach().double(), self.edges.to(targets.device), right=True)

    def weights(self, *, power: float = 0.5) -> Tensor:
        """Compute the weight of each bin, ``n_k^-power``, mean 1 over the training samples.

        Args:
            power: Exponent; 0.5 in the official code of balanced SAM.

        Returns:
            Weight of each bin, shape ``(K,)``, float64.

        Raises:
            OptionError: If ``power`` is not finite.
        """
        return inverse_counts(self.counts, power=power)
