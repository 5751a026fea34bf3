"""Focal-SAM: the rarer a class, the larger the share of its loss that is made flat."""

from typing import Unpack

from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._targets import row_shares
from imbsam.optim._terms import Term, divided, mean_weights
from imbsam.optim.ascent import Ascent
from imbsam.priors import ClassPriors


class FocalSAM(SharpnessAware):
    """Focal-SAM (Li et al., ICML 2025), which perturbs the loss of each class by a weight that falls with its count.

    ``g = grad [(1/B) sum_i (1 - c_i) l_i](w) + grad [(1/B) sum_i c_i l_i](w + e)`` with
    ``c_i = strength * (1 - n_y / N)^gamma`` and ``e`` along the gradient of the second sum at ``w``. With weights of 0
    and 1 it is ImbSAM. Costs two forwards and three backwards of every row.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        priors: Class priors of the training data.
        rho: Neighbourhood size; 0.2 for CIFAR-10-LT and 0.3 for CIFAR-100-LT in the official scripts.
        gamma: Focusing exponent, at least 0; 3.0 and 3.2 there.
        strength: lambda, at least 0; 0.5 and 0.8 there.
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
        priors: ClassPriors,
        *,
        rho: float = 0.2,
        gamma: float = 1.0,
        strength: float = 0.5,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        for name, value in {"gamma": gamma, "strength": strength}.items():
            check_number(name, value, least=0)
        super().__init__(base, rho=rho, ascent=ascent, **common)
        self.weights = strength * (1 - priors.priors) ** gamma

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the loss less its focal part unperturbed, and the focal part perturbed along its own gradient."""
        still, focal = divided(mean_weights(targets), row_shares(targets, self.weights))
        return [Term(still), Term(focal, ascent=focal)]
