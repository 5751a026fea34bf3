"""Mixing of samples: rows of a batch that are blends of two samples, and the share of each class in them."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from imbsam.errors import OptionError

Mix = Literal["none", "mixup", "cutmix", "both"]


@dataclass(frozen=True)
class Mixing:
    """Rule that blends each row of a batch with another row of it.

    mixup (Zhang et al. 2018): ``lam * x_i + (1 - lam) * x_j``, lam from ``Beta(alpha, alpha)`` once a batch. CutMix
    (Yun et al. 2019): a box of ``1 - lam`` of the image's area comes from ``x_j``; lam is then set to the share of
    ``x_i`` that is left, since the box may stick out. The targets are mixed with the same shares: they become
    memberships.

    Args:
        how: ``"mixup"``, ``"cutmix"``, or ``"both"``, which draws one of them for each batch.
        num_classes: Number of classes C.
        alpha: Parameter of the beta distribution, above 0; 1 is uniform.

    Raises:
        OptionError: If an option is out of range.
    """

    how: Mix
    num_classes: int
    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.how not in get_args(Mix)[1:]:
            raise OptionError(f"mix must be one of {', '.join(get_args(Mix))}; got {self.how!r}.")
        if not (math.isfinite(self.alpha) and self.alpha > 0):
            raise OptionError(f"mix_alpha must be a number above 0; got {self.alpha!r}.")

    def drawn(self, rows: int, generator: torch.Generator) -> "Blending":
        """Draw how a batch is mixed.

        Args:
            rows: Number of rows of the whole batch.
            generator: Source of the random draws.

        Returns:
            The partner of each row, and the rule.
        """
        partners = torch.randperm(rows, generator=generator)
        coin, top, left = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        # torch.distributions draws from the global generator alone.
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        share = float(np.random.default_rng(seed).beta(self.alpha, self.alpha))
        cuts = self.how == "cutmix" or (self.how == "both" and coin < 0.5)
        return Blending(partners, share, (top, left) if cuts else None, self.num_classes)


@dataclass(frozen=True)
class Blending:
    """Mixing of one batch.

    Args:
        partners: Index of the row that each row is mixed with, shape ``(b,)``.
        share: lam, the share that a row keeps of itself.
        centre: Centre of CutMix's box, as shares of height and width; None for mixup.
        num_classes: Number of classes C.
    """

    partners: Tensor
    share: float
    centre: tuple[float, float] | None
    num_classes: int

    def inputs(self, own: Tensor, others: Tensor) -> Tensor:
        """Mix some rows with their partners.

        Args:
            own: Rows, float32, shape ``(b, ...)``; with a centre ``(b, C, H, W)``.
            others: Partners of the rows, same shape.
        """
        if self.centre is None:
            return own * self.share + others * (1 - self.share)
        rows, columns = self._box(own.shape[-2], own.shape[-1])
        mixed = own.clone()
        mixed[..., rows, columns] = others[..., rows, columns]
        return mixed

    def targets(self, own: Tensor, others: Tensor, inputs: Tensor) -> Tensor:
        """Return the memberships of mixed rows.

        Args:
            own: Classes of the rows, int64, shape ``(b,)``.
            others: Classes of the partners.
            inputs: Mixed rows, for their size.

        Returns:
            Memberships, float32, shape ``(b, C)``; each row sums to 1.
        """
        share = self.share
        if self.centre is not None:
            height, width = inputs.shape[-2:]
            rows, columns = self._box(height, width)
            share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
        return one_hot(own, self.num_classes) * share + one_hot(others, self.num_classes) * (1 - share)

    def _box(self, height: int, width: int) -> tuple[slice, slice]:
        assert self.centre is not None
        side = math.sqrt(1 - self.share)
        return _clipped(self.centre[0], side, height), _clipped(self.centre[1], side, width)


def _clipped(centre: float, side: float, pixels: int) -> slice:
    """Return the part of an edge that a box covers inside the image."""
    middle, half = int(centre * pixels), int(side * pixels) // 2
    return slice(max(0, middle - half), min(pixels, middle + half))
