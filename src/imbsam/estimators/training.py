"""Training a model on rows in memory, with early stopping, and scoring rows with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim.lr_scheduler import LambdaLR

from imbsam import data
from imbsam.errors import NonFiniteError
from imbsam.inputs import TableSpec
from imbsam.losses import Deferred
from imbsam.notebook.progress import Progress
from imbsam.optim import SharpnessAware
from imbsam.training.schedule import factor, usual_warmup
from imbsam.training.step import train_step
from imbsam.training.threads import is_small, threads

SCORING_BLOCK = 16384
"""Number of rows forwarded at once."""


@dataclass(frozen=True)
class Course:
    """Settings of training a model.

    Args:
        epochs: Largest number of passes over the rows.
        batch_size: Rows per step.
        sampler: ``"shuffle"`` or ``"balanced"``, as in :func:`imbsam.data.batches`.
        schedule: Schedule of the learning rate, as in :func:`imbsam.training.schedule.factor`.
        clip_norm: Largest norm of the gradient.
        patience: Number of epochs without a better score after which training stops.
        seed: Seed of the order of the rows.
        first_epoch: Number of epochs made before; each epoch has an order of its own.
        verbose: Report each epoch.
    """

    epochs: int
    batch_size: int
    sampler: Literal["shuffle", "balanced"]
    schedule: Literal["cosine", "step", "constant"]
    clip_norm: float | None
    patience: int
    seed: int
    first_epoch: int = 0
    verbose: bool = False

    def batches(self, samples: data.Samples, epoch: int) -> data.Epoch:
        """Return the batches of an epoch, counted from 0."""
        return data.batches(
            samples,
            batch_size=self.batch_size,
            seed=self.seed,
            epoch=self.first_epoch + epoch,
            shuffle=True,
            transform=data.evaluation_transform(TableSpec(0, ())),
            sampler=self.sampler,
        )


@dataclass
class History:
    """History of training, epoch by epoch.

    Args:
        losses: Mean training loss of each epoch.
        scores: Validation score after each epoch; empty without early stopping.
        best_epoch: Epoch, from 1, whose weights the model has.
    """

    losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_epoch: int = 0


def train(
    model: nn.Module,
    criterion: nn.Module,
    make_optimizer: Callable[[int], SharpnessAware],
    samples: data.Samples,
    course: Course,
    *,
    score: Callable[[], float] | None = None,
) -> History:
    """Train a model in place; it ends with the weights of the best epoch, or without a score of the last.

    Args:
        model: Model on its device.
        criterion: Function that returns the loss of each row; it is told the epoch if it re-weights late.
        make_optimizer: Function from the number of steps to the optimizer.
        samples: Training rows.
        course: Settings of training.
        score: Function that returns the model's score on held-out rows, higher is better; among equal scores the later
            epoch is the best.

    Returns:
        History of training.

    Raises:
        NonFiniteError: If a loss or gradient became NaN or infinite.
    """
    with threads(1 if is_small(model, course.batch_size) else None):
        return _trained(model, criterion, make_optimizer, samples, course, score)


def _trained(
    model: nn.Module,
    criterion: nn.Module,
    make_optimizer: Callable[[int], SharpnessAware],
    samples: data.Samples,
    course: Course,
    score: Callable[[], float] | None,
) -> History:
    """Train with the number of threads that is set."""
    steps = len(course.batches(samples, 0))
    optimizer = make_optimizer(course.epochs * steps)
    warmup = usual_warmup(course.epochs)
    rate = LambdaLR(optimizer, factor(course.schedule, epochs=course.epochs, warmup=warmup, steps_per_epoch=steps))
    history, best, waited = History(), -float("inf"), 0
    kept: dict[str, Tensor] = {}
    with Progress(course.epochs, shown=course.verbose) as progress:
        for epoch in range(course.epochs):
            if isinstance(criterion, Deferred):
                criterion.set_epoch(epoch)
            history.losses.append(_epoch(model, criterion, optimizer, rate, samples, course, epoch))
            history.best_epoch = epoch + 1 if score is None else history.best_epoch
            if score is not None:
                history.scores.append(score())
                waited = 0 if history.scores[-1] > best else waited + 1
                if history.scores[-1] >= best:
                    best, history.best_epoch = history.scores[-1], epoch + 1
                    kept = {name: value.clone() for name, value in model.state_dict().items()}
            scored = f", validation {history.scores[-1]:.4f}" if history.scores else ""
            progress.tell(f"epoch {course.first_epoch + epoch + 1}: loss {history.losses[-1]:.4f}{scored}")
            if waited >= course.patience:
                break
    model.load_state_dict(kept or model.state_dict())
    return history


def _epoch(
    model: nn.Module,
    criterion: nn.Module,
    optimizer: SharpnessAware,
    rate: LambdaLR,
    samples: data.Samples,
    course: Course,
    epoch: int,
) -> float:
    """Train for an epoch, and return its mean loss."""
    device = next(model.parameters()).device
    model.train()
    losses = []
    for inputs, targets in course.batches(samples, epoch):
        try:
            loss, _ = train_step(model, criterion, optimizer, inputs.to(device), targets, clip_norm=course.clip_norm)
        except NonFiniteError as error:
            raise NonFiniteError(f"epoch {epoch + 1}: {error} Lower lr, or limit the gradient by clip_norm.") from None
        rate.step()
        losses.append(loss * len(targets))
    return float(torch.stack(losses).sum()) / len(samples)


@torch.no_grad()
def outputs_of(model: nn.Module, rows: Tensor, device: torch.device) -> Tensor:
    """Compute outputs for rows, in float64 so that those of one row do not depend on the rows beside it.

    Args:
        model: Model on any device, in any mode; it is not changed.
        rows: Rows, shape ``(N, F)``.
        device: Device that computes.

    Returns:
        Tensor of shape ``(N, C)``, on the CPU, float64 (float32 where the device has no other).
    """
    precision = torch.float32 if device.type == "mps" else torch.float64
    weights = {name: value.to(device, precision) for name, value in model.state_dict().items()}
    was_training = model.training
    model.eval()
    blocks = [
        functional_call(model, weights, block.to(device, precision)).cpu() for block in torch.split(rows, SCORING_BLOCK)
    ]
    model.train(was_training)
    return torch.cat(blocks)
