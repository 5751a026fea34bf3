"""Dry run before a long training: one step of each method on real rows, and a forecast of the whole training."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import torch
from torch import Tensor, nn

from imbsam import data
from imbsam.config import MethodOptions, Options
from imbsam.optim import Plain
from imbsam.runs.cost import Cost, cost_of
from imbsam.studies.compare import PlannedRun
from imbsam.training import setup
from imbsam.training.evaluation import autocast
from imbsam.training.methods import base_of, check_network, checked_name
from imbsam.training.random_numbers import own_random_numbers
from imbsam.training.step import train_step
from imbsam.training.threads import threads

FEWEST = 4
"""Smallest number of rows of the step: half of them of the most frequent classes, half of the rarest."""

ACTIVATIONS = 2**28
"""Largest size in bytes of the activations of more rows, up to the run's batch."""

LONG_ENOUGH = 0.1
"""Seconds of plain steps that are measured, after one that is not."""

ASSUMED = (
    "Assumed: a run is its steps, each a plain step's work times its cost ratio (a backward counts as two forwards); "
    "a row that is only evaluated counts a third; decoding keeps up. Memory: weights, gradients and the base "
    "optimizer's buffers, two copies more where weights are perturbed, and the activations of one batch, counted on "
    "the real model; the data, the workspace of kernels and the driver's own (1 to 2 GiB on CUDA) come on top."
)
"""Assumptions of a forecast."""


@dataclass(frozen=True)
class Network:
    """Model of a run, tried on real rows.

    Args:
        rows: Number of rows it was tried on.
        shape: Shape of a row.
        parameters: Number of parameters.
        kept: Size in bytes of the activations that a forward of one row keeps for its backward.
        samples_per_second: Training rows per second of plain steps.
        measured: Whether this speed was measured here; else it was given.
    """

    rows: int
    shape: tuple[int, ...]
    parameters: int
    kept: int
    samples_per_second: float
    measured: bool


@dataclass(frozen=True)
class Forecast:
    """Forecast of one run of a method.

    Args:
        loss: Loss of the step that was made, at the unperturbed weights.
        network: Network that was tried.
        cost: Cost of its steps relative to plain ones.
        steps: Number of steps of the whole run.
        memory: Largest size in bytes of weights, gradients, the optimizer's buffers and the activations of a batch.
        seconds: Time of training in seconds, with validation after each epoch and the test at the end.
    """

    loss: float
    network: Network
    cost: Cost
    steps: int
    memory: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """Result of a dry run.

    Args:
        counts: Training rows of each class, as they will be used.
        groups: Shot group of each class.
        validation: Number of validation rows.
        test: Number of test rows.
        forecasts: Forecasts by label.
        notes: Notes on the data.
    """

    counts: tuple[int, ...]
    groups: tuple[str, ...]
    validation: int
    test: int
    forecasts: dict[str, Forecast]
    notes: tuple[str, ...]


def dry_run(
    source: str, runs: Sequence[PlannedRun], *, samples_per_second: float | None = None, open_all: bool = True
) -> DryRun:
    """Read and check the data, make one step of each method on real rows, and forecast its run.

    Nothing is written. The activations are those that the real model keeps, counted by hooks; the work of the steps is
    counted on the true classes of the true batches (:func:`imbsam.runs.cost.cost_of`).

    Args:
        source: The data.
        runs: One run of each method.
        samples_per_second: Samples per second of plain steps on the machine that will train; by default measured here.
        open_all: Open every image file, as a run does, instead of only those of the step; see :func:`imbsam.data.load`.

    Raises:
        ImbsamError: If the data, an option or a sample cannot be used, or a loss is NaN or infinite.
    """
    for run in runs:
        check_network(checked_name(run.options.method.method), "--dry-run")
    datasets: dict[object, data.Dataset] = {}
    problems = {}
    with warnings.catch_warnings():
        # The data's notes say the same.
        warnings.simplefilter("ignore")
        for run in runs:
            # A pretrained model says how its images are read.
            model = run.options.model if run.options.model.finetune else None
            key = (run.options.data, run.options.training.seed, model)
            if key not in datasets:
                datasets[key] = setup.load_data(source, run.options, open_all=open_all)
            problem = problems[run.label] = setup.problem_of(source, run.options, datasets[key])
            check_network(problem.options.method.method, "--dry-run")
    first = next(iter(problems.values()))
    networks: dict[Options, Network] = {}
    forecasts = {}
    with own_random_numbers(first.options.training.seed, first.device), threads(first.options.training.threads):
        for label, problem in problems.items():
            plain = _plain(problem)
            if plain.options not in networks:
                networks[plain.options] = _tried(plain, samples_per_second)
            forecasts[label] = _forecast(problem, networks[plain.options])
    return DryRun(
        counts=tuple(first.priors.counts.tolist()),
        groups=first.groups,
        validation=_size(first.dataset.validation),
        test=_size(first.dataset.test),
        forecasts=forecasts,
        notes=first.dataset.notes,
    )


def _size(samples: data.Samples | None) -> int:
    return 0 if samples is None else len(samples)


def _plain(problem: setup.Problem) -> setup.Problem:
    """Return the same problem under its base optimizer alone, with steps too short to change anything."""
    options = problem.options
    base = MethodOptions(method=base_of(options.method), rho=0.0)
    return replace(problem, options=replace(options, method=base, training=replace(options.training, lr=1e-12)))


def _some(problem: setup.Problem, number: int) -> tuple[Tensor, Tensor]:
    """Return training rows, augmented, of the most frequent and of the rarest classes."""
    train = problem.dataset.train
    order = problem.priors.counts[train.targets].argsort(descending=True, stable=True)
    rows = torch.cat([order[: number - number // 2], order[len(order) - number // 2 :]])
    draws = torch.Generator().manual_seed(problem.options.training.seed)
    x = setup.augmentation_of(problem)(train.batch(rows), draws).to(problem.device)
    x = x.contiguous(memory_format=torch.channels_last) if setup.channels_last(problem) else x
    return x, train.targets[rows]


def _tried(problem: setup.Problem, samples_per_second: float | None) -> Network:
    """Forward a few rows, then time plain steps on as many as the batch has or as little memory holds."""
    model = setup.build_model(problem)
    most = min(setup.batch_size_of(problem.options), len(problem.dataset.train))
    few, _ = _some(problem, min(FEWEST, most))
    with autocast(problem.device, problem.options):
        # Of the difference: what does not grow with the rows is kept once.
        half = len(few) // 2
        kept = (_kept(model, few) - _kept(model, few[:half])) // (len(few) - half)
    rows = min(most, max(FEWEST, ACTIVATIONS // max(kept, 1)))
    return Network(
        rows=rows,
        shape=tuple(few.shape[1:]),
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        kept=kept,
        samples_per_second=samples_per_second or _measured(problem, rows),
        measured=samples_per_second is None,
    )


def _kept(model: nn.Module, x: Tensor) -> int:
    """Return the bytes that a forward keeps for its backward, each storage once, without the weights."""
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    found: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        # Until it returns everything that was kept is alive, so that no address stands for two storages.
        model(x)
    return sum(found.values())


def _measured(problem: setup.Problem, rows: int) -> float:
    """Return rows per second of plain steps, after one step that is not measured."""
    step = _Step(problem, rows)
    with threads(setup.threads_of(problem, step.model)):
        step.make()
        began, made = time.perf_counter(), 0
        while not made or time.perf_counter() - began < LONG_ENOUGH:
            # Gives a number, so that the device was waited for.
            step.make()
            made += 1
        return made * rows / (time.perf_counter() - began)


class _Step:
    """Model, loss and optimizer of a run, and some of its rows.

    Args:
        problem: Data and options of the run.
        rows: Number of rows.
    """

    def __init__(self, problem: setup.Problem, rows: int) -> None:
        self.options, self.device = problem.options, problem.device
        self.x, self.y = _some(problem, rows)
        steps = ceil(setup.epoch_rows(problem) / setup.batch_size_of(self.options))
        self.steps = steps * setup.epochs_of(self.options)
        self.model = setup.build_model(problem)
        self.criterion = setup.build_criterion(problem)
        self.optimizer = setup.build_optimizer(problem, self.model, total_steps=self.steps)

    def make(self) -> float:
        """Make a step, and return its loss."""
        loss, _ = train_step(
            self.model,
            self.criterion,
            self.optimizer,
            self.x,
            self.y,
            precision=autocast(self.device, self.options),
            clip_norm=self.options.training.clip_norm,
        )
        return float(loss)

    def memory(self) -> int:
        """Return the bytes of weights, their average, gradients and the optimizer's state after a step."""
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        buffers = sum(
            value.nbytes
            for state in self.optimizer.state.values()
            for value in state.values()
            if isinstance(value, Tensor)
        )
        buffers += weights * (self.options.training.average != "none")
        # A perturbation keeps a copy of the weights, and a gradient set aside.
        return buffers + weights * (2 if isinstance(self.optimizer, Plain) else 4)


def _forecast(problem: setup.Problem, network: Network) -> Forecast:
    step = _Step(problem, network.rows)
    loss = step.make()
    cost = cost_of(problem)
    dataset, epochs = problem.dataset, setup.epochs_of(problem.options)
    # A forward alone is a third of a step's work on a row.
    work = epochs * (setup.epoch_rows(problem) * cost.ratio + _size(dataset.validation) / 3) + _size(dataset.test) / 3
    return Forecast(
        loss=loss,
        network=network,
        cost=cost,
        steps=step.steps,
        memory=step.memory() + setup.batch_size_of(problem.options) * network.kept,
        seconds=work / network.samples_per_second,
    )
