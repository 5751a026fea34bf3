"""Cost of a method's steps relative to plain ones, counted on the run's own batches before training."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from imbsam import data
from imbsam.config import Options
from imbsam.inputs import ImageSpec
from imbsam.training import setup
from imbsam.training.methods import LAYERS, check_network, usual_method
from imbsam.training.random_numbers import own_random_numbers

STEPS = 200
"""Number of steps that are counted, or all steps of a run with fewer."""

CLASSIFIER = "classifier"
"""Name of the small model's last layer."""


@dataclass(frozen=True)
class Cost:
    """Work of the steps of a run, in units of a plain step's.

    Args:
        forwards: Number of rows forwarded for each row of a batch.
        backwards: Number of rows backpropagated for each row of a batch.
        tail_share: Share of tail rows; a mixed row counts by its membership.
        with_tail: Share of the batches with a tail row.
        batch_size: Rows of a batch.
        couples_rows: Whether the model has BatchNorm, whose passes need context.
        waits: Whether the weights are perturbed only once the tail is learned, which is taken to be as early as
            possible.
    """

    forwards: float
    backwards: float
    tail_share: float
    with_tail: float
    batch_size: int
    couples_rows: bool
    waits: bool

    @property
    def ratio(self) -> float:
        """Forward-backwards per forward-backward of a plain step, where a backward counts as two forwards."""
        return (self.forwards + 2 * self.backwards) / 3


def expected_cost(source: str, options: Options) -> Cost:
    """Count the rows that the passes of a run will forward and backpropagate.

    The method makes its steps on the real classes of the real batches, with a small model in place of the real one: the
    plan of a step depends on the classes, and on whether the model has BatchNorm. Fixed costs of a call are not
    included; they matter where a step takes a few milliseconds.

    Args:
        source: Data, as for ``imbsam train``.
        options: Options of the run.

    Raises:
        ImbsamError: If the data or an option cannot be used.
    """
    check_network(options.method.method, "cost")
    return cost_of(setup.load_problem(source, usual_method(options, is_table=False)))


def cost_of(problem: setup.Problem) -> Cost:
    """Count the rows that the passes of a run will forward and backpropagate, see :func:`expected_cost`.

    Args:
        problem: Data and options of the run; only the classes of the training samples are used.
    """
    modules = setup.build_model(problem).modules()
    # Those that are frozen do not see the batch.
    layers = [m for m in modules if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    seed, size = problem.options.training.seed, setup.batch_size_of(problem.options)
    rows = forwarded = backward = with_tail = 0
    in_tail = 0.0
    with own_random_numbers(seed, torch.device("cpu")):
        model = nn.Sequential(*_features(layers))
        model.add_module(CLASSIFIER, nn.Linear(2, len(problem.dataset.classes)))
        each_epoch = len(_epoch(problem, 0))
        epochs = min(setup.epochs_of(problem.options), max(1, STEPS // each_epoch))
        steps = min(STEPS, epochs * each_epoch)
        optimizer = setup.build_optimizer(_of_its_layers(problem), model, total_steps=steps)
        for _, y in islice(chain.from_iterable(_epoch(problem, epoch) for epoch in range(epochs)), steps):
            ones = torch.ones(len(y), 1)
            with optimizer.passes(y) as passes:
                for each in passes:
                    each.backward(cross_entropy(model(ones[each.rows]), y[each.rows], reduction="none"))
                    forwarded += len(each.rows)
                    backward += len(each.rows) * each.backwards
            optimizer.step()
            # The stand-in's losses mean nothing; where they lead must not matter.
            model.apply(_reset)
            rows += len(y)
            shares = problem.tail[y].double() if y.ndim == 1 else y[:, problem.tail].sum(1).double()
            in_tail += float(shares.sum())
            with_tail += bool(shares.any())
    waits = bool(problem.options.method.sharp_recall)
    return Cost(forwarded / rows, backward / rows, in_tail / rows, with_tail / steps, size, bool(layers), waits)


def _of_its_layers(problem: setup.Problem) -> setup.Problem:
    """Return the problem with options that name layers of the small model, where they name layers of the real one."""
    pairs = problem.options.method.method_options
    named = [f"{name}={CLASSIFIER}" if (name := pair.partition("=")[0]) in LAYERS else pair for pair in pairs]
    return replace(problem, options=problem.options.updated({"perturb": "all", "method_options": named}))


def _epoch(problem: setup.Problem, number: int) -> data.Epoch:
    """Yield the classes of the run's batches, with ones for samples; mixed images have their real size."""
    targets, chosen, spec = problem.dataset.train.targets, problem.options.data, problem.dataset.spec
    assert chosen.sampler != "auto"
    mixing = setup.mixing_of(problem, number)
    shape = (spec.height, spec.width) if mixing is not None and isinstance(spec, ImageSpec) else ()
    return data.batches(
        data.TensorSamples(torch.ones(()).expand(len(targets), 1, *shape), targets, [""] * len(targets)),
        batch_size=setup.batch_size_of(problem.options),
        seed=problem.options.training.seed,
        epoch=number,
        shuffle=True,
        transform=lambda values, draw: values,
        sampler=chosen.sampler,
        tail=problem.tail,
        tail_rows=chosen.tail_rows,
        repeat_threshold=chosen.repeat_threshold,
        mixing=mixing,
    )


def _features(layers: Sequence[nn.Module]) -> list[nn.Module]:
    """Return the first layers of the small model: the number of context rows depends on a BatchNorm's dimensions."""
    if not layers:
        return [nn.Linear(1, 2)]
    if all(isinstance(layer, nn.BatchNorm2d | nn.BatchNorm3d) for layer in layers):
        return [nn.Linear(1, 2), nn.Unflatten(1, (2, 1, 1)), nn.BatchNorm2d(2), nn.Flatten()]
    return [nn.Linear(1, 2), nn.BatchNorm1d(2)]


def _reset(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        module.reset_parameters()
