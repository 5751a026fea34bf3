"""Models for runs of several processes, by ``--model runs.rank_models:NAME``."""

import os

from torch import Tensor, nn

from imbsam.inputs import TableSpec


class Double(nn.Module):
    """Layers in float64 over the columns of a table: what is left between two ways to sum is 1e-16 of it."""

    def __init__(self, spec: TableSpec, num_classes: int, *between: nn.Module) -> None:
        super().__init__()
        columns = spec.numeric + len(spec.cardinalities)
        self.layers = nn.Sequential(nn.Linear(columns, 6), *between, nn.ReLU(), nn.Linear(6, num_classes)).double()

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows.double())


def plain(spec: TableSpec, *, num_classes: int) -> nn.Module:
    return Double(spec, num_classes)


def dropout(spec: TableSpec, *, num_classes: int) -> nn.Module:
    return Double(spec, num_classes, nn.Dropout(0.3))


def batch_norm(spec: TableSpec, *, num_classes: int) -> nn.Module:
    return Double(spec, num_classes, nn.BatchNorm1d(6))


class Broken(Double):
    """Fails on rank 1, in the middle of a step, once it has trained a little."""

    calls = 0

    def forward(self, rows: Tensor) -> Tensor:
        self.calls += self.training
        if self.calls > 9 and os.environ["RANK"] == "1":
            raise ZeroDivisionError("the model broke")
        return super().forward(rows)


def broken(spec: TableSpec, *, num_classes: int) -> nn.Module:
    return Broken(spec, num_classes)
