"""Outcome of a run: the kept model evaluated on validation and test data, and a summary."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version

from torch import nn

from imbsam import data
from imbsam.decisions import Posterior
from imbsam.metrics import Metrics
from imbsam.runs.examples import confused_examples
from imbsam.runs.folder import RunFolder
from imbsam.runs.reading import Outputs, check_wanted, learnt_reading, measured, measured_likeliest, with_weights
from imbsam.runs.records import BlendMember, DataRecord, Examples, Read, Result, Split
from imbsam.storage.records import SCHEMA
from imbsam.training.evaluation import outputs_of, posterior_of
from imbsam.training.methods import BLENDS
from imbsam.training.second_stage import SecondStage
from imbsam.training.setup import Problem

UNREAD = Read()

LEARNT = 0.5
"""Share of the other classes' recall from which the tail counts as learned."""


@dataclass(frozen=True)
class Made:
    """Result of training.

    Args:
        best_epoch: Epoch whose weights are kept, from 1; 0 without epochs.
        epochs: Number of epochs trained.
        seconds: Time of training in seconds.
        rows: Number of rows trained on.
        rows_forward: Number of rows forwarded for them; 0 where nothing is forwarded.
        notes: Sentences to report.
        members: Members of a blend.
        second: Second stage that retrained the classifier; None without one.
    """

    best_epoch: int
    epochs: int
    seconds: float
    rows: int
    rows_forward: int
    notes: Sequence[str] = ()
    members: tuple[BlendMember, ...] = ()
    second: SecondStage | None = None


def posterior_at(problem: Problem, epoch: int, read: Read = UNREAD, *, second: SecondStage | None = None) -> Posterior:
    """Return the posterior of the model's outputs after an epoch, or after a second stage."""
    classes, calibration = problem.dataset.classes, read.calibration
    found = posterior_of(problem.options, problem.priors, classes, epoch=epoch, calibration=calibration, second=second)
    return with_weights(found, read)


def check_decided(problem: Problem) -> None:
    """Refuse decision options that cannot be used, before anything is trained.

    Raises:
        OptionError: If an option of the decision cannot be used, or there are no data to find a threshold on.
    """
    posterior_at(problem, 1)
    validation = problem.dataset.validation
    targets = None if validation is None else validation.targets
    check_wanted(problem.options.decision, tuple(problem.dataset.classes), targets)


def outcome(problem: Problem, folder: RunFolder, label: str, model: nn.Module, made: Made) -> Result:
    """Evaluate a model, keep images of its worst confusions, and summarise the run.

    Args:
        problem: Data and options of the run.
        folder: Folder of the run.
        label: Name of the variant in reports.
        model: Model with the weights that are kept.
        made: Result of its training.

    Returns:
        The outcome.
    """
    about, dataset = DataRecord.of(problem, problem.options), problem.dataset

    def scored(samples: data.Samples | None) -> Outputs | None:
        return None if samples is None else (outputs_of(model, samples, dataset.spec, problem.options), samples.targets)

    validation, test = scored(dataset.validation), scored(dataset.test)
    unread = posterior_at(problem, made.best_epoch, second=made.second)
    decision, is_calibrated = problem.options.decision, problem.options.method.method in BLENDS
    read = learnt_reading(unread, decision, tuple(dataset.classes), validation, is_calibrated=is_calibrated)
    posterior = posterior_at(problem, made.best_epoch, read, second=made.second)
    groups, tail = problem.groups, problem.tail
    on_validation, on_test = (
        None if outputs is None else measured(posterior, outputs, groups, tail) for outputs in (validation, test)
    )
    split: Split = "validation" if test is None else "test"
    samples, shown, found = (
        (dataset.validation, validation, on_validation) if test is None else (dataset.test, test, on_test)
    )
    if samples is not None and shown is not None and found is not None:
        _show(problem, folder, split, samples, shown, posterior, found)
    used = problem.options.flat()
    return Result(
        schema=SCHEMA,
        name=folder.path.name,
        method=problem.options.method.method,
        label=label,
        seed=problem.options.training.seed,
        source=problem.source,
        config=used,
        classes=about.classes,
        counts=about.counts,
        groups=about.groups,
        tail=about.tail,
        notes=(*about.notes, *made.notes, *not_learnt(on_validation or on_test, about.tail, used)),
        best_epoch=made.best_epoch or None,
        epochs=made.epochs,
        test=on_test,
        validation=on_validation,
        likeliest=None if shown is None else measured_likeliest(posterior, shown, groups, tail),
        read=read,
        train_seconds=made.seconds,
        rows_forward=made.rows_forward,
        cost_ratio=made.rows_forward / made.rows if made.rows and made.rows_forward else None,
        versions={name: version(name) for name in ("imbsam", "torch", "numpy", "scikit-learn")},
        device=str(problem.device),
        finished=datetime.now(UTC).isoformat(timespec="seconds"),
        members=made.members,
        second_stage=made.second,
    )


def not_learnt(found: Metrics | None, tail: Sequence[bool], used: Mapping[str, object]) -> list[str]:
    """Say that the tail was not learned, if so, and what has not been tried against it.

    Args:
        found: Metrics on validation data, or else on test data; None without any.
        tail: Whether each class is tail.
        used: Options of the run by name.

    Returns:
        A sentence or none.
    """
    if found is None or found.tail is None:
        return []
    others = [recall for recall, rare in zip(found.per_class, tail, strict=True) if not rare and recall is not None]
    head = sum(others) / len(others) if others else 0.0
    if found.tail >= LEARNT * head:
        return []
    augmented = used.get("augment", "none") != "none"
    ways = [
        ("train longer (--epochs)", True),
        ("augment more (--augment trivial)", used.get("augment") in ("crop", "cifar", "imagenet")),
        (
            "let the loss weight the rare classes (--loss logit-adjustment)",
            used.get("loss") in ("cross-entropy", "focal"),
        ),
        ("repeat their images (--sampler repeated)", augmented and used.get("sampler") == "shuffle"),
        ("start from a pretrained model (--finetune)", augmented and not used.get("finetune")),
    ]
    *most, last = [way for way, is_left in ways if is_left]
    return [
        f"The tail was not learned: its recall is {100 * found.tail:.1f} %, that of other classes {100 * head:.1f} %. "
        f"Without a minimum there is nothing to flatten yet: {', '.join(most)}{', or ' if most else ''}{last}."
    ]


def _show(
    problem: Problem,
    folder: RunFolder,
    split: Split,
    samples: data.Samples,
    scored: Outputs,
    posterior: Posterior,
    found: Metrics,
) -> None:
    """Store images of the worst confusions."""
    counts = problem.priors.counts.tolist()
    confused = confused_examples(posterior, scored[0], samples, problem.dataset.spec, found.confusion, counts)
    if confused:
        folder.write_examples(Examples(SCHEMA, split, confused))
