"""Figures of the final scores: by shot group, and by each class's number of training samples."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from imbsam.priors import SHOT_GROUPS
from imbsam.report.drawing import FIGURE_WIDTH, INK, Picture, add_legend, dashes, marker, method_colour, plain_log_ticks
from imbsam.report.files import Run, Study
from imbsam.report.summary import Measure, Split, Summary
from imbsam.report.words import MEASURE_NAMES, percent, plus_minus, short

Floats = npt.NDArray[np.float64]

MAX_DISTINCT_COUNTS = 30
MAX_VECTOR_POINTS = 2000


def shot_group_bars(summary: Summary) -> Picture | None:
    """Recall of the many-, medium- and few-shot classes by method; None if no class was evaluated."""
    shown = [group for group in SHOT_GROUPS if any(summary.scores[label][group] for label in summary.labels)]
    if not shown:
        return None
    labels = summary.labels
    figure = Figure(figsize=(FIGURE_WIDTH, 1.1 + len(shown) * (0.5 + 0.32 * len(labels))), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axis, group in zip(axes, shown, strict=True):
        _bars(axis, summary, group)
    axes[-1].set_xlabel(f"recall on the {summary.split} set (%)")
    figure.suptitle("Recall by shot group", fontweight="bold")
    return Picture(
        name="groups",
        title="Recall by shot group",
        alt=f"Bar chart of mean recall. {'; '.join(_spoken(summary, group) for group in shown)}.",
        caption="Bars are means over seeds, whiskers the 95 % t-interval of the mean (none for one seed).",
        figure=figure,
        tall=len(labels) > 7,
    )


def _spoken(summary: Summary, group: Measure) -> str:
    means = [(label, estimate) for label in summary.labels if (estimate := summary.scores[label][group])]
    return f"{MEASURE_NAMES[group]}: " + ", ".join(f"{label} {percent(e.mean)}" for label, e in means)


def _bars(axis: Axes, summary: Summary, group: Measure) -> None:
    labels = summary.labels
    for place, label in enumerate(labels):
        estimate = summary.scores[label][group]
        if estimate is None:
            continue
        axis.barh(
            place,
            100 * estimate.mean,
            height=0.72,
            color=method_colour(place, len(labels)),
            xerr=None if estimate.half_width is None else 100 * estimate.half_width,
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
        )
        axis.text(1.02, place, plus_minus(estimate), transform=axis.get_yaxis_transform(), va="center")
    axis.set_yticks(range(len(labels)), [short(label) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_title(MEASURE_NAMES[group], fontsize=11, fontweight="normal")


def recall_by_count(study: Study, split: Split) -> Picture | None:
    """Recall of each class against its number of training samples; None if no class was evaluated."""
    drawn = {label: _class_points(study.runs_of(label), split) for label in study.labels}
    if not any(len(counts) for counts, _ in drawn.values()):
        return None
    figure = Figure(figsize=(FIGURE_WIDTH, 4.6), layout="constrained")
    axis = figure.subplots()
    rasterized = sum(len(counts) for counts, _ in drawn.values()) > MAX_VECTOR_POINTS
    binned = False
    for place, (label, (counts, recalls)) in enumerate(drawn.items()):
        tone = method_colour(place, len(drawn))
        # Methods side by side, so that their points on the same class stay apart.
        shift = 1.025 ** (place - (len(drawn) - 1) / 2)
        alpha = float(np.clip(15 / np.sqrt(max(1, len(counts))), 0.1, 0.4))
        axis.scatter(counts * shift, recalls, s=16, color=tone, alpha=alpha, linewidths=0, rasterized=rasterized)
        middle, mean, pooled = _means_by_count(counts, recalls)
        binned = binned or pooled
        axis.plot(middle * shift, mean, color=tone, marker=marker(place), linestyle=dashes(place), label=short(label))
    if any(0 in counts for counts, _ in drawn.values()):
        axis.set_xscale("symlog", linthresh=1)
        axis.set_xlim(left=-0.3)
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        axis.set_xscale("log")
        plain_log_ticks(axis.xaxis)
    axis.set_ylim(-3, 103)
    axis.set_xlabel("training samples of the class (log scale)")
    axis.set_ylabel(f"recall on the {split} set (%)")
    axis.set_title("Recall of each class by its training count", pad=24)
    _mark_groups(axis, study.runs)
    add_legend(figure, axis, len(drawn))
    ends = [
        f"{label} from {mean[0]:.0f} % at {middle[0]:.0f} samples to {mean[-1]:.0f} % at {middle[-1]:.0f}"
        for label, points in drawn.items()
        for middle, mean, _ in [_means_by_count(*points)]
        if len(mean)
    ]
    return Picture(
        name="classes",
        title="Recall of each class by its training count",
        alt=f"Recall against training count, log scale. {'; '.join(ends)}.",
        caption=(
            "Each light point is a class in one seed; lines join the means "
            + ("of groups of classes of similar count." if binned else "of the classes of equal count.")
            + " Classes are placed by their count, as seeds may draw other classes to be rare."
        ),
        figure=figure,
    )


def _class_points(runs: Sequence[Run], split: Split) -> tuple[Floats, Floats]:
    points = [
        (count, 100 * recall)
        for run in runs
        if (metrics := run.metrics(split)) is not None
        for count, recall in zip(run.result["counts"], metrics["per_class"], strict=True)
        if recall is not None
    ]
    pairs = np.array(points, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _means_by_count(counts: Floats, recalls: Floats) -> tuple[Floats, Floats, bool]:
    """Mean recall at each count, or of 15 groups of neighbouring counts where there are many counts."""
    distinct = np.unique(counts)
    if len(distinct) <= MAX_DISTINCT_COUNTS:
        return distinct, np.array([recalls[counts == count].mean() for count in distinct]), False
    groups = np.array_split(np.argsort(counts, kind="stable"), 15)
    middle = np.array([np.median(counts[group]) for group in groups])
    return middle, np.array([recalls[group].mean() for group in groups]), True


def _mark_groups(axis: Axes, runs: Sequence[Run]) -> None:
    spans = {
        group: [
            n for run in runs for n, g in zip(run.result["counts"], run.result["groups"], strict=True) if g == group
        ]
        for group in reversed(SHOT_GROUPS)
    }
    present = [(group, min(counts), max(counts)) for group, counts in spans.items() if counts]
    for group, low, high in present:
        centre = np.sqrt(max(low, 0.5) * max(high, 0.5))
        across = axis.get_xaxis_transform()
        axis.text(centre, 1.015, group, transform=across, ha="center", va="bottom", fontsize=10)
    for (_, _, below), (_, above, _) in pairwise(present):
        if 0 < below < above:
            axis.axvline(float(np.sqrt(below * above)), color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
