"""Records that a run writes and others read: its data, each epoch, its result, images of its worst confusions."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import AfterValidator

from imbsam.config import Options
from imbsam.decisions import UNCALIBRATED, Calibration
from imbsam.metrics import Metrics
from imbsam.notebook.tables import SHOWN, facts
from imbsam.priors import ShotGroup
from imbsam.storage.records import Text
from imbsam.training.second_stage import SecondStage
from imbsam.training.setup import Problem

Split = Literal["test", "validation"]


def _base64(text: str) -> str:
    base64.b64decode(text, validate=True)
    return text


@dataclass(frozen=True)
class DataRecord:
    """Content of ``data.json``: what later commands need to know about the data; lists over classes have one length.

    Args:
        name: Name of the data set.
        classes: Names of the classes, unchanged.
        counts: Training samples of each class.
        groups: Shot group of each class.
        tail: Whether each class is tail.
        notes: Sentences that say what was done to the data.
        preprocess: Everything needed to read further data in the same way.
        asked: Options as the user gave them, before the open ones were filled in.
    """

    name: str
    classes: tuple[str, ...]
    counts: tuple[int, ...]
    groups: tuple[ShotGroup, ...]
    tail: tuple[bool, ...]
    notes: tuple[str, ...]
    preprocess: Mapping[str, object]
    asked: Mapping[str, object]

    def __post_init__(self) -> None:
        lengths = {"counts": len(self.counts), "groups": len(self.groups), "tail": len(self.tail)}
        _check_lengths(len(self.classes), lengths)

    @classmethod
    def of(cls, problem: Problem, asked: Options) -> "DataRecord":
        """Describe the data of a run."""
        return cls(
            name=problem.dataset.name,
            classes=tuple(problem.dataset.classes),
            counts=tuple(problem.priors.counts.tolist()),
            groups=problem.groups,
            tail=tuple(problem.tail.tolist()),
            notes=tuple(problem.dataset.notes),
            preprocess=dict(problem.dataset.preprocess),
            asked=asked.flat(),
        )


@dataclass(frozen=True)
class EpochRecord:
    """Line of ``metrics.jsonl``.

    Args:
        epoch: Number of the epoch, from 1.
        epochs: Number of epochs of the run.
        lr: Learning rate of its first step.
        rho: Neighbourhood size of its first step.
        train_loss: Mean loss of the training rows during training.
        skipped: Number of steps skipped since the start of the run.
        seconds: Time in seconds, including evaluation.
        validation: Scores on the validation data, without the confusion matrix; None if there are no such data.
        tail_recall: Recall of the tail on its training samples, where the start of the perturbation depends on it; else
            None.
    """

    epoch: int
    epochs: int
    lr: float
    rho: float
    train_loss: float
    skipped: int
    seconds: float
    validation: Metrics | None
    tail_recall: float | None = None


@dataclass(frozen=True)
class Read:
    """Calibration and thresholds learned from validation data.

    Args:
        calibration: Calibration of the evidence.
        weights: Addend of each class's score by which it reaches its goal, length C; empty without goals.
        prices: Sentences that say what each class with a goal reaches, and what the others pay.
    """

    calibration: Calibration = UNCALIBRATED
    weights: tuple[float, ...] = ()
    prices: tuple[Text, ...] = ()


@dataclass(frozen=True)
class BlendMember:
    """Classifier of a blend.

    Args:
        name: Name that the user gave.
        share: Share of all weights, from 0 to 1.
        score: Its own balanced accuracy on training rows that it was not trained on; None without such rows.
    """

    name: Text
    share: float
    score: float | None


@dataclass(frozen=True, repr=False)
class Result:
    """Content of ``result.json``: the outcome of a finished run; lists over classes have one length.

    Args:
        schema: Schema of the file.
        name: Name of the folder.
        method: Name of the method.
        label: Name of the variant in reports.
        seed: Seed of everything random.
        source: The data.
        config: Every option as it was used.
        classes: Names of the classes.
        counts: Training samples of each class.
        groups: Shot group of each class.
        tail: Whether each class is tail.
        notes: Sentences on data and training.
        best_epoch: Epoch whose weights are kept, from 1.
        epochs: Number of epochs trained.
        test: Scores on the test data; None if there are none.
        validation: Scores on the validation data; None if there are none.
        train_seconds: Number of epochs times the median time of one, in seconds.
        rows_forward: Number of rows forwarded in all passes.
        cost_ratio: Rows forwarded for each row trained on; None if no row was.
        versions: Versions of the packages in use.
        device: Device that computed.
        finished: Time of the end, ISO 8601.
        likeliest: Scores on the test data, else the validation data, if each sample were given its most probable class
            with class priors as in training; the comparison shows what other decisions gain and pay.
        read: Calibration and thresholds.
        members: Members of a blend.
        second_stage: Second stage that retrained the classifier; epochs and seconds are then those of that stage.
    """

    schema: Literal[1]
    name: Text
    method: Text
    label: Text
    seed: int
    source: Text
    config: Mapping[Text, object]
    classes: tuple[Text, ...]
    counts: tuple[int, ...]
    groups: tuple[ShotGroup, ...]
    tail: tuple[bool, ...]
    notes: tuple[Text, ...]
    best_epoch: int | None
    epochs: int
    test: Metrics | None
    validation: Metrics | None
    train_seconds: float
    rows_forward: int
    cost_ratio: float | None
    versions: Mapping[Text, Text]
    device: Text
    finished: Text
    likeliest: Metrics | None = None
    read: Read = field(default_factory=Read)
    members: tuple[BlendMember, ...] = ()
    second_stage: SecondStage | None = None

    def __post_init__(self) -> None:
        lengths = {"counts": len(self.counts), "groups": len(self.groups), "tail": len(self.tail)}
        for split, metrics in (("test", self.test), ("validation", self.validation), ("likeliest", self.likeliest)):
            if metrics is not None:
                lengths[f"{split}.per_class"] = len(metrics.per_class)
                if metrics.confusion is not None:
                    lengths[f"{split}.confusion"] = len(metrics.confusion)
                    lengths.update({f"{split}.confusion[{i}]": len(row) for i, row in enumerate(metrics.confusion)})
        if self.read.weights:
            lengths["read.weights"] = len(self.read.weights)
        _check_lengths(len(self.classes), lengths)

    def scores(self, split: Split) -> Metrics | None:
        """Return the scores on one set, None if the run was not evaluated on it."""
        return self.test if split == "test" else self.validation

    def __repr__(self) -> str:
        scored = f"test {self.test}" if self.test else f"validation {self.validation}"
        return f"Result({self.label} on {self.source}, seed {self.seed}, {self.epochs} epochs: {scored})"

    def _repr_html_(self) -> str:
        """Tables for notebooks: what was trained, and its scores on test data, else on validation data."""
        tail = [name for name, is_tail in zip(self.classes, self.tail, strict=True) if is_tail]
        kept = "" if self.best_epoch is None else f", the weights of epoch {self.best_epoch} kept"
        run = facts(
            f"{self.label} on {self.source}, seed {self.seed}",
            [
                ("training", f"{self.epochs} epochs in {self.train_seconds:.1f} s{kept}"),
                ("training samples", f"{sum(self.counts):,} of {len(self.classes)} classes"),
                ("tail classes", f"{len(tail)}: {', '.join(tail[:SHOWN])}{', ...' if len(tail) > SHOWN else ''}"),
                ("scores", "on test data" if self.test else "on validation data"),
            ],
        )
        scored = self.test or self.validation
        return run if scored is None else run + scored._repr_html_()


def _check_lengths(classes: int, lengths: Mapping[str, int]) -> None:
    for name, length in lengths.items():
        if length != classes:
            raise ValueError(f"{name} has {length} entries for {classes} classes")


@dataclass(frozen=True)
class Example:
    """Image that was predicted as another class.

    Args:
        name: Name of the sample.
        probability: Probability that the model gave the wrong class.
        png: The image, in base64.
    """

    name: Text
    probability: float
    png: Annotated[str, AfterValidator(_base64)]


@dataclass(frozen=True)
class ConfusedPair:
    """Images of one class that were predicted as another.

    Args:
        true: Index of the true class.
        predicted: Index of the predicted class.
        images: Images for which the model was most confident.
    """

    true: int
    predicted: int
    images: tuple[Example, ...]


@dataclass(frozen=True)
class Examples:
    """Content of ``examples.json``: images of the worst confusions.

    Args:
        schema: Schema of the file.
        split: Part of the data that they come from.
        confused: Pairs of classes, the worst pair first.
    """

    schema: Literal[1]
    split: Split
    confused: tuple[ConfusedPair, ...]
