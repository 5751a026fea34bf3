"""Residual networks: ResNet-20/32/44/56 and ResNet-18/34 for small images, ResNet-50 for photographs.

ReLU works in place: a normalisation before it keeps its input for the backward pass, not its output.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor, nn, relu_
from torch.nn.functional import pad

from imbsam.errors import OptionError
from imbsam.models.classifier import classifier_layer
from imbsam.models.layers import Norm, initialise, norm_layer

CIFAR_RESNETS = {"resnet20": 3, "resnet32": 5, "resnet44": 7, "resnet56": 9}
"""Number of blocks in each of the three stages of 16, 32 and 64 channels (He et al. 2016, section 4.2)."""

WIDE_STAGE_RESNETS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
"""Blocks in the four stages of 64, 128, 256 and 512 channels (He et al. 2016, table 1)."""

PHOTOGRAPH_RESNETS = {"resnet50": (3, 4, 6, 3)}
"""Bottlenecks in the four stages of 256, 512, 1024 and 2048 channels (He et al. 2016, table 1)."""

RESNETS = (*CIFAR_RESNETS, *WIDE_STAGE_RESNETS, *PHOTOGRAPH_RESNETS)

Stem = Literal["small", "photograph"]


class ResNet(nn.Module):
    """Residual network of basic blocks or of bottlenecks.

    Images ``(B, channels, H, W)`` give logits ``(B, num_classes)``. Each stage after the first halves the
    resolution; global average pooling takes any image size.

    Args:
        channels: Channels of the images.
        num_classes: Number of classes C.
        widths: Output channels of each stage.
        depths: Number of blocks of each stage.
        bottleneck: Use :class:`Bottleneck` blocks instead of :class:`BasicBlock`.
        stem: ``"small"`` for a 3 x 3 convolution of stride 1; ``"photograph"`` for a 7 x 7 convolution of stride 2 and
            max-pooling of stride 2, after which the first stage sees a quarter of the resolution.
        projection: Use 1 x 1 convolutions with normalisation as shortcuts between stages (option B of He et al. 2016),
            instead of every second pixel and zero channels, without parameters (option A).
        norm: Normalisation, ``"batch"`` or ``"group"``.
        cosine_classifier: End in a :class:`CosineClassifier`.
    """

    def __init__(
        self,
        channels: int,
        num_classes: int,
        *,
        widths: Sequence[int],
        depths: Sequence[int],
        projection: bool,
        bottleneck: bool = False,
        stem: Stem = "small",
        norm: Norm = "batch",
        cosine_classifier: bool = False,
    ) -> None:
        super().__init__()
        make_norm = norm_layer(norm)
        make_block = Bottleneck if bottleneck else BasicBlock
        before = inner_width(widths[0]) if bottleneck else widths[0]
        small = stem == "small"
        self.stem = nn.Conv2d(channels, before, *((3, 1, 1) if small else (7, 2, 3)), bias=False)
        self.stem_norm = make_norm(before)
        self.pool: nn.Module = nn.Identity() if small else nn.MaxPool2d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            for block in range(depth):
                stride = 2 if stage > 0 and block == 0 else 1
                blocks.append(make_block(before, width, stride=stride, projection=projection, make_norm=make_norm))
                before = width
        self.blocks = nn.Sequential(*blocks)
        self.classifier = classifier_layer(widths[-1], num_classes, cosine=cosine_classifier)
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, shape ``(B, num_classes)``."""
        maps: Tensor = self.blocks(self.pool(relu_(self.stem_norm(self.stem(images)))))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


class BasicBlock(nn.Module):
    """Block of two 3 x 3 convolutions and a shortcut (He et al. 2016, figure 5 left).

    Args:
        channels: Channels of the input.
        width: Channels of the output.
        stride: Stride of the first convolution and the shortcut.
        projection: Kind of the shortcut where shapes differ, see :class:`ResNet`.
        make_norm: Function from a number of channels to a normalisation layer.
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, projection: bool, make_norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = make_norm(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = make_norm(width)
        self.shortcut = shortcut(channels, width, stride=stride, projection=projection, make_norm=make_norm)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute feature maps, shape ``(B, width, H / stride, W / stride)``."""
        inner: Tensor = relu_(self.norm1(self.conv1(maps)))
        return relu_(self.norm2(self.conv2(inner)) + self.shortcut(maps))


class Bottleneck(nn.Module):
    """Block of 1 x 1, 3 x 3 and 1 x 1 convolutions and a shortcut (He et al. 2016, figure 5 right).

    The stride is that of the 3 x 3 convolution, as in torchvision and in all published long-tailed results; the paper
    has it in the first one.

    Args:
        channels: Channels of the input.
        width: Channels of the output, four times those inside.
        stride: Stride of the 3 x 3 convolution and the shortcut.
        projection: Kind of the shortcut where shapes differ, see :class:`ResNet`.
        make_norm: Function from a number of channels to a normalisation layer.
    """

    def __init__(
        self, channels: int, width: int, *, stride: int, projection: bool, make_norm: Callable[[int], nn.Module]
    ) -> None:
        super().__init__()
        inner = inner_width(width)
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.norm1 = make_norm(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride=stride, padding=1, bias=False)
        self.norm2 = make_norm(inner)
        self.conv3 = nn.Conv2d(inner, width, 1, bias=False)
        self.norm3 = make_norm(width)
        self.shortcut = shortcut(channels, width, stride=stride, projection=projection, make_norm=make_norm)

    def forward(self, maps: Tensor) -> Tensor:
        """Compute feature maps, shape ``(B, width, H / stride, W / stride)``."""
        inner: Tensor = relu_(self.norm1(self.conv1(maps)))
        inner = relu_(self.norm2(self.conv2(inner)))
        return relu_(self.norm3(self.conv3(inner)) + self.shortcut(maps))


def inner_width(width: int) -> int:
    """Return the number of channels inside a bottleneck with ``width`` output channels."""
    return max(1, width // 4)


def shortcut(
    channels: int, width: int, *, stride: int, projection: bool, make_norm: Callable[[int], nn.Module]
) -> nn.Module:
    """Make the shortcut of a block: the identity where shapes agree, else a projection or padding."""
    if stride == 1 and channels == width:
        return nn.Identity()
    if not projection:
        return PadShortcut(width - channels, stride)
    return nn.Sequential(nn.Conv2d(channels, width, 1, stride=stride, bias=False), make_norm(width))


class PadShortcut(nn.Module):
    """Shortcut that takes every ``stride``-th pixel and adds ``extra`` zero channels, half on each side (option A)."""

    def __init__(self, extra: int, stride: int) -> None:
        super().__init__()
        self.extra = extra
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        """Compute feature maps with ``extra`` more channels."""
        before = self.extra // 2
        return pad(maps[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, before, self.extra - before))


def resnet(
    name: str,
    channels: int,
    num_classes: int,
    *,
    width: float = 1.0,
    norm: Norm = "batch",
    cosine_classifier: bool = False,
) -> ResNet:
    """Make a residual network by its name.

    Args:
        name: One of :data:`RESNETS`.
        channels: Channels of the images.
        num_classes: Number of classes C.
        width: Factor on the channels of every stage, above 0.
        norm: Normalisation, ``"batch"`` or ``"group"``.
        cosine_classifier: End in a :class:`CosineClassifier`.

    Returns:
        The network, freshly initialised.

    Raises:
        OptionError: If ``width`` is not above 0 or ``norm`` is unknown.
    """
    if not (math.isfinite(width) and width > 0):
        raise OptionError(f"width must be a number above 0; got {width!r}.")
    stages, depths = _stages(name)
    return ResNet(
        channels,
        num_classes,
        widths=[max(1, round(width * stage)) for stage in stages],
        depths=depths,
        projection=name not in CIFAR_RESNETS,
        bottleneck=name in PHOTOGRAPH_RESNETS,
        stem="photograph" if name in PHOTOGRAPH_RESNETS else "small",
        norm=norm,
        cosine_classifier=cosine_classifier,
    )


def _stages(name: str) -> tuple[Sequence[int], Sequence[int]]:
    """Return the channels and the number of blocks of each stage."""
    if name in CIFAR_RESNETS:
        return (16, 32, 64), (CIFAR_RESNETS[name],) * 3
    if name in WIDE_STAGE_RESNETS:
        return (64, 128, 256, 512), WIDE_STAGE_RESNETS[name]
    return (256, 512, 1024, 2048), PHOTOGRAPH_RESNETS[name]
