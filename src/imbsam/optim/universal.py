"""The Universal class: regularise a symmetric function of the Hessian's eigenvalues by random perturbations."""

from collections.abc import Callable
from typing import Literal, Unpack

import torch
from torch import Tensor

from imbsam.errors import OptionError
from imbsam.optim._gradients import Combined, Parts
from imbsam.optim._maximize import sign_of
from imbsam.optim._numbers import check_number
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._terms import Term, mean_weights
from imbsam.optim.random import Random, Sampler

Scalar = Callable[[Tensor], Tensor]
"""A function of a scalar tensor."""


class UniversalSAM(SharpnessAware):
    """The Universal class of sharpness-aware minimisation (Bahri et al., ICML 2024), with functions of your own.

    ``g = g_0 + strength * phi'(s) * (1/n) sum_i psi'(d_i) (g_i - g_0)`` with ``g_0, L_0`` at ``w``, ``g_i, L_i`` at
    ``w + rho * x_i``, ``d_i = (L_i - L_0) / rho^2`` and ``s = (1/n) sum_i psi(d_i)``. As in the official code the
    factor ``1 / rho^2`` of the chain rule is part of ``strength``. Costs ``1 + samples`` forward-backwards of every row
    and as many copies of the gradient. A sum that overflows gives a gradient that is not finite: the step is skipped
    and counted (``nonfinite="skip"``).

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        psi: Function of each rise of the loss, a scalar tensor.
        psi_prime: Derivative of psi.
        phi_prime: Derivative of phi, the function of their mean.
        rho: Length of the perturbations, the same in every group that is perturbed. A group with rho 0 is not
            perturbed, and with 0 in every group the step is the base optimizer's.
        samples: n, at least 1.
        strength: lambda, finite.
        sampler: Sampler of the ``x_i``, see :class:`Random`.
        half_width: Half the width of the cube of the sampler ``"cube"``.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    fewest_samples = 1

    def __init__(
        self,
        base: Base,
        psi: Scalar,
        psi_prime: Scalar,
        phi_prime: Scalar,
        *,
        rho: float = 0.01,
        samples: int = 1,
        strength: float = 1.0,
        sampler: Literal["sphere", "gaussian", "cube"] | Sampler = "sphere",
        half_width: float = 1.0,
        **common: Unpack[Common],
    ) -> None:
        check_number("samples", samples, least=self.fewest_samples, whole=True)
        check_number("strength", strength)
        common = {"nonfinite": "skip", **common}
        super().__init__(base, rho=rho, ascent=Random(sampler, half_width=half_width), **common)
        self.psi = psi
        self.psi_prime = psi_prime
        self.phi_prime = phi_prime
        self.samples = samples
        self.strength = strength

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss unperturbed, and at each random perturbation, kept apart to be combined."""
        mean = mean_weights(targets)
        base = Term(mean)
        if not (self.rho and self.is_sharp):
            return [base]
        return [base] + [Term(mean, ascent=mean, apart=True) for _ in range(self.samples)]

    def combine(self, parts: Parts) -> Combined | None:
        """Weight the differences of the gradients by the rises of the loss."""
        names = [name for k in range(1, 1 + self.samples) if (name := f"descent {k}") in parts]
        if not names:
            return None
        plain = parts.gradient("step")
        losses = torch.stack([parts.losses[name] for name in names])
        sign = sign_of(self.param_groups, type(self).__name__)
        weights = self.weights(sign * losses, sign * parts.losses["step"])
        combined = list(plain)
        for name, weight in zip(names, weights, strict=True):
            for i, (g, g_0) in enumerate(zip(parts.gradient(name), plain, strict=True)):
                combined[i] = combined[i] + weight.to(g) * (g - g_0)
        return Combined(combined)

    def weights(self, losses: Tensor, plain: Tensor) -> Tensor:
        """Compute the weight of each difference ``g_i - g_0``.

        Args:
            losses: L_i, shape ``(n,)``, float64.
            plain: L_0, shape ``()``.

        Returns:
            Weights, shape ``(n,)``.
        """
        rises = (losses - plain) / self.rho**2
        outer = self.phi_prime(self.psi(rises).mean())
        return self.strength * outer * self.psi_prime(rises) / len(rises)

    @property
    def rho(self) -> float:
        """Length of the perturbations, 0 where there are none.

        Raises:
            OptionError: If groups are perturbed by different lengths.
        """
        lengths = {float(group["rho"]) for group in self.param_groups} - {0.0}
        if len(lengths) > 1:
            listed = " and ".join(map(str, sorted(lengths)))
            raise OptionError(
                f"{type(self).__name__} divides by one rho, but the groups have {listed}: "
                "give every group the same, or 0 to leave it unperturbed."
            )
        return max(lengths, default=0.0)


class TraceSAM(UniversalSAM):
    """Trace-SAM of the Universal class, ``psi(t) = phi(t) = t``, which keeps the trace of the Hessian small.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Length of the perturbations; 0.01 in the official README.
        samples: n.
        strength: lambda; 1 there.
        sampler: ``"sphere"``, uniform on the unit sphere, is the paper's. The official code computes the length of its
            normal vectors and does not divide by it, which is ``"gaussian"``.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.01,
        samples: int = 1,
        strength: float = 1.0,
        sampler: Literal["sphere", "gaussian"] = "sphere",
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            base, _same, _one, _one, rho=rho, samples=samples, strength=strength, sampler=sampler, **common
        )


class DetSAM(UniversalSAM):
    """Det-SAM of the Universal class, ``psi(t) = exp(-t / 2)``, ``phi(s) = s^-2``, which keeps the determinant small.

    The constant ``(2 pi)^d`` of the determinant is part of ``strength``, as in the official code. With one sample the
    weight of ``g_1 - g_0`` is ``strength * exp(d)``, which a large rise of the loss overflows: such a step is skipped
    and counted.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Length of the perturbations; 1 in the official README.
        samples: n.
        strength: lambda; 1 there.
        half_width: Half the width of the cube that perturbations are drawn from; 0.01 there.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 1.0,
        samples: int = 1,
        strength: float = 1.0,
        half_width: float = 0.01,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            base,
            _exp_half,
            _exp_half_prime,
            _inverse_square_prime,
            rho=rho,
            samples=samples,
            strength=strength,
            sampler="cube",
            half_width=half_width,
            **common,
        )


class FrobSAM(UniversalSAM):
    """Frob-SAM of the Universal class, which keeps the Frobenius norm of the Hessian small.

    ``g = g_0 + (strength / rho^2) * Cov(L_i, g_i)``, the unbiased covariance over at least 2 standard normal
    perturbations.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        rho: Length of the perturbations; 0.005 in the official README for CIFAR, 0.01 for MNIST.
        samples: n, at least 2; 2 there.
        strength: lambda; 0.005 there.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    fewest_samples = 2

    def __init__(
        self,
        base: Base,
        *,
        rho: float = 0.005,
        samples: int = 2,
        strength: float = 0.005,
        **common: Unpack[Common],
    ) -> None:
        super().__init__(
            base, _same, _one, _one, rho=rho, samples=samples, strength=strength, sampler="gaussian", **common
        )

    def weights(self, losses: Tensor, plain: Tensor) -> Tensor:
        """Compute the weights of an unbiased covariance; they sum to zero, so that ``g_0`` cancels."""
        return self.strength / self.rho**2 * (losses - losses.mean()) / (len(losses) - 1)


def _same(t: Tensor) -> Tensor:
    return t


def _one(t: Tensor) -> Tensor:
    return torch.ones_like(t)


def _exp_half(t: Tensor) -> Tensor:
    return (-t / 2).exp()


def _exp_half_prime(t: Tensor) -> Tensor:
    return -0.5 * _exp_half(t)


def _inverse_square_prime(s: Tensor) -> Tensor:
    return -2 / s**3
