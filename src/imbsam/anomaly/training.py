"""Training one network on scaled rows: first an auto-encoder if the objective has one, then the objective."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from inspect import signature
from itertools import count
from math import prod
from typing import TypeVar

import torch
from torch import Tensor, nn

from imbsam.anomaly.batches import Batching, row_batches
from imbsam.anomaly.objective import Objective
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.scaling import ColumnScaling, fit_scaling
from imbsam.anomaly.settings import Settings
from imbsam.data.seeding import generator
from imbsam.optim import METHODS, SharpnessAware, create, options_of
from imbsam.priors import ClassPriors
from imbsam.training.random_numbers import own_random_numbers
from imbsam.training.step import train_step
from imbsam.training.threads import is_small, threads

Batch = TypeVar("Batch")

BLOCK, BLOCK_NUMBERS = 2**14, 2**20
"""Rows handled at once outside of training, and numbers in them: large enough to keep the cores busy, small enough for
their caches."""

BLOCK_PIXELS = 2**18
"""Number of pixels of the images processed at once outside of training; their features are tens of times larger."""

WEIGHTS, PLACES, DECODER, METHOD, PRETRAINING, TRAINING = range(6)
"""Streams of random numbers."""


@dataclass(frozen=True)
class Subset:
    """Training rows of one network, by their indices in a table that is not copied.

    Args:
        table: Rows, shape ``(N, columns)``, or images ``(N, channels, height, width)``.
        indices: Indices of the rows to use, shape ``(n,)``.
        kinds: Kinds of these rows, shape ``(n,)``.
        beside: Further columns of these rows that need no scaling, shape ``(n, more)``.
    """

    table: Tensor
    indices: Tensor
    kinds: Tensor
    beside: Tensor | None = None

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.table[self.indices[index]]

    def part(self, kept: Tensor) -> "Subset":
        """Return some of these rows, by a mask of shape ``(n,)``."""
        beside = None if self.beside is None else self.beside[kept]
        return Subset(self.table, self.indices[kept], self.kinds[kept], beside)

    def blocks(self) -> Iterator[Tensor]:
        """Yield all rows in blocks."""
        for part in torch.split(self.indices, block_rows(self.table.shape[1:])):
            yield self.table[part]


def trained(name: str, rows: Subset, settings: Settings, *, seed: int) -> tuple[Objective, ColumnScaling]:
    """Train an objective.

    Args:
        name: Name of the objective.
        rows: Training rows.
        settings: The options.
        seed: Seed of everything random; torch's global generator is not changed.

    Returns:
        The objective in evaluation mode, and the scaling of its rows.

    Raises:
        OptionError: If an option is unknown or out of range.
        NonFiniteError: If a loss or gradient became NaN or infinite.
    """
    options = settings.objective_options if name == settings.objective else {}
    objective = create_objective(name, rows.table.shape[1:], draw=generator(seed, WEIGHTS), **options)
    objective.to(settings.device, settings.dtype)
    scaling = fit_scaling(rows.blocks, settings.scaling or objective.scaling)
    return fitted(objective, scaling, rows, settings, seed=seed), scaling


def fitted(objective: Objective, scaling: ColumnScaling, rows: Subset, settings: Settings, *, seed: int) -> Objective:
    """Train an existing objective, and put it in evaluation mode.

    Args:
        objective: Objective with fresh weights.
        scaling: Scaling of its rows.
        rows: Training rows.
        settings: The options.
        seed: Seed of everything random; torch's global generator is not changed.

    Raises:
        OptionError: If an option is unknown or out of range.
        NonFiniteError: If a loss or gradient became NaN or infinite.
    """
    trainer = _Trainer(rows, scaling, settings, seed)
    # Some ascents draw from torch's global generator.
    is_table = rows.table.ndim == 2
    with (
        own_random_numbers(generator(seed, METHOD).initial_seed(), torch.device(settings.device)),
        threads(1 if is_table and is_small(objective, settings.batch_size) else None),
    ):
        auto_encoder = objective.pretraining(generator(seed, DECODER))
        if auto_encoder is not None:
            trainer.pretrain(auto_encoder, objective)
        with torch.no_grad():
            objective.eval()
            objective.begin(trainer, generator(seed, PLACES))
        trainer.train(objective)
    return objective.eval()


@dataclass(frozen=True)
class Scaled:
    """Training rows as a network sees them.

    Args:
        rows: Unscaled rows.
        scaling: Scaling of their columns.
        settings: Settings, which give device and precision.
    """

    rows: Subset
    scaling: ColumnScaling
    settings: Settings

    @property
    def kinds(self) -> Tensor:
        """Kind of each row, shape ``(N,)``."""
        return self.rows.kinds

    def take(self, index: Tensor) -> Tensor:
        """Return some rows, shape ``(n, *shape)``."""
        seen, beside = self.scaling(self.rows[index], self.settings.dtype), self.rows.beside
        if beside is not None:
            seen = torch.cat([seen, beside[index]], dim=-1)
        return seen.to(self.settings.device)

    def blocks(self) -> Iterator[Tensor]:
        """Yield all rows in blocks."""
        for block in torch.split(torch.arange(len(self.rows)), block_rows(self.rows.table.shape[1:])):
            yield self.take(block)


@dataclass(frozen=True)
class _Trainer(Scaled):
    seed: int

    def pretrain(self, auto_encoder: nn.Module, objective: Objective) -> None:
        settings = self.settings
        epochs = settings.epochs if settings.pretraining_epochs is None else settings.pretraining_epochs
        lr, weight_decay = base_options(objective, settings)
        optimizer = create("plain", auto_encoder, base="adam", lr=lr, weight_decay=weight_decay)
        batching = Batching(settings.batch_size)
        auto_encoder.train()
        for index, _ in self._until_the_end(epochs, PRETRAINING, lambda draw: row_batches(self.kinds, batching, draw)):
            train_step(auto_encoder, _errors, optimizer, self.take(index), torch.zeros_like(index))

    def train(self, objective: Objective) -> None:
        settings = self.settings
        batching = self._batching(objective)
        total = settings.steps
        if settings.epochs is not None:
            draw = generator(self.seed, TRAINING, 0)
            total = settings.epochs * sum(1 for _ in objective.batches(self.kinds, batching, draw))
        optimizer = make_method(objective, objective.counts(self.kinds), settings, total)
        objective.train()
        for (index, kinds), draw in self._until_the_end(
            settings.epochs, TRAINING, lambda draw: objective.batches(self.kinds, batching, draw)
        ):
            samples = objective.form(self.take(index), draw)
            train_step(objective, objective.losses, optimizer, samples, kinds)

    def _until_the_end(
        self, epochs: int | None, stream: int, batches: Callable[[torch.Generator], Iterator[Batch]]
    ) -> Iterator[tuple[Batch, torch.Generator]]:
        """Yield the batches of all epochs, or of ``steps`` steps, each with the source that its epoch draws from."""
        made = 0
        for epoch in count() if epochs is None else range(epochs):
            draw = generator(self.seed, stream, epoch)
            for batch in batches(draw):
                if epochs is None and made == self.settings.steps:
                    return
                yield batch, draw
                made += 1

    def _batching(self, objective: Objective) -> Batching:
        settings = self.settings
        if settings.anomalies_per_batch is not None:
            return Batching(settings.batch_size, settings.anomalies_per_batch)
        usual = objective.anomaly_share
        return Batching(settings.batch_size, max(1, round(usual * settings.batch_size)) if usual else 0)


def block_rows(shape: Sequence[int]) -> int:
    """Return how many rows of this shape to process at once outside of training."""
    numbers, pixels = shape[0], prod(shape[1:])
    return max(1, min(BLOCK, BLOCK_NUMBERS // numbers, BLOCK_PIXELS // pixels if len(shape) > 1 else BLOCK))


def _errors(errors: Tensor, _kinds: Tensor) -> Tensor:
    """Return the losses of an auto-encoder, which are its outputs."""
    return errors


def make_method(objective: Objective, counts: Tensor, settings: Settings, total_steps: int) -> SharpnessAware:
    """Put the chosen method over its base optimizer, with the labelled anomalies as the tail.

    Args:
        objective: Objective to train.
        counts: Samples of each kind, shape ``(len(objective.tail),)``.
        settings: The options.
        total_steps: Number of steps of the training.

    Raises:
        OptionError: If an option is unknown or out of range.
    """
    present = int(counts.nonzero().max()) + 1
    options: dict[str, object] = {}
    if "rho" in options_of(settings.method):
        if settings.rho is not None:
            options["rho"] = settings.rho
        elif not METHODS[settings.method].own_length:
            options["rho"] = objective.rho
    if not METHODS[settings.method].own_length and "ascent" in signature(METHODS[settings.method].kind).parameters:
        options["ascent"] = objective.ascent(settings.damping)
    options.update(settings.method_options)
    lr, weight_decay = base_options(objective, settings)
    make: Callable[..., SharpnessAware] = create
    return make(
        settings.method,
        objective,
        base=settings.base,
        priors=ClassPriors(counts[:present]),
        tail=torch.tensor(objective.tail[:present]),
        total_steps=total_steps,
        lr=lr,
        weight_decay=weight_decay,
        **options,
    )


def base_options(objective: Objective, settings: Settings) -> tuple[float, float]:
    """Return the learning rate and weight decay that the user gave, else the objective's own."""
    lr, weight_decay = settings.lr, settings.weight_decay
    return (
        objective.lr if lr is None else lr,
        objective.weight_decay if weight_decay is None else weight_decay,
    )
