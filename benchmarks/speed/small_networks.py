"""Small networks with BatchNorm, for studies of many runs: ``--model small_networks:images`` or ``:table``."""

from torch import nn

from imbsam.inputs import ImageSpec, TableSpec
from imbsam.models.mlp import TableInputs


def images(spec: ImageSpec, num_classes: int) -> nn.Module:
    """Three convolutions, each with BatchNorm2d."""
    layers: list[nn.Module] = []
    channels = spec.channels
    for width in (16, 32, 64):
        layers += [nn.Conv2d(channels, width, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
        channels = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def table(spec: TableSpec, num_classes: int) -> nn.Module:
    """Two hidden layers, each with BatchNorm1d."""
    inputs = TableInputs(spec)
    layers: list[nn.Module] = [inputs]
    features = inputs.out_features
    for units in (128, 128):
        layers += [nn.Linear(features, units, bias=False), nn.BatchNorm1d(units), nn.ReLU()]
        features = units
    return nn.Sequential(*layers, nn.Linear(features, num_classes))
