"""The table of models, losses and batches that the optimizer's tests run through."""

import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from device.simulated import enter

WANTED = os.environ.get("IMBSAM_TEST_DEVICE", "cpu")
"""Where the cases' models and batches are to be: ``make gpu`` says cuda."""
MISSING = WANTED.startswith("cuda") and not torch.cuda.is_available()
DEVICE = enter() if WANTED == "simulated" else torch.device("cpu" if MISSING else WANTED)
"""Where they are; without CUDA on the CPU, and nothing runs."""
CLASSES = 5
TAIL = torch.tensor([False, False, False, True, True])

HEAD_AND_TAIL = torch.tensor([0, 3, 1, 2, 0, 4, 1])
NO_TAIL = torch.tensor([0, 1, 2, 2, 1, 0])
ONLY_TAIL = torch.tensor([3, 4, 4, 3, 3])
ONE_TAIL_ROW = torch.tensor([2, 0, 0, 1, 2, 1, 0, 2, 4, 1, 0])
BATCHES = (HEAD_AND_TAIL, NO_TAIL, ONE_TAIL_ROW, ONLY_TAIL, HEAD_AND_TAIL)
"""Targets of successive steps: sizes that are no powers of two, with and without head and tail."""

Loss = Callable[[Tensor, Tensor], Tensor]


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits, targets, reduction="none")


def adjusted_cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    log_priors = torch.tensor([0.4, 0.3, 0.2, 0.06, 0.04], dtype=logits.dtype, device=logits.device).log()
    return F.cross_entropy(logits + log_priors, targets, reduction="none")


def focal(logits: Tensor, targets: Tensor) -> Tensor:
    losses = F.cross_entropy(logits, targets, reduction="none")
    return (1 - (-losses).exp()) ** 2 * losses


def squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    return ((logits - F.one_hot(targets, CLASSES)) ** 2).mean(1)


def features(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Six numbers a row; the sign of the first tells the tail, so that models can route by it."""
    x = torch.randn(len(targets), 6, generator=generator, dtype=torch.float64)
    x[:, 0] = torch.where(TAIL[targets], 1.0, -1.0) * x[:, 0].abs()
    return x


def images(targets: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(len(targets), 1, 5, 5, generator=generator, dtype=torch.float64)


def tokens(targets: Tensor, generator: torch.Generator) -> Tensor:
    """Four words a row; the vocabulary of a row depends on its class, as in text."""
    return torch.randint(0, 6, (len(targets), 4), generator=generator) + 3 * targets[:, None]


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def group_norm_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.GELU(), nn.Flatten(), nn.Linear(16, 5)
    )


def batch_norm_cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 4, 2, bias=False),
        nn.BatchNorm2d(4, momentum=None),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def batch_norm_mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES))


def frozen_batch_norm() -> nn.Module:
    """BatchNorm in eval mode, as in fine-tuning: its statistics are constants, the rows do not see each other."""
    model = batch_norm_cnn()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()
            assert m.running_mean is not None
            assert m.running_var is not None
            m.running_mean.normal_()
            m.running_var.uniform_(0.5, 2.0)
    return model


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.classify = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        h = self.words(x)
        z = self.norm(h)
        return self.classify((h + self.attention(z, z, z, need_weights=False)[0]).mean(1))


class Words(nn.Module):
    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 6, sparse=sparse)
        self.classify = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.words(x).mean(1).tanh())


class Tied(nn.Module):
    """One matrix in two places, as input and output embeddings share theirs."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.second = nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.classify = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.second(self.first(x).tanh()).tanh())


class Routed(nn.Module):
    """Two experts: one sees only tail rows, the other only head rows; without rows it takes no part in the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.tail_expert = nn.Linear(6, CLASSES)
        self.head_expert = nn.Linear(6, CLASSES)
        self.common = nn.Linear(6, CLASSES)
        self.unused = nn.Parameter(torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        out = self.common(x)
        for expert, mine in ((self.tail_expert, x[:, 0] > 0), (self.head_expert, x[:, 0] <= 0)):
            rows = mine.nonzero().squeeze(1)
            if len(rows):
                out = out.index_add(0, rows, expert(x[rows]))
        return out


def frozen_layer() -> nn.Module:
    model = mlp()
    next(model.children()).requires_grad_(False)
    return model


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[Tensor, torch.Generator], Tensor] = features
    loss: Loss = cross_entropy
    coupled: bool = False
    """Whether the rows see each other: BatchNorm in training mode."""

    def model(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        torch.manual_seed(1)
        return self.build().to(DEVICE, dtype)

    def batch(self, targets: Tensor, seed: int = 0, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
        x = self.inputs(targets, torch.Generator().manual_seed(seed))
        return x.to(DEVICE, dtype if x.is_floating_point() else None), targets.to(DEVICE)

    def batches(self, dtype: torch.dtype = torch.float64) -> list[tuple[Tensor, Tensor]]:
        return [self.batch(targets, seed, dtype) for seed, targets in enumerate(BATCHES)]

    def __str__(self) -> str:
        return self.name


MLP = Case("mlp", mlp)
BATCH_NORM = Case("batch norm cnn", batch_norm_cnn, images, coupled=True)
EMBEDDING = Case("embedding", Words, tokens, squared_error)
TIED = Case("tied weights", Tied)
ROUTED = Case("routed experts", Routed)

CASES = (
    MLP,
    Case("group norm cnn", group_norm_cnn, images, focal),
    BATCH_NORM,
    Case("batch norm mlp", batch_norm_mlp, loss=adjusted_cross_entropy, coupled=True),
    Case("frozen batch norm", frozen_batch_norm, images),
    Case("attention", Attention, tokens, adjusted_cross_entropy),
    EMBEDDING,
    TIED,
    Case("frozen layer", frozen_layer),
    ROUTED,
)
COUPLED = tuple(case for case in CASES if case.coupled)
INDEPENDENT = tuple(case for case in CASES if not case.coupled)
