"""Automatic augmentation: which operations an image goes through, and how strongly, drawn for each image."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imbsam.data.draws import Draws, uniform, whole_numbers
from imbsam.data.operations import Operation, operations
from imbsam.inputs import ImageSpec

STRENGTHS = 31
"""Strengths there are, 0 to 30."""

PolicyName = Literal["trivial", "randaugment"]


@dataclass(frozen=True)
class Policy:
    """Some operations one after the other, each drawn from all.

    Args:
        operations: To draw from.
        number: How many an image goes through.
        strength: Strength of each, 0 to 30; None draws it.
    """

    operations: tuple[Operation, ...]
    number: int = 1
    strength: int | None = None

    def __call__(self, images: Tensor, generator: Draws = None) -> Tensor:
        """Put each image through operations of its own draws.

        Args:
            images: Values 0..255, uint8 or float, shape ``(b, C, H, W)``.
            generator: Source of the random draws.

        Returns:
            uint8, same shape.
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
    """A published policy for images of a kind.

    Args:
        name: ``"trivial"``: TrivialAugment wide, one operation of a strength drawn (Müller and Hutter 2021);
            ``"randaugment"``: two operations of strength 9 of 30 (Cubuk et al. 2020).
        spec: Specification of the images.
    """
    if name == "trivial":
        return Policy(operations(spec, wide=True))
    return Policy(operations(spec, wide=False), number=2, strength=9)
