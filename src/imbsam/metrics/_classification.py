"""Metrics of a classifier over all classes, for each class, and for many-, medium- and few-shot classes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from imbsam.errors import DataError, NonFiniteError
from imbsam.notebook.tables import SHOWN, Share, facts, folded
from imbsam.priors import SHOT_GROUPS

Measure = Literal["overall", "balanced", "many", "medium", "few", "tail", "macro_f1"]
MEASURES: tuple[Measure, ...] = ("overall", "balanced", "many", "medium", "few", "tail", "macro_f1")
"""Measures that are shares of correct answers, in the order in which they are shown."""

MEASURE_NAMES: dict[Measure, str] = {
    "overall": "overall accuracy",
    "balanced": "balanced accuracy",
    "many": "many-shot recall",
    "medium": "medium-shot recall",
    "few": "few-shot recall",
    "tail": "tail recall",
    "macro_f1": "macro F1",
}

CALIBRATION_BINS = 15
MAX_CONFUSION_CLASSES = 1000
"""Number of classes above which no confusion matrix is kept: as lists it would take gigabytes."""


@dataclass(frozen=True, repr=False)
class Metrics:
    """Metrics of one evaluation. Shares are in [0, 1], and None without a class or sample to measure them on.

    Args:
        samples: Number of samples N.
        log_loss: Mean cross-entropy of the logits, in nats; for a run, under the priors of its training rows.
        overall: Share of samples that are classified correctly (accuracy).
        balanced: Mean recall over the classes present in the targets.
        macro_f1: Mean F1 over the classes that occur in the targets or the predictions.
        many: Mean recall over the many-shot classes present in the targets.
        medium: Mean recall over the medium-shot classes present in the targets.
        few: Mean recall over the few-shot classes present in the targets.
        ece: Expected calibration error over 15 bins of equal width (Guo et al. 2017, eq. 3).
        per_class: Recall of each class, length C.
        confusion: Counts, C x C, with true classes as rows and predicted classes as columns; None above 1000 classes.
        tail: Mean recall over the tail classes present in the targets, those that a method protects; None if no tail
            was given.
    """

    samples: int
    log_loss: float
    overall: float
    balanced: float
    macro_f1: float
    many: float | None
    medium: float | None
    few: float | None
    ece: float
    per_class: tuple[float | None, ...]
    confusion: tuple[tuple[int, ...], ...] | None
    tail: float | None = None

    def of(self, measure: Measure) -> float | None:
        """Return one of the measures.

        Args:
            measure: Name of the measure, one of :data:`MEASURES`.
        """
        found: float | None = getattr(self, measure)
        return found

    def __repr__(self) -> str:
        shown = [f"{measure} {share}" for measure, share in self._shares().items()]
        return f"Metrics({self.samples} samples: {', '.join(shown)}, log_loss {self.log_loss:.4g})"

    def _shares(self) -> dict[Measure, Share]:
        """The measures that could be taken."""
        found = {measure: Share(self.of(measure)) for measure in MEASURES}
        return {measure: share for measure, share in found.items() if share.value is not None}

    def _repr_html_(self) -> str:
        """Tables for notebooks: the measures, and the recall of each class where that is asked for."""
        scores = facts(
            f"Scores on {self.samples:,} samples",
            [
                *((MEASURE_NAMES[measure], share) for measure, share in self._shares().items()),
                ("log loss", self.log_loss),
                ("expected calibration error", str(Share(self.ece))),
            ],
        )
        classes = [(f"class {c}", Share(recall)) for c, recall in enumerate(self.per_class)]
        name = "Recall of each class"
        if len(classes) > SHOWN:
            name = f"The {SHOWN} classes of lowest recall"
            measured = [row for row in classes if row[1].value is not None]
            classes = sorted(measured, key=lambda row: row[1].value or 0.0)[:SHOWN]
        return scores + folded(name, facts("", classes))


@dataclass(frozen=True)
class Confused:
    """Number of samples of one class that were predicted as another.

    Args:
        true: True class.
        predicted: Predicted class.
        taken: Number of samples of the true class that were predicted as the other.
        samples: Number of samples of the true class.
    """

    true: int
    predicted: int
    taken: int
    samples: int

    @property
    def share(self) -> float:
        """Share of the class's samples, in (0, 1]."""
        return self.taken / self.samples


def worst_confusions(confusion: Sequence[Sequence[int]], counts: Sequence[int], limit: int) -> list[Confused]:
    """List the rare classes that are most often predicted as a more frequent class.

    Args:
        confusion: Counts, C x C, with true classes as rows and predicted classes as columns.
        counts: Training samples of each class, length C.
        limit: Largest number of pairs to return.

    Returns:
        Pairs sorted by the share of the class, largest first; among equal shares the rarest class comes first.
    """
    pairs = [
        Confused(true, predicted, taken, sum(row))
        for true, row in enumerate(confusion)
        for predicted, taken in enumerate(row)
        if taken and counts[true] < counts[predicted]
    ]
    return sorted(pairs, key=lambda pair: (-pair.share, counts[pair.true], pair.true, pair.predicted))[:limit]


def classification(
    logits: Tensor,
    targets: Tensor,
    groups: Sequence[str],
    *,
    tail: Sequence[bool] | Tensor | None = None,
    scores: Tensor | None = None,
) -> Metrics:
    """Measure predictions against targets; ties go to the class with the lower index.

    Args:
        logits: Outputs of the model, shape ``(N, C)``, any floating dtype and device; log loss and calibration are
            those of their softmax.
        targets: True classes, shape ``(N,)``, integers in ``[0, C)``.
        groups: ``"many"``, ``"medium"`` or ``"few"`` for each class, length C: ``priors.shot_groups()``.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``; None to leave out their recall.
        scores: Scores, shape ``(N, C)``, of which the highest decides the class; by default the logits.

    Returns:
        The metrics.

    Raises:
        DataError: If there is no sample, shapes do not fit, or a target or a group is not allowed.
        NonFiniteError: If the loss of a sample is NaN or infinite.
    """
    logits, targets = logits.detach().cpu().double(), targets.detach().cpu().long()
    _check(logits, targets, groups)
    num_classes = logits.shape[1]
    losses = cross_entropy(logits, targets, reduction="none")
    if not losses.isfinite().all():
        row = int((~losses.isfinite()).nonzero()[0])
        raise NonFiniteError(f"the loss of sample {row} is {float(losses[row])}: its logits are not finite.")
    predictions = (logits if scores is None else scores.detach().cpu()).argmax(dim=1)
    recall = _recall(predictions, targets, num_classes)
    return Metrics(
        samples=len(targets),
        log_loss=float(losses.mean()),
        overall=float((predictions == targets).double().mean()),
        balanced=_mean(recall) or 0.0,
        macro_f1=_macro_f1(predictions, targets, num_classes),
        many=_mean(_of_group(recall, groups, "many")),
        medium=_mean(_of_group(recall, groups, "medium")),
        few=_mean(_of_group(recall, groups, "few")),
        ece=_expected_calibration_error(logits.softmax(dim=1), targets),
        per_class=tuple(recall),
        confusion=_confusion(predictions, targets, num_classes),
        tail=None if tail is None else _mean([value for value, is_tail in zip(recall, tail, strict=True) if is_tail]),
    )


def _check(logits: Tensor, targets: Tensor, groups: Sequence[str]) -> None:
    if logits.ndim != 2 or targets.shape != logits.shape[:1] or not len(targets):
        raise DataError(
            f"metrics need logits (N, C) and targets (N,), N > 0; got {tuple(logits.shape)} and {tuple(targets.shape)}."
        )
    num_classes = logits.shape[1]
    lowest, highest = int(targets.min()), int(targets.max())
    if lowest < 0 or highest >= num_classes:
        wrong = lowest if lowest < 0 else highest
        raise DataError(f"target {wrong} is outside the {num_classes} classes 0..{num_classes - 1} of the logits.")
    if len(groups) != num_classes or not set(groups) <= set(SHOT_GROUPS):
        raise DataError(
            f"groups must name one of {', '.join(SHOT_GROUPS)} for each of the {num_classes} classes; "
            f"got {len(groups)} names: {', '.join(sorted(set(groups)))}."
        )


def _recall(predictions: Tensor, targets: Tensor, num_classes: int) -> list[float | None]:
    present: list[int] = torch.bincount(targets, minlength=num_classes).tolist()
    right: list[int] = torch.bincount(targets[predictions == targets], minlength=num_classes).tolist()
    return [hits / samples if samples else None for hits, samples in zip(right, present, strict=True)]


def _macro_f1(predictions: Tensor, targets: Tensor, num_classes: int) -> float:
    right = torch.bincount(targets[predictions == targets], minlength=num_classes).double()
    named = torch.bincount(torch.cat([targets, predictions]), minlength=num_classes)
    # F1 = 2 TP / (2 TP + FP + FN): below the line each class is counted as a target and as a prediction.
    return float((2 * right / named)[named > 0].mean())


def _of_group(recall: Sequence[float | None], groups: Sequence[str], group: str) -> list[float | None]:
    return [value for value, its_group in zip(recall, groups, strict=True) if its_group == group]


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return sum(present) / len(present) if present else None


def _confusion(predictions: Tensor, targets: Tensor, num_classes: int) -> tuple[tuple[int, ...], ...] | None:
    if num_classes > MAX_CONFUSION_CLASSES:
        return None
    cells = torch.bincount(targets * num_classes + predictions, minlength=num_classes**2)
    return tuple(tuple(row) for row in cells.view(num_classes, num_classes).tolist())


def _expected_calibration_error(probabilities: Tensor, targets: Tensor) -> float:
    confidence, predictions = probabilities.max(dim=1)
    gap = confidence - (predictions == targets).double()
    # Bin m holds the confidences in ((m - 1) / M, m / M].
    bins = (confidence * CALIBRATION_BINS).ceil().long().clamp(1, CALIBRATION_BINS) - 1
    summed = torch.zeros(CALIBRATION_BINS, dtype=torch.double).index_add_(0, bins, gap)
    return float(summed.abs().sum()) / len(targets)
