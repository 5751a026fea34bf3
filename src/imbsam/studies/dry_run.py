"""Before a long training: one step of the real model on a few real images, and what all of it will take."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from imbsam import data
from imbsam.optim import Plain
from imbsam.runs.cost import Cost, cost_of
from imbsam.studies.compare import PlannedRun
from imbsam.training import setup
from imbsam.training.random_numbers import own_random_numbers
from imbsam.training.step import train_step

ROWS = 4
"""Images of the step: half of the most frequent classes, half of the rarest."""

NUMBER = 4
"""Bytes of a float32."""


@dataclass(frozen=True)
class Speed:
    """How fast plain steps are.

    Args:
        samples_per_second: Training images.
        measured: On this machine, with :data:`ROWS` images; else it was given.
    """

    samples_per_second: float
    measured: bool


@dataclass(frozen=True)
class Forecast:
    """What one run of a method will take.

    Args:
        loss: Of the step that was made, at the unperturbed weights.
        cost: Of its steps beside plain ones.
        steps: Of the whole run.
        memory: Bytes of weights, gradients, the optimizer's buffers and the activations of a batch, at most.
        seconds: Of training, with validation after each epoch and the test at the end.
    """

    loss: float
    cost: Cost
    steps: int
    memory: int
    seconds: float


@dataclass(frozen=True)
class DryRun:
    """What was tried and found.

    Args:
        counts: Training images of each class, as they will be trained on.
        groups: Shot group of each class.
        validation: Validation images.
        test: Test images.
        shape: Of an image in the model.
        parameters: Of the model.
        kept: Bytes of activations that a forward of one image keeps for its backward.
        speed: Of plain steps.
        forecasts: By label.
        notes: On the data.
    """

    counts: tuple[int, ...]
    groups: tuple[str, ...]
    validation: int
    test: int
    shape: tuple[int, ...]
    parameters: int
    kept: int
    speed: Speed
    forecasts: dict[str, Forecast]
    notes: tuple[str, ...]


def dry_run(source: str, runs: Sequence[PlannedRun], *, samples_per_second: float | None = None) -> DryRun:
    """Make one step of each method on a few real images, and say what its run will take. Nothing is written.

    The activations are those that the real model keeps for a few images, counted by hooks; the work of the steps is
    counted on the true classes of the true batches (:func:`imbsam.runs.cost.cost_of`).

    Args:
        source: The data.
        runs: One of each method; they share model and data.
        samples_per_second: Of plain steps on the machine that will train; by default measured here.

    Raises:
        ImbsamError: If the data, an option or an image cannot be used, or a loss is NaN or infinite.
    """
    datasets: dict[object, data.Dataset] = {}
    problems = {}
    for run in runs:
        if run.options.data not in datasets:
            datasets[run.options.data] = setup.load_data(source, run.options, open_all=False)
        problems[run.label] = setup.problem_of(source, run.options, datasets[run.options.data])
    first = next(iter(problems.values()))
    with own_random_numbers(first.options.training.seed, first.device):
        x, y = _few(first)
        model = setup.build_model(first)
        kept = _kept(model, x) // len(x)
        speed = Speed(samples_per_second or _measured(model, x, y), measured=samples_per_second is None)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        del model
        forecasts = {
            label: _forecast(problem, x, y, parameters, kept, speed.samples_per_second)
            for label, problem in problems.items()
        }
    dataset = first.dataset
    return DryRun(
        counts=tuple(first.priors.counts.tolist()),
        groups=first.groups,
        validation=0 if dataset.validation is None else len(dataset.validation),
        test=0 if dataset.test is None else len(dataset.test),
        shape=tuple(x.shape[1:]),
        parameters=parameters,
        kept=kept,
        speed=speed,
        forecasts=forecasts,
        notes=dataset.notes,
    )


def _few(problem: setup.Problem) -> tuple[Tensor, Tensor]:
    """A few training images, augmented, of the most frequent and of the rarest classes."""
    train = problem.dataset.train
    order = problem.priors.counts[train.targets].argsort(descending=True, stable=True)
    rows = torch.cat([order[: ROWS // 2], order[-ROWS // 2 :]])
    options = problem.options
    augment = options.data.augment
    assert augment != "auto"
    transform = data.training_transform(problem.dataset.spec, augment)
    x = transform(train.batch(rows), torch.Generator().manual_seed(options.training.seed)).to(problem.device)
    x = x.contiguous(memory_format=torch.channels_last) if setup.channels_last(problem) else x
    return x, train.targets[rows]


def _kept(model: nn.Module, x: Tensor) -> int:
    """Bytes that a forward keeps for its backward, each storage once, the weights aside."""
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


def _measured(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """Images a second of a forward and a backward, after one that is not measured."""
    targets, weights = y.to(x.device), list(model.parameters())
    seconds = 0.0
    for _ in range(2):
        began = time.perf_counter()
        first, *_ = torch.autograd.grad(cross_entropy(model(x), targets), weights)
        # Waits for the device.
        float(first.sum())
        seconds = time.perf_counter() - began
    return len(x) / seconds


def _forecast(
    problem: setup.Problem, x: Tensor, y: Tensor, parameters: int, kept: int, samples_per_second: float
) -> Forecast:
    options, dataset = problem.options, problem.dataset
    rows, batch = len(dataset.train), setup.batch_size_of(options)
    epochs = setup.epochs_of(options)
    steps = ceil(rows / batch) * epochs
    model = setup.build_model(problem)
    criterion = setup.build_criterion(problem)
    optimizer = setup.build_optimizer(problem, model, total_steps=steps)
    loss, _ = train_step(model, criterion, optimizer, x, y)
    cost = cost_of(problem)
    # Weights, gradients and momentum; a perturbation keeps a copy of the weights and a gradient set aside.
    copies = 3 if isinstance(optimizer, Plain) else 5
    measured = 0 if dataset.validation is None else len(dataset.validation)
    tested = 0 if dataset.test is None else len(dataset.test)
    # A forward alone is a third of a step's work on a row.
    work = epochs * (rows * cost.ratio + measured / 3) + tested / 3
    return Forecast(
        loss=float(loss),
        cost=cost,
        steps=steps,
        memory=copies * parameters * NUMBER + batch * kept,
        seconds=work / samples_per_second,
    )
