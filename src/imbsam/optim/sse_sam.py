"""SSE-SAM: head and tail are each perturbed in their own neighbourhood, the head only in the first steps."""

from typing import Unpack

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._targets import row_shares
from imbsam.optim._terms import Term, checked_tail, divided, mean_weights
from imbsam.optim.ascent import Ascent


class SSESAM(SharpnessAware):
    """Saddle-escaping SAM by stages (SSE-SAM, AAAI 2025).

    ``g = grad L_head(w + e_head) + grad L_tail(w + e_tail)``, each ``e`` along the gradient of its own loss at ``w``,
    of length ``head_rho`` and ``rho``; both losses are divided by the size of the batch. After ``switch`` steps the
    head is no longer perturbed, and the method is ImbSAM. ``head_rho`` is an option of each parameter group, as ``rho``
    is.
    Costs two forward-backwards of every row, then those of ImbSAM; the published code makes four, before the switch and
    after it.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``.
        rho: Neighbourhood size of the tail; 0.1 in the official code.
        head_rho: Neighbourhood size of the head; 0.05 there.
        switch: Number of steps after which the head is not perturbed, 0.7 of all steps there; ``None`` for never.
        ascent: Direction of the perturbations.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = True
    memberships = True

    def __init__(
        self,
        base: Base,
        tail: Tensor,
        *,
        rho: float = 0.1,
        head_rho: float = 0.05,
        switch: int | None = None,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("head_rho", head_rho, least=0)
        if switch is not None:
            check_number("switch", switch, least=0, whole=True)
        super().__init__(base, rho=rho, ascent=ascent, radii={"head_rho": head_rho}, **common)
        self.tail = checked_tail(tail)
        self.switch = switch

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the losses of head and tail, each perturbed along its own gradient."""
        head, tail = divided(mean_weights(targets), row_shares(targets, self.tail))
        flattening_head = self.switch is None or self.steps < self.switch
        return [Term(head, ascent=head if flattening_head else None, radius="head_rho"), Term(tail, ascent=tail)]
