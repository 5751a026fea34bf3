"""Low-rank adapters (Hu et al. 2022): a frozen layer with a trained low-rank product beside it."""

import torch
from torch import Tensor, nn

ALPHA = 8.0
"""Numerator of the product's scale, ALPHA / r, by which a larger rank does not make larger steps."""


class LoRALinear(nn.Module):
    """Linear layer ``W x + b + (alpha / r) B A x``; W and b are frozen, B starts at zero, and so the layer as the base.

    Args:
        base: Layer to adapt; its parameters are frozen.
        rank: r.
    """

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.in_features, self.out_features = base.in_features, base.out_features
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.down = nn.Linear(base.in_features, rank, bias=False, **like)
        self.up = nn.Linear(rank, base.out_features, bias=False, **like)
        nn.init.zeros_(self.up.weight)
        self.scale = ALPHA / rank

    @property
    def weight(self) -> Tensor:
        """``W + (alpha / r) B A``, for code such as torch's attention that reads the weight and skips the call."""
        return self.base.weight + self.scale * (self.up.weight @ self.down.weight)

    @property
    def bias(self) -> Tensor | None:
        """Bias of the layer."""
        return self.base.bias

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute the sum of the layer's output and the low-rank product."""
        added: Tensor = self.up(self.down(inputs))
        kept: Tensor = self.base(inputs)
        return torch.add(kept, added, alpha=self.scale)


class LoRAConv2d(nn.Module):
    """Convolution with a low-rank product beside it: A has its kernel and r channels, B is a 1 x 1 convolution.

    Args:
        base: Layer to adapt, with one group; its parameters are frozen.
        rank: r.
    """

    def __init__(self, base: nn.Conv2d, rank: int) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Conv2d(
            base.in_channels,
            rank,
            base.kernel_size,  # type: ignore[arg-type]
            stride=base.stride,  # type: ignore[arg-type]
            padding=base.padding,  # type: ignore[arg-type]
            dilation=base.dilation,  # type: ignore[arg-type]
            bias=False,
            padding_mode=base.padding_mode,
            device=base.weight.device,
            dtype=base.weight.dtype,
        )
        self.up = nn.Conv2d(rank, base.out_channels, 1, bias=False, device=base.weight.device, dtype=base.weight.dtype)
        nn.init.zeros_(self.up.weight)
        self.scale = ALPHA / rank

    @property
    def weight(self) -> Tensor:
        """``W + (alpha / r) B A``, for code that reads the weight."""
        product = self.up.weight.flatten(1) @ self.down.weight.flatten(1)
        return self.base.weight + self.scale * product.view_as(self.base.weight)

    @property
    def bias(self) -> Tensor | None:
        """Bias of the layer."""
        return self.base.bias

    def forward(self, maps: Tensor) -> Tensor:
        """Compute the sum of the layer's output and the low-rank product."""
        added: Tensor = self.up(self.down(maps))
        kept: Tensor = self.base(maps)
        return torch.add(kept, added, alpha=self.scale)


def add_adapters(model: nn.Module, rank: int, *, without: str) -> int:
    """Put an adapter beside each linear layer, or, if there is none, beside each convolution of one group.

    Args:
        model: Model to adapt; changed in place.
        rank: r, at most a layer's smaller side.
        without: Name of the layer without an adapter, the classifier.

    Returns:
        Number of adapters that were added.
    """
    others = [(name, layer) for name, layer in model.named_modules() if name != without]
    found: list[tuple[str, nn.Module]] = [(name, layer) for name, layer in others if isinstance(layer, nn.Linear)]
    found = found or [(name, layer) for name, layer in others if type(layer) is nn.Conv2d and layer.groups == 1]
    for name, layer in found:
        parent, _, attribute = name.rpartition(".")
        if isinstance(layer, nn.Linear):
            adapted: nn.Module = LoRALinear(layer, min(rank, layer.in_features, layer.out_features))
        else:
            assert isinstance(layer, nn.Conv2d)
            adapted = LoRAConv2d(layer, min(rank, layer.in_channels, layer.out_channels))
        setattr(model.get_submodule(parent), attribute, adapted)
    return len(found)
