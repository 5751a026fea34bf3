"""Each class separately: its recall and gain, the classes it is predicted as, and images of that."""

from collections.abc import Mapping, Sequence

import numpy as np

from imbsam.metrics import worst_confusions
from imbsam.report.drawing import method_colour
from imbsam.report.files import Run, Study
from imbsam.report.summary import Summary
from imbsam.report.tables import NOTHING, Cell, Table
from imbsam.report.words import percent, points, seeds
from imbsam.runs.records import Example, Split

MAX_METHODS = 6
MAX_PAIRS = 8
MAX_TAKEN = 6
"""Number of predicted classes of one class that are listed separately."""


def shown_labels(summary: Summary) -> tuple[str, ...]:
    """Return the baseline and the leader, or the only method."""
    return tuple(dict.fromkeys((summary.baseline, summary.leader)))


def class_table(study: Study, summary: Summary) -> Table:
    """Make the table of recall of every class by method, with the leader's gain, from frequent to rare."""
    alike = study.alike
    result = alike.runs[0].result
    labels = study.labels if len(study.labels) <= MAX_METHODS else shown_labels(summary)
    recalls = {label: _mean_recalls(alike.runs_of(label), summary.split) for label in labels}
    gains = [f"{summary.leader} over {summary.baseline} (points)"] if len(labels) > 1 else []

    def row(index: int) -> list[Cell]:
        values = {label: recalls[label].get(index) for label in labels}
        before, after = values[summary.baseline], values[summary.leader]
        gain = None if before is None or after is None else after - before
        return [
            Cell(result.classes[index]),
            Cell(str(result.counts[index]), key=result.counts[index]),
            Cell(result.groups[index]),
            Cell("yes" if result.tail[index] else "no"),
            *(Cell(NOTHING) if v is None else Cell(f"{100 * v:.1f}", key=v) for v in values.values()),
            *(Cell(NOTHING) if gain is None else Cell(points(gain), key=gain) for _ in gains),
        ]

    counts = result.counts
    return Table(
        caption=f"Recall of each class on the {summary.split} set in percent, {_over(study, alike)}; press a heading "
        "to sort",
        columns=["class", "training samples", "group", "tail", *(labels if len(labels) > 1 else ["recall"]), *gains],
        rows=[row(index) for index in sorted(range(len(counts)), key=lambda i: -counts[i])],
        sortable=True,
    )


def confusion_table(study: Study, summary: Summary) -> Table | None:
    """Make the table of rare classes most often predicted as frequent ones, with images; None without confusions."""
    alike = study.alike
    result = alike.runs[0].result
    counts = result.counts
    summed = _confusions(alike, summary)
    pairs = {
        (pair.true, pair.predicted): pair.share
        for matrix in reversed(summed.values())
        for pair in worst_confusions(matrix, counts, MAX_PAIRS)
    }
    if not pairs:
        return None
    shown = {label: _examples(alike.runs_of(label)) for label in summed}
    pictured = any(images.get(pair) for images in shown.values() for pair in pairs)

    def share(label: str, true: int, predicted: int, examples: bool) -> Cell:
        row = summed[label][true]
        taken = row[predicted] / sum(row)
        images = shown[label].get((true, predicted), ()) if examples else ()
        return Cell(percent(taken), key=taken, images=images)

    worst = sorted(pairs, key=lambda pair: -max(summed[label][pair[0]][pair[1]] for label in summed))[:MAX_PAIRS]
    return Table(
        caption=f"Rare classes predicted as more frequent ones on the {summary.split} set, {_over(study, alike)}: "
        "share of the rare class; training samples in brackets"
        + ("; the images are those with the highest confidence of a run" if pictured else ""),
        columns=["rare class", "predicted as", *summed],
        rows=[
            [
                Cell(f"{result.classes[true]} ({counts[true]})", key=counts[true]),
                Cell(f"{result.classes[predicted]} ({counts[predicted]})", key=counts[predicted]),
                *(share(label, true, predicted, True) for label in summed),
            ]
            for true, predicted in worst
        ],
        sortable=True,
    )


def one_by_one(study: Study, summary: Summary) -> dict[str, object] | None:
    """Return what the page needs to show any class, as plain JSON values; None without confusions."""
    alike = study.alike
    result = alike.runs[0].result
    summed = _confusions(alike, summary)
    if not summed:
        return None

    def taken(row: Sequence[int]) -> list[tuple[int, float]]:
        total = sum(row)
        ranked = sorted((i for i, count in enumerate(row) if count), key=lambda i: -row[i])[:MAX_TAKEN]
        return [(index, round(row[index] / total, 4)) for index in ranked]

    order = sorted(range(len(result.counts)), key=lambda i: result.counts[i])
    return {
        "labels": list(summed),
        "colours": [method_colour(study.labels.index(label), len(study.labels)) for label in summed],
        "over": _over(study, alike),
        "order": order,
        "classes": [
            {
                "name": name,
                "about": f"{count} training samples, {group}-shot" + (", tail" if tail else ""),
                "taken": [taken(matrix[index]) for matrix in summed.values()],
            }
            for index, (name, count, group, tail) in enumerate(
                zip(result.classes, result.counts, result.groups, result.tail, strict=True)
            )
        ],
    }


def _over(study: Study, alike: Study) -> str:
    number = len({run.result.seed for run in alike.runs})
    left_out = len({run.result.seed for run in study.runs}) - number
    if not left_out:
        return f"over {seeds(number)}"
    return f"{_named_seeds(alike)} only, as other seeds draw other classes to be rare"


def _named_seeds(study: Study) -> str:
    drawn = sorted({run.result.seed for run in study.runs})
    return f"{'seed' if len(drawn) == 1 else 'seeds'} {', '.join(map(str, drawn))}"


def _mean_recalls(runs: Sequence[Run], split: Split) -> dict[int, float]:
    """Compute the mean recall of each class that was evaluated in some run."""
    found: dict[int, list[float]] = {}
    for run in runs:
        metrics = run.result.scores(split)
        for index, recall in enumerate(metrics.per_class if metrics is not None else ()):
            if recall is not None:
                found.setdefault(index, []).append(recall)
    return {index: sum(values) / len(values) for index, values in found.items()}


def _confusions(alike: Study, summary: Summary) -> dict[str, list[list[int]]]:
    """Sum the confusion matrices of the shown methods over their runs."""
    found = {}
    for label in shown_labels(summary):
        scores = [metrics for run in alike.runs_of(label) if (metrics := run.result.scores(summary.split)) is not None]
        held = [matrix for metrics in scores if (matrix := metrics.confusion)]
        if held:
            found[label] = np.sum(held, axis=0).tolist()
    return found


def _examples(runs: Sequence[Run]) -> Mapping[tuple[int, int], Sequence[Example]]:
    return next((run.examples for run in runs if run.examples), {})
