"""A vision transformer of a few thousand weights, as ``--model models.tiny_vit:vit``, and one of torch's own layers."""

import torch
from torch import Tensor, nn

from imbsam.inputs import ImageSpec


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        x = x + self.proj(torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v)
        return x + self.outer(nn.functional.gelu(self.inner(self.norm2(x))))


class ViT(nn.Module):
    def __init__(self, spec: ImageSpec, num_classes: int, *, width: int = 16, patch: int = 4) -> None:
        super().__init__()
        self.patches = nn.Conv2d(spec.channels, width, patch, patch)
        self.places = nn.Parameter(0.1 * torch.randn(spec.height * spec.width // patch**2, width))
        self.blocks = nn.Sequential(Block(width), Block(width))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2) + self.places
        return self.head(self.norm(self.blocks(tokens)).mean(dim=1))


def vit(spec: ImageSpec, *, num_classes: int) -> nn.Module:
    return ViT(spec, num_classes)


def vit_of_photographs(spec: ImageSpec, *, num_classes: int) -> nn.Module:
    return ViT(spec, num_classes)


vit_of_photographs.pretrained_cfg = {"mean": (0.5, 0.4, 0.3), "std": (0.2, 0.25, 0.3), "input_size": (3, 12, 12)}
