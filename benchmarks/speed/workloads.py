"""The models and batches whose steps are timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imbsam import models
from imbsam.inputs import ImageSpec, TableSpec


@dataclass(frozen=True)
class Workload:
    """A model and the size of its batches.

    Args:
        title: For tables.
        model: Makes it, with fresh weights.
        shape: Of one row.
        batch: Rows.
        classes: Number of classes; the last one is the tail.
        lr: Of the base optimizer.
    """

    title: str
    model: Callable[[int], nn.Module]
    shape: tuple[int, ...]
    batch: int
    classes: int = 10
    lr: float = 0.01

    def batches(
        self, tail_rows: int, number: int, *, rows: int | None = None, seed: int = 0
    ) -> list[tuple[Tensor, Tensor]]:
        """Batches with exactly this many tail rows, at random places; of the workload's size unless told otherwise."""
        rows = self.batch if rows is None else rows
        draw = torch.Generator().manual_seed(seed)
        made = []
        for _ in range(number):
            x = torch.randn(rows, *self.shape, generator=draw)
            if len(self.shape) == 3:
                x = x.contiguous(memory_format=torch.channels_last)
            y = torch.randint(self.classes - 1, (rows,), generator=draw)
            y[torch.randperm(rows, generator=draw)[:tail_rows]] = self.classes - 1
            made.append((x, y))
        return made

    def tail(self) -> Tensor:
        """Mask over the classes."""
        return torch.arange(self.classes) == self.classes - 1


class ViT(nn.Module):
    """A small vision transformer: patches of 4x4 of a 32x32 image, mean over the tokens.

    Args:
        classes: Number of classes.
        depth: Blocks.
        width: Of a token.
        heads: Of the attention.
    """

    def __init__(self, classes: int, *, depth: int = 6, width: int = 192, heads: int = 3) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, 4, stride=4)
        self.places = nn.Parameter(torch.randn(64, width) * 0.02)
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, shape ``(B, classes)``."""
        tokens = self.patches(images).flatten(2).transpose(1, 2) + self.places
        logits: Tensor = self.classifier(self.blocks(tokens).mean(dim=1))
        return logits


IMAGE = ImageSpec(3, 32, 32, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
DIGIT = ImageSpec(1, 8, 8, (0.5,), (0.25,))


def _resnet(norm: str) -> Callable[[int], nn.Module]:
    return lambda classes: models.build("resnet32", IMAGE, num_classes=classes, norm=norm).to(
        memory_format=torch.channels_last
    )


def _mlp(classes: int) -> nn.Module:
    return models.build("mlp", TableSpec(30, ()), num_classes=classes, hidden=(256, 256, 256))


def _digits(classes: int) -> nn.Module:
    return models.build("mlp", DIGIT, num_classes=classes)


WORKLOADS = {
    "resnet32-gn": Workload("ResNet-32, GroupNorm", _resnet("group"), (3, 32, 32), 128),
    "resnet32-bn": Workload("ResNet-32, BatchNorm", _resnet("batch"), (3, 32, 32), 128),
    "vit": Workload("ViT, depth 6, width 192", ViT, (3, 32, 32), 64),
    "vit-100": Workload("ViT, 100 classes", ViT, (3, 32, 32), 64, classes=100),
    "vit-1000": Workload("ViT, 1,000 classes", ViT, (3, 32, 32), 64, classes=1000),
    "digits": Workload("Demo's network for digits", _digits, (1, 8, 8), 32),
    "mlp": Workload("MLP 3 x 256, 30 columns", _mlp, (30,), 256),
}
