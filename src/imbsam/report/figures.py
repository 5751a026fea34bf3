"""Figures of the final scores: by shot group, and by each class's number of training samples."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from imbsam.metrics import MEASURE_NAMES, Measure
from imbsam.priors import SHOT_GROUPS
from imbsam.report.drawing import (
    COLOURS,
    FIGURE_WIDTH,
    INK,
    Picture,
    add_legend,
    dashes,
    marker,
    method_colour,
    plain_log_ticks,
)
from imbsam.report.files import Run, Study
from imbsam.report.summary import Estimate, Summary
from imbsam.report.words import percent, plus_minus, seeds, short
from imbsam.report.words import points as points_of
from imbsam.runs.records import Split

Floats = npt.NDArray[np.float64]

MAX_DISTINCT_COUNTS = 30
MAX_VECTOR_POINTS = 2000


def shot_group_bars(summary: Summary) -> Picture | None:
    """Draw the recall of the many-, medium- and few-shot classes and of the tail; None if no class was evaluated."""
    groups: list[Measure] = [*SHOT_GROUPS, "tail"]
    shown = [group for group in groups if any(summary.scores[label][group] for label in summary.labels)]
    if summary.tail_is_few:
        shown = [group for group in shown if group != "tail"]
    if not shown:
        return None
    labels = summary.labels
    figure = Figure(figsize=(FIGURE_WIDTH, 1.1 + len(shown) * (0.5 + 0.32 * len(labels))), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    tips: dict[str, Sequence[str]] = {}
    for axis, group in zip(axes, shown, strict=True):
        tips |= _bars(axis, summary, group)
    axes[-1].set_xlabel(f"recall on the {summary.split} set (%)")
    figure.suptitle("Recall by shot group", fontweight="bold")
    return Picture(
        name="groups",
        title="Recall by shot group",
        alt=f"Bar chart of mean recall. {'; '.join(_spoken(summary, group) for group in shown)}.",
        caption="Bars are means over seeds, whiskers the 95 % t-interval of the mean (none for one seed).",
        figure=figure,
        tips=tips,
        tall=len(labels) > 7,
    )


def _spoken(summary: Summary, group: Measure) -> str:
    means = [(label, estimate) for label in summary.labels if (estimate := summary.scores[label][group])]
    return f"{MEASURE_NAMES[group]}: " + ", ".join(f"{label} {percent(e.mean)}" for label, e in means)


def _bars(axis: Axes, summary: Summary, group: Measure) -> dict[str, Sequence[str]]:
    labels = summary.labels
    tips: dict[str, Sequence[str]] = {}
    for place, label in enumerate(labels):
        estimate = summary.scores[label][group]
        if estimate is None:
            continue
        (bar,) = axis.barh(
            place,
            100 * estimate.mean,
            height=0.72,
            color=method_colour(place, len(labels)),
            xerr=None if estimate.half_width is None else 100 * estimate.half_width,
            error_kw={"ecolor": INK, "elinewidth": 1.2, "capsize": 3},
        )
        bar.set_gid(f"{group}-{place}")
        tips[f"{group}-{place}"] = [f"{label}, {MEASURE_NAMES[group]}: {_over_seeds(estimate)}"]
        axis.text(1.02, place, plus_minus(estimate), transform=axis.get_yaxis_transform(), va="center")
    axis.set_yticks(range(len(labels)), [short(label) for label in labels])
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlim(0, 100)
    axis.grid(visible=False, axis="y")
    axis.tick_params(axis="y", length=0)
    axis.set_title(MEASURE_NAMES[group], fontsize=11, fontweight="normal")
    return tips


def _over_seeds(estimate: Estimate, *, signed: bool = False) -> str:
    return f"{plus_minus(estimate, signed=signed)} {'points' if signed else '%'} over {seeds(estimate.n)}"


def cost_against_gain(summary: Summary) -> Picture | None:
    """Draw the gain of each method over the baseline against its cost; None for one method or without costs."""
    measure, costs = summary.primary, summary.costs
    points = {
        label: (cost, difference)
        for label in summary.labels[1:]
        if (cost := costs[label]) is not None and (difference := summary.differences[label][measure]) is not None
    }
    baseline = costs[summary.baseline]
    if not points or baseline is None:
        return None
    name = MEASURE_NAMES[measure]
    figure = Figure(figsize=(FIGURE_WIDTH, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.axhline(0, color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    axis.plot(baseline, 0, marker="o", color=COLOURS[0], markersize=8, linestyle="none", label=short(summary.baseline))
    tips: dict[str, Sequence[str]] = {}
    for label, (cost, gain) in points.items():
        place = summary.labels.index(label)
        tone = method_colour(place, len(summary.labels))
        if gain.half_width is not None:
            axis.errorbar(cost, 100 * gain.mean, yerr=100 * gain.half_width, color=tone, capsize=3, linewidth=1.4)
        axis.plot(
            cost,
            100 * gain.mean,
            marker=marker(place),
            color=tone,
            markersize=9,
            linestyle="none",
            label=short(label),
            gid=f"gain-{place}",
        )
        tips[f"gain-{place}"] = [f"{label}, {name}: {_over_seeds(gain, signed=True)}, at {cost:.2f} times the rows"]
    axis.set_xlim(left=min(0.95, *(cost for cost, _ in points.values())))
    axis.set_xlabel("rows forwarded for each row trained on")
    axis.set_ylabel(f"{name} over {short(summary.baseline)} (points)")
    axis.set_title("Cost against gain")
    add_legend(figure, axis, len(summary.labels))
    spoken = [f"{label} {points_of(gain.mean)} points at {cost:.2f}" for label, (cost, gain) in points.items()]
    return Picture(
        name="gain",
        title="Cost against gain",
        alt=f"Gain in {name} over {summary.baseline} by rows forwarded: {', '.join(spoken)}.",
        caption=(
            f"Differences to {summary.baseline} paired by seed, whiskers the 95 % t-interval. Left is cheaper, up is "
            "better."
        ),
        figure=figure,
        tips=tips,
    )


def recall_by_count(study: Study, split: Split) -> Picture | None:
    """Draw the recall of each class against its number of training samples; None if no class was evaluated."""
    drawn = {label: _class_points(study.runs_of(label), split) for label in study.labels}
    if not any(len(counts) for counts, _ in drawn.values()):
        return None
    figure = Figure(figsize=(FIGURE_WIDTH, 4.6), layout="constrained")
    axis = figure.subplots()
    rasterized = sum(len(counts) for counts, _ in drawn.values()) > MAX_VECTOR_POINTS
    binned = False
    tips: dict[str, Sequence[str]] = {}
    for place, (label, (counts, recalls)) in enumerate(drawn.items()):
        tone = method_colour(place, len(drawn))
        # Methods side by side, so that their points on the same class stay apart.
        shift = 1.025 ** (place - (len(drawn) - 1) / 2)
        alpha = float(np.clip(15 / np.sqrt(max(1, len(counts))), 0.1, 0.4))
        axis.scatter(
            counts * shift,
            recalls,
            s=16,
            color=tone,
            alpha=alpha,
            linewidths=0,
            rasterized=rasterized,
            gid=f"each-{place}",
        )
        if len(counts) and not rasterized:
            tips[f"each-{place}"] = _named_points(label, study.runs_of(label), split)
        middle, mean, pooled = _means_by_count(counts, recalls)
        binned = binned or pooled
        axis.plot(
            middle * shift,
            mean,
            color=tone,
            marker=marker(place),
            linestyle=dashes(place),
            label=short(label),
            gid=f"mean-{place}",
        )
        if len(middle):
            tips[f"mean-{place}"] = [
                f"{label}, mean at {count:g} samples: {recall:.1f} %"
                for count, recall in zip(middle, mean, strict=True)
            ]
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
        tips=tips,
    )


def _class_points(runs: Sequence[Run], split: Split) -> tuple[Floats, Floats]:
    points = [(run.result.counts[index], 100 * recall) for run, index, recall in _recalls(runs, split)]
    pairs = np.array(points, dtype=np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _named_points(label: str, runs: Sequence[Run], split: Split) -> list[str]:
    return [
        f"{label}, seed {run.result.seed}: {run.result.classes[index]}, {run.result.counts[index]} samples, "
        f"{percent(recall)}"
        for run, index, recall in _recalls(runs, split)
    ]


def _recalls(runs: Sequence[Run], split: Split) -> list[tuple[Run, int, float]]:
    """Yield each class of each run that was evaluated."""
    return [
        (run, index, recall)
        for run in runs
        if (metrics := run.result.scores(split)) is not None
        for index, recall in enumerate(metrics.per_class)
        if recall is not None
    ]


def _means_by_count(counts: Floats, recalls: Floats) -> tuple[Floats, Floats, bool]:
    """Compute the mean recall at each count, or of 15 groups of neighbouring counts if there are many."""
    distinct = np.unique(counts)
    if len(distinct) <= MAX_DISTINCT_COUNTS:
        return distinct, np.array([recalls[counts == count].mean() for count in distinct]), False
    groups = np.array_split(np.argsort(counts, kind="stable"), 15)
    middle = np.array([np.median(counts[group]) for group in groups])
    return middle, np.array([recalls[group].mean() for group in groups]), True


def _mark_groups(axis: Axes, runs: Sequence[Run]) -> None:
    spans = {
        group: [n for run in runs for n, g in zip(run.result.counts, run.result.groups, strict=True) if g == group]
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
