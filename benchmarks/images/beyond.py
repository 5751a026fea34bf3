"""Changes of a run that go beyond the papers, tried while it trains: ``beyond=(name, value)`` of a configuration."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from imbsam.data import evaluation_transform
from imbsam.optim import Climbed, Gradient, Random, Rise, Slope
from imbsam.optim.ascent import Memory, global_norm
from imbsam.runs.loop import Training
from imbsam.runs.records import Result
from imbsam.training import setup
from imbsam.training.evaluation import outputs_of


class Change:
    """Changes nothing.

    Args:
        training: The run, before its first epoch.
        value: What a change goes by.
    """

    def __init__(self, training: Training, value: float = 0.0) -> None:
        self.training = training
        self.value = value

    def after_epoch(self) -> None:
        """Look at the run between two epochs."""

    def result(self, result: Result) -> Result:
        """What came out, given what would have come out."""
        return result


class ByGap(Change):
    """The tail are the classes whose validation loss is furthest above their training loss, as many as by the counts.

    Looked at anew after each epoch but the first ones, ``value`` of them.
    """

    def after_epoch(self) -> None:
        training = self.training
        if training.progress.epoch < self.value:
            return
        dataset, tail = training.problem.dataset, training.optimizer.tail
        gaps = self._losses(dataset.validation) - self._losses(dataset.train)
        training.optimizer.tail = torch.zeros_like(tail).scatter(0, gaps.topk(int(tail.sum())).indices, True)

    def _losses(self, samples: object) -> Tensor:
        problem = self.training.problem
        logits = outputs_of(self.training.bare, samples, problem.dataset.spec, problem.options)
        losses = cross_entropy(logits, samples.targets, reduction="none").double()
        # Every class has rows in either part, so that both give C numbers.
        return samples.targets.bincount(losses) / samples.targets.bincount()


class AsideByRise(Change):
    """As far as the ascent by rise, in a random direction: its control."""

    def __init__(self, training: Training, value: float) -> None:
        super().__init__(training, value)
        training.optimizer.ascent = Aside(value)


class Aside(Rise):
    """A random direction, as long as the rise makes the gradient's."""

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        norm = float(global_norm([g for slope in slopes for g in slope.grads]))
        lengths = [min(self.rise / norm, slope.rho) if norm else 0.0 for slope in slopes]
        Random().climb([replace(s, rho=length) for s, length in zip(slopes, lengths, strict=True)], memory)
        return Climbed(torch.tensor(norm))


class ClassifierLate(Change):
    """After this share of the epochs only the classifier is perturbed."""

    def __init__(self, training: Training, value: float) -> None:
        super().__init__(training, value)
        steps = len(training._batches(0)) * setup.epochs_of(training.problem.options)
        training.optimizer.ascent = OfTheClassifier(round(value * steps))


class OfTheClassifier(Gradient):
    """Along the classifier's gradient alone, from a step on."""

    def __init__(self, start: int) -> None:
        super().__init__()
        self.start, self.late = start, False

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        self.late = step >= self.start
        return True

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        for slope in slopes if self.late else ():
            for name, grad in zip(slope.names, slope.grads, strict=True):
                if not name.startswith("classifier"):
                    grad.zero_()
        return super().climb(slopes, memory)


class Averaged(Change):
    """The mean of the weights after each epoch of this last share, where validation prefers it to the best epoch."""

    def __init__(self, training: Training, value: float) -> None:
        super().__init__(training, value)
        self.kept: list[dict[str, Tensor]] = []

    def after_epoch(self) -> None:
        epochs = setup.epochs_of(self.training.problem.options)
        if self.training.progress.epoch > (1 - self.value) * epochs:
            self.kept.append({k: v.detach().clone() for k, v in self.training.bare.state_dict().items()})

    def result(self, result: Result) -> Result:
        training, problem = self.training, self.training.problem
        dataset, held = problem.dataset, {k: v.clone() for k, v in training.bare.state_dict().items()}
        mean = {
            k: torch.stack([each[k] for each in self.kept]).mean(dim=0) if v.is_floating_point() else v
            for k, v in self.kept[-1].items()
        }
        training.bare.load_state_dict(mean)
        rows = evaluation_transform(dataset.spec)(dataset.train.batch(torch.arange(len(dataset.train))))
        update_bn(rows.split(setup.batch_size_of(problem.options)), training.bare)
        scores = training._measure(dataset.validation)
        if scores.balanced >= training.progress.best_score:
            return replace(result, validation=scores, test=training._measure(dataset.test), best_epoch=0)
        training.bare.load_state_dict(held)
        return result


CHANGES: dict[str, Callable[..., Change]] = {
    "none": Change,
    "gap": ByGap,
    "aside": AsideByRise,
    "classifier": ClassifierLate,
    "averaged": Averaged,
}
