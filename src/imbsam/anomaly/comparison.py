"""Comparison of detectors on labelled anomalies that they have not seen: cross-validation, anomaly by anomaly."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from imbsam.anomaly.contenders import Contender, Score
from imbsam.anomaly.labels import ANOMALY
from imbsam.anomaly.means import Difference, Mean, difference_of, mean_of
from imbsam.data.seeding import generator
from imbsam.errors import DataError, OptionError, RunError
from imbsam.metrics.each import area_of_each, precision_at_each
from imbsam.notebook.tables import table

FOLDS = 5
MEASURES = ("average_precision", "auroc")


@dataclass(frozen=True)
class Plan:
    """Plan of the cross-validation.

    Args:
        anomalies: Number of labelled anomalies.
        others: Number of other rows.
        folds: Number of folds, that of the labelled anomalies but at most five; each is left out once in every repeat.
        repeats: Number of repeats, each with other folds and another seed.
    """

    anomalies: int
    others: int
    folds: int
    repeats: int


@dataclass(frozen=True)
class Result:
    """Result of a comparison.

    Args:
        plan: Plan of the cross-validation.
        labels: Labels of the detectors that did not fail, in the user's order; the first is the baseline.
        scores: Means over the labelled anomalies by detector and measure.
        differences: Differences to the first detector at the same anomalies, by detector and measure.
        seconds: Time of a fit with its scoring in seconds, by detector.
        failed: Errors of the other detectors.
    """

    plan: Plan
    labels: tuple[str, ...]
    scores: Mapping[str, Mapping[str, Mean]]
    differences: Mapping[str, Mapping[str, Difference]]
    seconds: Mapping[str, float]
    failed: Mapping[str, str]

    def _repr_html_(self) -> str:
        """A table for notebooks."""

        def text(found: Mean) -> str:
            return f"{100 * found.value:.1f} ± {100 * found.half_width:.1f}"

        rows = [(n, *(text(self.scores[n][m]) for m in MEASURES), f"{self.seconds[n]:.1f} s") for n in self.labels]
        failed = [(label, *[f"failed: {reason}"] * len(MEASURES), "") for label, reason in self.failed.items()]
        caption = f"Means over {self.plan.anomalies} labelled anomalies in percent, ± half the 95 % interval"
        return table(caption, ["detector", "average precision", "AUROC", "a fit"], [*rows, *failed])


def planned(kinds: Tensor, repeats: int | None = None) -> Plan:
    """Plan the cross-validation of a comparison.

    Args:
        kinds: Kind of each row, shape ``(N,)``.
        repeats: Number of repeats; by default more with few labelled anomalies.

    Raises:
        DataError: If there are fewer than two labelled anomalies, or too few other rows.
        OptionError: If ``repeats`` is below 1.
    """
    anomalies = int((kinds == ANOMALY).sum())
    folds, others = min(FOLDS, anomalies), len(kinds) - anomalies
    if anomalies < 2:
        raise DataError(
            f"{anomalies or 'no'} row is labelled as an anomaly: a comparison needs two at least, one to learn from "
            "and one to find. Label more rows, or give the word that stands for them: --anomaly WORD."
        )
    if others < 2 * folds:
        raise DataError(f"{others} rows are not labelled anomalies: a comparison needs {2 * folds} of them at least.")
    if repeats is not None and repeats < 1:
        raise OptionError(f"--seeds must be at least 1; got {repeats}.")
    return Plan(anomalies, others, folds, repeats or (5 if anomalies < 10 else 3 if anomalies < 50 else 1))


def compare_detectors(
    rows: Tensor,
    kinds: Tensor,
    detectors: Sequence[Contender],
    plan: Plan,
    *,
    seed: int,
    step: Callable[[str], None] = lambda said: None,
) -> Result:
    """Fit each detector on all folds but one, and score the labelled anomalies of that fold among its other rows.

    Unlabelled rows count as normal. A detector that fails is not fitted again.

    Args:
        rows: Rows, shape ``(N, columns)``, or images.
        kinds: Kind of each row, shape ``(N,)``.
        detectors: Two or more detectors.
        plan: Plan from :func:`planned`.
        seed: Seed of everything random.
        step: Function that is told what comes next, for each repeat, fold and detector.

    Raises:
        RunError: If fewer than two detectors are left.
    """
    found = np.full((len(detectors), len(MEASURES), plan.repeats, plan.anomalies), np.nan)
    seconds = dict.fromkeys((detector.label for detector in detectors), 0.0)
    failed: dict[str, str] = {}
    pieces = (
        (r, *fold, n)
        for r in range(plan.repeats)
        for fold in _folds(kinds, plan, seed + r)
        for n in range(len(detectors))
    )
    for repeat, fold, held, number in pieces:
        label, began = detectors[number].label, time.perf_counter()
        step(f"repeat {repeat + 1} of {plan.repeats}, fold {fold + 1} of {plan.folds}: {label}")
        if label in failed:
            continue
        # Whatever ends one detector, memory or an option that scikit-learn refuses, leaves the others comparable.
        try:
            values = _of_each(detectors[number].score, rows, kinds, held, seed + repeat)
        except Exception as error:
            failed[label] = str(error).partition("\n")[0] or type(error).__name__
            continue
        found[number, :, repeat, held[kinds == ANOMALY].numpy()] = values
        seconds[label] += (time.perf_counter() - began) / (plan.repeats * plan.folds)
    if len(detectors) - len(failed) < 2:
        said = "; ".join(f"{label}: {reason}" for label, reason in failed.items())
        raise RunError(f"{len(failed)} of {len(detectors)} detectors failed, so there is nothing to compare. {said}")
    # Over the repeats first: it is labelled anomalies that there are few of.
    each = dict(zip(seconds, found.mean(axis=2), strict=True))
    first, *others = left = tuple(label for label in seconds if label not in failed)
    return Result(
        plan,
        left,
        {label: dict(zip(MEASURES, map(mean_of, each[label]), strict=True)) for label in left},
        {label: dict(zip(MEASURES, map(difference_of, each[label] - each[first]), strict=True)) for label in others},
        {label: seconds[label] for label in left},
        failed,
    )


def _folds(kinds: Tensor, plan: Plan, seed: int) -> Iterator[tuple[int, Tensor]]:
    """Yield number and rows, shape ``(N,)``, of each fold; every kind is spread evenly."""
    draw, fold_of = generator(seed), torch.empty_like(kinds)
    for kind in torch.unique(kinds):
        rows = (kinds == kind).nonzero().squeeze(1)
        fold_of[rows[torch.randperm(len(rows), generator=draw)]] = torch.arange(len(rows)) % plan.folds
    for fold in range(plan.folds):
        yield fold, fold_of == fold


def _of_each(score: Score, rows: Tensor, kinds: Tensor, held: Tensor, seed: int) -> NDArray[np.float64]:
    """Compute both measures at each held-out labelled anomaly, shape ``(n, 2)``."""
    scores = score(rows[~held], kinds[~held], rows[held], seed)
    if not np.isfinite(scores).all():
        raise ValueError("its scores are not finite.")
    anomalous = (kinds[held] == ANOMALY).numpy()
    return np.stack([precision_at_each(scores, anomalous), area_of_each(scores, anomalous)], axis=1)
