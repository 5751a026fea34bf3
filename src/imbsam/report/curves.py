"""Learning curves: validation recall and training loss by epoch."""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from imbsam.metrics import Measure
from imbsam.report.drawing import (
    FIGURE_WIDTH,
    INK,
    Picture,
    add_legend,
    dashes,
    method_colour,
    plain_log_ticks,
    points_to_hover,
)
from imbsam.report.files import Run, Study
from imbsam.report.words import short
from imbsam.runs.records import EpochRecord

Floats = npt.NDArray[np.float64]

MAX_BANDS = 6


def learning_curves(study: Study) -> Picture | None:
    """Draw validation recall and training loss by epoch; None if no epoch was recorded."""
    panels = {
        "balanced accuracy (%)": lambda epoch: _validation(epoch, "balanced"),
        "few-shot recall (%)": lambda epoch: _validation(epoch, "few"),
        "tail recall (%)": lambda epoch: _validation(epoch, "tail"),
        "training loss (nats)": lambda epoch: epoch.train_loss,
    }
    curves = {
        name: {label: _by_epoch(study.runs_of(label), pick) for label in study.labels} for name, pick in panels.items()
    }
    curves = {name: by_label for name, by_label in curves.items() if any(len(c) for c in by_label.values())}
    if not curves:
        return None
    figure = Figure(figsize=(FIGURE_WIDTH, 1.0 + 2.6 * len(curves)), layout="constrained")
    banded = len(study.runs) > len(study.labels) and len(study.labels) <= MAX_BANDS
    axes = figure.subplots(len(curves), 1, sharex=True, squeeze=False)[:, 0]
    tips: dict[str, Sequence[str]] = {}
    for panel, (axis, (name, by_label)) in enumerate(zip(axes, curves.items(), strict=True)):
        for place, (label, curve) in enumerate(by_label.items()):
            epoch, mean, low, high = curve.T
            tone = method_colour(place, len(by_label))
            axis.plot(epoch, mean, color=tone, linestyle=dashes(place), label=short(label), linewidth=1.8)
            if len(by_label) <= MAX_BANDS:
                tips |= points_to_hover(
                    axis,
                    epoch,
                    mean,
                    gid=f"{panel}-{place}",
                    colour=tone,
                    label=label,
                    words=f"epoch {{:g}}, {name}: {{:.3g}}",
                )
            if banded:
                axis.fill_between(epoch, low, high, color=tone, alpha=0.18, linewidth=0)
        axis.set_ylabel(name)
        if "loss" in name and all((curve[:, 2] > 0).all() for curve in by_label.values()):
            axis.set_yscale("log")
            plain_log_ticks(axis.yaxis)
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.suptitle("Learning curves", fontweight="bold")
    if len(study.labels) > 1:
        add_legend(figure, axes[0], len(study.labels))
    else:
        _mark_best_epoch(list(axes), study.runs)
    first, by_label = next(iter(curves.items()))
    last = [f"{label} {curve[-1, 1]:.3g}" for label, curve in by_label.items() if len(curve)]
    return Picture(
        name="curves",
        title="Learning curves",
        alt=f"Lines by epoch of {', '.join(curves)}. At the last epoch, {first}: {', '.join(last)}.",
        caption=(
            "Recall is measured on the validation set. Lines are means over seeds"
            + (", bands span the lowest to the highest seed." if banded else ".")
        ),
        figure=figure,
        tips=tips,
    )


def _validation(epoch: EpochRecord, measure: Measure) -> float | None:
    value = None if epoch.validation is None else epoch.validation.of(measure)
    return None if value is None else 100 * value


def _by_epoch(runs: Sequence[Run], pick: Callable[[EpochRecord], float | None]) -> Floats:
    """Compute epoch, mean, lowest and highest value over the seeds that have one, shape (epochs, 4)."""
    values: dict[int, list[float]] = {}
    for run in runs:
        for epoch in run.epochs:
            value = pick(epoch)
            if value is not None and np.isfinite(value):
                values.setdefault(epoch.epoch, []).append(value)
    rows = [(epoch, np.mean(at), min(at), max(at)) for epoch, at in sorted(values.items())]
    return np.array(rows, dtype=np.float64).reshape(-1, 4)


def _mark_best_epoch(axes: Sequence[Axes], runs: Sequence[Run]) -> None:
    best = {run.result.best_epoch for run in runs} - {None}
    if len(best) != 1:
        return
    (epoch,) = best
    for axis in axes:
        axis.axvline(float(epoch or 0), color=INK, linewidth=0.8, linestyle=(0, (2, 3)))
    axes[0].set_title(f"dotted: best epoch, {epoch}", fontsize=10, fontweight="normal")
