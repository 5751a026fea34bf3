"""The networks of the studies, sized for a processor core: ``networks:resnet8``, ``networks:resnet8_group``."""

from torch import nn

from imbsam.inputs import ImageSpec
from imbsam.models.layers import Norm
from imbsam.models.resnet import ResNet


def resnet8(spec: ImageSpec, num_classes: int, *, norm: Norm = "batch") -> nn.Module:
    """A CIFAR ResNet of one block in each stage (He et al. 2016, n = 1), whose stem has stride 2."""
    model = ResNet(spec.channels, num_classes, widths=(16, 32, 64), depths=(1, 1, 1), projection=False, norm=norm)
    stem = nn.Conv2d(spec.channels, 16, 3, stride=2, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    model.stem = stem
    return model


def resnet8_group(spec: ImageSpec, num_classes: int) -> nn.Module:
    """The same with GroupNorm, under which the rows of a batch do not see each other."""
    return resnet8(spec, num_classes, norm="group")
