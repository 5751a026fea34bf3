"""SAM-A: the perturbation goes by the rare classes, the step by every row alike."""

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
    the mean loss, unweighted: in the flatness rare classes count for more, in the step each row for one. Costs two
    forward-backwards of every row. By name v is one over the class count; that it is the paper's is not verified.

    Args:
        base: Any ``torch.optim.Optimizer`` instance, or a list of several; it makes the step.
        weights: v, one for each class, shape ``(C,)``, finite, at least 0.
        rho: Neighbourhood size; 0.05 in the paper's experiments.
        ascent: Where the perturbation points.
        common: See :class:`SharpnessAware`.

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
        """One term: the mean loss, perturbed along the gradient of the weighted one."""
        mean = mean_weights(targets)
        return [Term(mean, ascent=mean * row_weights(targets, self.weights))]


class TailSAMA(SharpnessAware):
    """SAM-A with the tail alone in its ascent: ``g = grad L(w + e)``, ``e = rho * grad L_tail(w) / |grad L_tail(w)|``.

    Every row learns at the weights where the tail's loss is high; under :class:`ImbSAM` only the tail's do. A batch
    without a tail row makes the base optimizer's step, bit for bit; with every row in the tail it is SAM's. Each head
    row is forwarded once and each tail row twice where the rows do not see each other (no BatchNorm); head rows are
    not forwarded at ``w`` then, and enter the returned loss as they are at ``w + e``. The limit of :class:`SAMA` for
    weights of 0 and 1; of this library, as far as we know in no paper.

    Args:
        base: Any ``torch.optim.Optimizer`` instance, or a list of several; it makes the step.
        tail: Marks the tail classes, bool, shape ``(C,)``, as from :meth:`ClassPriors.tail`.
        rho: Neighbourhood size.
        ascent: Where the perturbation points.
        common: See :class:`SharpnessAware`.

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
        """One term: the mean loss, perturbed along the gradient of the tail's part of it."""
        mean = mean_weights(targets)
        _, tail = divided(mean, row_shares(targets, self.tail))
        return [Term(mean, ascent=tail)]
