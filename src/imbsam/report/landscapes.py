"""Figures of loss surfaces: the spectral density, the loss along a line and over a plane."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from imbsam.report.drawing import FIGURE_WIDTH, INK, Picture, add_legend, dashes, method_colour, points_to_hover
from imbsam.report.sharpness_runs import Floats, SharpnessStudy, losses_of
from imbsam.report.words import short
from imbsam.runs.sharpness_record import Losses, Measured, SharpnessRecord

MAX_PLANES = 4
"""Largest number of methods side by side; more would be too small to read."""
DENSITY_POINTS = 600
DENSITY_WIDTH = 0.01
"""Standard deviation of the Gaussian around each node, as a share of the range that is drawn."""
LEAST_DENSITY = 1e-7
"""Smallest density that is drawn, as a share of the highest; below it there are only the Gaussians' tails."""


def density_picture(study: SharpnessStudy) -> Picture | None:
    """Draw the spectral density of head and tail, on the same scale; None if no spectrum was measured."""
    held = [run.measured.spectrum.found.get(part) for run in study.runs for part in study.contrast]
    nodes = [node for spectrum in held if spectrum is not None for node in spectrum.nodes]
    if not nodes:
        return None
    low, high = min(nodes), max(nodes)
    reach = (high - low) or 1.0
    points = np.linspace(low - 0.05 * reach, high + 0.05 * reach, DENSITY_POINTS)
    figure, axes = _panels(study, 3.4)
    highest, lines = 0.0, []
    for axis, part in zip(axes, study.contrast, strict=True):
        for place, label in enumerate(study.labels):
            densities = [d for run in study.runs_of(label) if (d := _density(run, part, points)) is not None]
            if densities:
                mean = np.mean(densities, axis=0)
                highest = max(highest, float(mean.max()))
                _line(axis, points, mean, place, study)
                lines.append((axis, part, place, mean))
        axis.set_yscale("log")
        axis.set_xlabel("eigenvalue of the Hessian")
        axis.set_title(part, fontsize=11, fontweight="normal")
    axes[0].set_ylim(LEAST_DENSITY * highest, 2 * highest)
    tips: dict[str, Sequence[str]] = {}
    for axis, part, place, mean in lines:
        seen = np.where(mean > LEAST_DENSITY * highest, mean, np.nan)
        tips |= _pointed(axis, points, seen, place, study, f"{part}, eigenvalue {{:.3g}}: density {{:.2g}}")
    axes[0].set_ylabel("density")
    axes[0].yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    figure.suptitle("Spectral density of the Hessian", fontweight="bold")
    add_legend(figure, axes[0], len(study.labels))
    return Picture(
        name="density",
        title="Spectral density of the Hessian",
        alt=f"Density of the eigenvalues, {' and '.join(study.contrast)}, from {low:.3g} to {high:.3g}, on one scale. "
        + _ends(study, "largest eigenvalue"),
        caption=(
            "Far to the right: steep directions; left of 0: directions in which the loss falls, the sign of a saddle. "
            "Stochastic Lanczos quadrature, each node widened by 1 % of the range"
            + (", mean over the runs of a method." if len(study.runs) > len(study.labels) else ".")
        ),
        figure=figure,
        tips=tips,
        wide=True,
    )


def line_picture(study: SharpnessStudy) -> Picture | None:
    """Draw the loss of head and tail along one direction, on the same scale; None if no line was measured."""
    runs = [run for run in study.runs if run.measured.line.found]
    if not runs:
        return None
    figure, axes = _panels(study, 3.4)
    tips: dict[str, Sequence[str]] = {}
    for axis, part in zip(axes, study.contrast, strict=True):
        for place, label in enumerate(study.labels):
            curves = [curve for run in study.runs_of(label) if (curve := _curve(run, part)) is not None]
            if not curves:
                continue
            offsets, losses = curves[0][0], np.array([losses for _, losses in curves])
            mean = losses.mean(axis=0)
            _line(axis, offsets, mean, place, study)
            tips |= _pointed(axis, offsets, mean, place, study, f"{part}, at {{:.2g}}: mean loss {{:.3g}}")
            if len(losses) > 1:
                tone = method_colour(place, len(study.labels))
                axis.fill_between(offsets, losses.min(axis=0), losses.max(axis=0), color=tone, alpha=0.15, linewidth=0)
        axis.set_xlabel("distance along the direction")
        axis.set_title(part, fontsize=11, fontweight="normal")
    axes[0].set_ylim(bottom=0)
    axes[0].set_ylabel("mean loss")
    figure.suptitle("Loss along a direction", fontweight="bold")
    add_legend(figure, axes[0], len(study.labels))
    return Picture(
        name="line",
        title="Loss along a direction",
        alt=f"Loss of {' and '.join(study.contrast)} along a direction through the weights, on one scale. "
        + _ends(study, "SAM sharpness"),
        caption=_direction(runs[0].measured.line, several=False)
        + (" Bands span the runs of a method." if len(study.runs) > len(study.labels) else ""),
        figure=figure,
        tips=tips,
        wide=True,
    )


def plane_picture(study: SharpnessStudy) -> Picture | None:
    """Draw contours of the loss of head and tail for the first run of each method; None without a plane."""
    first = [next((r for r in study.runs_of(label) if r.measured.plane.found), None) for label in study.labels]
    runs = [run for run in first if run is not None][:MAX_PLANES]
    drawn = [
        (part, run, found) for part in study.contrast for run in runs if (found := _surface(run, part)) is not None
    ]
    if not drawn:
        return None
    finite = np.concatenate([losses[np.isfinite(losses)] for *_, (_, losses) in drawn])
    least = max(float(finite.min()), 1e-4 * float(finite.max()), 1e-12)
    levels = np.geomspace(least, max(float(finite.max()), 2 * least), 13)
    figure = Figure(
        figsize=(max(FIGURE_WIDTH, 1.2 + 2.7 * len(runs)), 0.9 + 2.5 * len(study.contrast)), layout="constrained"
    )
    axes = figure.subplots(len(study.contrast), len(runs), sharex=True, sharey=True, squeeze=False)
    shown = None
    for part, run, (offsets, losses) in drawn:
        axis = axes[study.contrast.index(part), runs.index(run)]
        values = np.clip(np.nan_to_num(losses, posinf=levels[-1]), levels[0], levels[-1])
        shown = axis.contourf(offsets, offsets, values, levels, norm=LogNorm(levels[0], levels[-1]), cmap="viridis")
        axis.contour(offsets, offsets, values, levels[1:], colors="white", linewidths=0.5, alpha=0.6)
        axis.plot(0, 0, marker="+", color="white", markersize=9)
        axis.grid(visible=False)
        axis.set_aspect("equal")
        axis.set_title(f"{short(run.label)}: {part}", fontsize=11, fontweight="normal")
    assert shown is not None
    bar = figure.colorbar(shown, ax=axes, ticks=levels[::3], format=lambda value, _: f"{value:.2g}")
    bar.set_label("mean loss (log scale)")
    bar.outline.set_edgecolor(INK)
    figure.suptitle("Loss over a plane", fontweight="bold")
    return Picture(
        name="plane",
        title="Loss over a plane",
        alt=f"Contours of the loss around the weights, on one scale: {', '.join(short(run.label) for run in runs)}; "
        f"{' above '.join(study.contrast)}.",
        caption=_direction(runs[0].measured.plane, several=True)
        + (" The first run of each method." if len(study.runs) > len(runs) else "")
        + " The cross marks the weights.",
        figure=figure,
        wide=True,
    )


def _panels(study: SharpnessStudy, height: float) -> tuple[Figure, Sequence[Axes]]:
    figure = Figure(figsize=(1.6 * FIGURE_WIDTH, height + 0.5), layout="constrained")
    return figure, figure.subplots(1, len(study.contrast), sharex=True, sharey=True, squeeze=False)[0]


def _line(axis: Axes, x: Floats, y: Floats, place: int, study: SharpnessStudy) -> None:
    label, tone = study.labels[place], method_colour(place, len(study.labels))
    axis.plot(x, y, color=tone, linestyle=dashes(place), label=short(label), linewidth=1.8)


def _pointed(
    axis: Axes, x: Floats, y: Floats, place: int, study: SharpnessStudy, words: str
) -> dict[str, Sequence[str]]:
    label, tone = study.labels[place], method_colour(place, len(study.labels))
    gid = f"{words.partition(',')[0]}-{place}"
    return points_to_hover(axis, x, y, gid=gid, colour=tone, label=label, words=words)


def _density(run: SharpnessRecord, part: str, points: Floats) -> Floats | None:
    found = run.measured.spectrum.found.get(part)
    if found is None:
        return None
    width = DENSITY_WIDTH * (points[-1] - points[0])
    apart = (points[:, None] - np.array(found.nodes)) / width
    density: Floats = np.exp(-0.5 * apart**2) @ np.array(found.weights) / (width * np.sqrt(2 * np.pi))
    return density


def _curve(run: SharpnessRecord, part: str) -> tuple[Floats, Floats] | None:
    found = run.measured.line.found.get("line")
    if found is None or part not in run.parts:
        return None
    return np.array(found.offsets), losses_of(run, run.parts[part], found.losses)


def _surface(run: SharpnessRecord, part: str) -> tuple[Floats, Floats] | None:
    found = run.measured.plane.found
    if not found or part not in run.parts:
        return None
    rows = [found[f"row {number}"] for number in range(len(found))]
    return np.array(rows[0].offsets), np.array([losses_of(run, run.parts[part], row.losses) for row in rows])


def _direction(measured: Measured[Losses], *, several: bool) -> str:
    along = measured.options["along"]
    if along == "random":
        return (
            f"{'Two random directions' if several else 'A random direction'}, filter-normalised (Li et al. 2018): at "
            "distance 1 each filter has moved by its own length. The same draw for every run."
        )
    return (
        f"{'Across: the' if several else 'The'} eigenvector of the largest eigenvalue of each run's Hessian ({along})"
        f"{'; up: that of the smallest' if several else ''}, of length 1."
    )


def _ends(study: SharpnessStudy, name: str) -> str:
    texts = [
        f"{part}, {label} {spread.middle:.3g}"
        for part in study.contrast
        for label in study.labels
        if (spread := study.spread(label, part, name)) is not None
    ]
    return f"{name}: {'; '.join(texts)}." if texts else ""
