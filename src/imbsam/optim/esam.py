"""ESAM: SAM that perturbs some of the weights, and learns from the rows that the perturbation hurts most."""

import math
from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._maximize import sign_of
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._tensors import is_sharded
from imbsam.optim._terms import Term, mean_weights
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, add_normalised, global_norm


class Stochastic(Ascent):
    """Stochastic weight perturbation (Du et al., ICLR 2022, section 3.1).

    ``e = rho / beta * g / |g|`` on each parameter tensor with probability ``beta``, and 0 on the others; the norm is
    taken over the chosen tensors. They are drawn from torch's global generator.

    Args:
        beta: Probability in (0, 1]; 1 is :class:`Gradient`.

    Raises:
        OptionError: If ``beta`` is out of range; when climbing, if it is below 1 and the weights are sharded.
    """

    def __init__(self, beta: float = 1.0) -> None:
        check_number("beta", beta, above=0, most=1)
        self.beta = beta

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the chosen parameters."""
        if self.beta < 1:
            if any(is_sharded(p) for slope in slopes for p in slope.params):
                raise OptionError(
                    "Stochastic draws which tensors to perturb, and ranks that hold parts of one would not draw alike: "
                    "choose beta=1, or use DistributedDataParallel instead of fully_shard."
                )
            slopes = [chosen for slope in slopes if (chosen := self._drawn(slope)).params]
        if not slopes:
            return Climbed()
        norm = global_norm([g for slope in slopes for g in slope.grads])
        add_normalised(slopes, norm, 0.0)
        return Climbed(norm)

    def _drawn(self, slope: Slope) -> Slope:
        kept = [i for i, u in enumerate(torch.rand(len(slope.params)).tolist()) if u < self.beta]
        return Slope(
            slope.rho / self.beta,
            [slope.params[i] for i in kept],
            [slope.grads[i] for i in kept],
            [slope.names[i] for i in kept],
        )

    def __repr__(self) -> str:
        return f"Stochastic(beta={self.beta})"


class ESAM(SharpnessAware):
    """Efficient SAM (Du et al., ICLR 2022): stochastic weight perturbation and sharpness-sensitive data selection.

    The perturbed pass learns from the share ``gamma`` of the rows whose loss rose most from ``w`` to ``w + e``, as the
    mean over them. Finding them is a forward of the batch without a backward, so a step costs ``1 + 1/3 + gamma``
    forward-backwards of every row, and 2 with ``gamma = 1``, where nothing is selected. With beta and gamma 1 it is
    SAM.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Neighbourhood size.
        beta: Share of the parameter tensors that are perturbed, in (0, 1]; 0.6 in the script for ResNet-18.
        gamma: Share of the rows that are learned from, in (0, 1]; 0.5 there.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.05,
        beta: float = 0.6,
        gamma: float = 0.5,
        **common: Unpack[Common],
    ) -> None:
        check_number("gamma", gamma, above=0, most=1)
        super().__init__(base, rho=rho, ascent=Stochastic(beta), **common)
        self.gamma = gamma
        self.row_wise = gamma < 1

    def terms(self, targets: Tensor) -> list[Term]:
        """Return SAM's term, with a selection of rows where gamma is below 1."""
        mean = mean_weights(targets)
        return [Term(mean, ascent=mean, select=self._most_hurt if self.gamma < 1 else None)]

    def _most_hurt(self, before: Tensor, after: Tensor) -> Tensor:
        number = max(1, math.floor(self.gamma * len(before)))
        weights = torch.zeros(len(before), dtype=torch.float64)
        # Stable, so that among equal rises, as of a draw that perturbs nothing, the first rows are taken on any device.
        rise = sign_of(self.param_groups, type(self).__name__) * (after - before)
        weights[rise.argsort(descending=True, stable=True)[:number]] = 1 / number
        return weights
