"""SAM, and variants of SAM with another ascent: every class gets a flat minimum."""

from typing import Literal, Unpack

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term
from imbsam.optim.adaptive import Adaptive
from imbsam.optim.friendly import Friendly
from imbsam.optim.momentum import Momentum
from imbsam.optim.rise import Rise
from imbsam.optim.vasso import VarianceSuppressed


class SAM(SharpnessAware):
    """Sharpness-aware minimisation (Foret et al., ICLR 2021, eq. 2-3).

    ``g = grad L(w + e)`` with ``e = rho * grad L(w) / |grad L(w)|`` and ``L`` the batch's mean loss. Costs two
    forward-backwards of every row. The arguments are those of :class:`SharpnessAware`.

    Example:
        >>> optimizer = SAM(torch.optim.SGD(model.parameters(), lr=0.1), rho=0.05, model=model)  # doctest: +SKIP
    """

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss, perturbed along its own gradient, as the only term."""
        return [self._by_size(targets.shape[0]).perturbed]


class ASAM(SAM):
    """Adaptive SAM (Kwon et al., ICML 2021): SAM with :class:`Adaptive` as its ascent.

    Costs two forward-backwards of every row.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size; 0.5 for CIFAR-10 and 1.0 for CIFAR-100 in the official code.
        eta: See :class:`Adaptive`.
        scope: See :class:`Adaptive`.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.5,
        eta: float = 0.01,
        scope: Literal["weights", "all"] = "weights",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(base, rho=rho, ascent=Adaptive(eta, scope=scope), **common)


class FriendlySAM(SAM):
    """Friendly SAM (Li et al., CVPR 2024): SAM with :class:`Friendly` as its ascent.

    Costs two forward-backwards of every row, and a running mean of the gradient in memory.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size; 0.05 in the official class, 0.2 in its script.
        sigma: See :class:`Friendly`.
        decay: See :class:`Friendly`; ``lmbda`` in the official code.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.05,
        sigma: float = 1.0,
        decay: float = 0.9,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(base, rho=rho, ascent=Friendly(sigma, decay), **common)


class LESAM(SAM):
    """Loss-equated SAM (Wang et al., ICML 2026, arXiv:2605.10183): SAM with :class:`Rise` as its ascent.

    Costs two forward-backwards of every row.

    The defaults are those of the official script, ``lesam.py``; its class has sigma 0.1 and rho 0.05, and the command
    in its README has sigma 0.35 and no bound, ``--lesam_rho_max 999``. The script lowers sigma over the last fifth of
    200 epochs, once per epoch, where this class lowers it at every step. It also warms sigma up from 0 over the first
    ten epochs: ``Schedule(optimizer, "rise", linear(0, sigma, steps))`` does that.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: rho_max, the largest length of a perturbation; 0.3 there.
        sigma: Rise of the batch's mean loss, to first order, above 0; 0.35 there.
        anneal_from: See :class:`Rise`.
        anneal_to: See :class:`Rise`.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.3,
        sigma: float = 0.35,
        anneal_from: int | None = None,
        anneal_to: int | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("sigma", sigma, above=0)
        ascent = Rise(sigma, anneal_from=anneal_from, anneal_to=anneal_to)
        super().__init__(base, rho=rho, ascent=ascent, **common)


class VaSSO(SAM):
    """Variance-suppressed SAM (Li and Giannakis, NeurIPS 2023): SAM with :class:`VarianceSuppressed` as its ascent.

    Costs two forward-backwards of every row, and a running mean of the gradient in memory.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size; 0.05 in the official code, 0.2 in its script.
        theta: See :class:`VarianceSuppressed`; 0.9 in the official code.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(self, base: Base, *, rho: float = 0.05, theta: float = 0.9, **common: Unpack[Common]) -> None:
        super().__init__(base, rho=rho, ascent=VarianceSuppressed(theta), **common)


class MSAM(SAM):
    """Momentum SAM (Becker et al. 2024, arXiv:2401.12033): SAM with :class:`Momentum` as its ascent.

    Costs one forward-backward of every row; with BatchNorm one more forward of every row, at the weights, for its
    statistics. A step returns the loss at ``w + e``.

    The weights are perturbed only inside the passes, so that evaluation and checkpoints see the unperturbed weights.
    The official code leaves them perturbed between steps, to be moved back by hand before they are used, and its weight
    decay applies to the perturbed weights; here it applies to the unperturbed ones.

    Args:
        base: Base optimizer with a momentum, such as SGD or AdamW, or a list of several; it makes the step.
        rho: Neighbourhood size; 0.3 in the official class (1 over AdamW), 3 in the commands of its README.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range; in the first steps, if the base keeps no momentum.
    """

    def __init__(self, base: Base, *, rho: float = 0.3, **common: Unpack[Common]) -> None:
        super().__init__(base, rho=rho, ascent=Momentum(), **common)
