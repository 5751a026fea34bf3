"""SAM-A: rare classes weigh more in the perturbation, and every row weighs the same in the step."""

from typing import Unpack

from torch import Tensor

from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._targets import row_shares, row_weights
from imbsam.optim._terms import Term, checked_tail, checked_weights, divided, mean_weights
from imbsam.optim.ascent import Ascent


class SAMA(SharpnessAware):
    """SAM-A (Shwartz-Ziv et al., NeurIPS 2023, arXiv:2312.02517): SAM that climbs the class-weighted loss.

    ``g = grad L(w + e)`` with ``e = rho * grad L_v(w) / |grad L_v(w)|``, ``L_v = (1/B) sum_i v_{y_i} l_i`` and ``L``
    the mean loss, unweighted: rare classes count more in the flatness, and each row counts alike in the step. Costs two
    forward-backwards of every row. Created by name, v is one over the class count; whether the paper's v is the same is
    not verified.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        weights: v, one for each class, shape ``(C,)``, finite, at least 0.
        rho: Neighbourhood size; 0.05 in the paper's experiments.
        ascent: Direction of the perturbation.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = True
    memberships = True

    def __init__(
        self, base: Base, weights: Tensor, *, rho: float = 0.05, ascent: Ascent | None = None, **common: Unpack[Common]
    ) -> None:
        weights = checked_weights(weights)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.weights = weights

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss, perturbed along the gradient of the weighted loss, as the only term."""
        mean = mean_weights(targets)
        return [Term(mean, ascent=mean * row_weights(targets, self.weights))]


class TailSAMA(SharpnessAware):
    """SAM-A with only the tail in its ascent: ``g = grad L(w + e)``, ``e = rho * grad L_tail(w) / |grad L_tail(w)|``.

    The gradient of every row is taken at the weights where the tail's loss is high; under :class:`ImbSAM` only that of
    the tail rows is. A batch without a tail row makes the base optimizer's step, bit for bit; with every row in the
    tail it is SAM's. Each head row is forwarded once and each tail row twice where the rows do not see each other (no
    BatchNorm); head rows are then not forwarded at ``w``, and the returned loss takes them at ``w + e``. It is the
    limit of :class:`SAMA` for weights of 0 and 1; it comes from this library, and as far as we know from no paper.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``, as :meth:`ClassPriors.tail` returns it.
        rho: Neighbourhood size.
        ascent: Direction of the perturbation.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range, or ``tail`` is not a mask over classes.
    """

    class_aware = True
    memberships = True

    def __init__(
        self, base: Base, tail: Tensor, *, rho: float = 0.05, ascent: Ascent | None = None, **common: Unpack[Common]
    ) -> None:
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.tail = checked_tail(tail)

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss, perturbed along the gradient of the tail's part of it, as the only term."""
        mean = mean_weights(targets)
        _, tail = divided(mean, row_shares(targets, self.tail))
        return [Term(mean, ascent=tail)]
