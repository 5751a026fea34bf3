"""Policies of automatic augmentation: the operations and their strengths, drawn for each image."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imbsam.data.draws import Draws, uniform, whole_numbers
from imbsam.data.operations import Operation, operations
from imbsam.inputs import ImageSpec

STRENGTHS = 31
"""Number of strengths, 0 to 30."""

PolicyName = Literal["trivial", "randaugment"]


@dataclass(frozen=True)
class Policy:
    """Sequence of operations, each drawn at random.

    Args:
        operations: Operations to draw from.
        number: Number of operations for each image.
        strength: Strength of each, 0 to 30; None draws it.
    """

    operations: tuple[Operation, ...]
    number: int = 1
    strength: int | None = None

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Apply operations drawn for each image.

        Args:
            images: Images with values 0..255, uint8 or float, shape ``(b, C, H, W)``.
            generator: Source of the random draws.

        Returns:
            Images, uint8, same shape.
        """
        images = images.round().clamp(0, 255).to(torch.uint8) if images.is_floating_point() else images
        count = len(images)
        for _ in range(self.number):
            kinds = whole_numbers(len(self.operations), count, generator)
            drawn = whole_numbers(STRENGTHS, count, generator)
            negated = uniform((count,), 0, generator) < 0.5
            strengths = drawn if self.strength is None else torch.full_like(drawn, self.strength)
            images = self._applied(images, kinds, strengths.double() / (STRENGTHS - 1), negated)
        return images

    def _applied(self, images: Tensor, kinds: Tensor, shares: Tensor, negated: Tensor) -> Tensor:
        result = images.clone()
        for number in sorted(set(kinds.tolist())):
            operation, rows = self.operations[number], (kinds == number).nonzero().flatten()
            amount = operation.low + shares[rows] * (operation.high - operation.low)
            amount = torch.where(negated[rows], -amount, amount) if operation.signed else amount
            result[rows] = operation.apply(images[rows], amount)
        return result


def policy(name: PolicyName, spec: ImageSpec) -> Policy:
    """Return a published policy for images of a kind.

    Args:
        name: ``"trivial"`` for TrivialAugment wide, one operation of random strength (Müller and Hutter 2021), or
            ``"randaugment"`` for two operations of strength 9 of 30 (Cubuk et al. 2020).
        spec: Form of the images.
    """
    if name == "trivial":
        return Policy(operations(spec, wide=True))
    return Policy(operations(spec, wide=False), number=2, strength=9)
