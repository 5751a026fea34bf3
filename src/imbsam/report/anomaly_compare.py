"""Report of a comparison of anomaly detectors: a figure of the differences, a table of the scores."""

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from matplotlib.figure import Figure

from imbsam.anomaly.comparison import MEASURES, Result
from imbsam.anomaly.means import Mean
from imbsam.report.drawing import COLOURS, FIGURE_WIDTH, INK, Picture
from imbsam.report.page import Note, write_page
from imbsam.report.tables import NOTHING, Cell, Table, versions_here
from imbsam.report.words import percent, points, short
from imbsam.storage.texts import printable

NAMES = {"average_precision": "average precision", "auroc": "AUROC"}


def said_of(result: Result) -> list[str]:
    """Describe the result in sentences; the first is the answer."""
    first, *others = result.labels
    differences = {label: result.differences[label]["average_precision"] for label in others}
    clear = {label: found for label, found in differences.items() if found.clear}
    width = median(found.half_width for found in differences.values())
    told = [
        f"{label} finds labelled anomalies {'better' if found.value > 0 else 'worse'} than {first}: "
        f"{points(found.value)} ± {100 * found.half_width:.1f} points of average precision."
        for label, found in sorted(clear.items(), key=lambda pair: -pair[1].value)
    ]
    unclear = [label for label in others if label not in clear]
    needed = {label: differences[label].needed for label in unclear}
    return [
        *(told or [f"No detector differs clearly from {first} on these rows."]),
        f"With {result.plan.anomalies} labelled anomalies, differences in average precision below about "
        f"{100 * width:.0f} points cannot be distinguished from chance.",
        *([f"No clear difference from {first}: {', '.join(unclear)}."] if clear and unclear else []),
        *(
            f"If the difference of {label} is as estimated ({points(differences[label].value)}), {_about(number)} "
            "labelled anomalies "
            "would show it."
            for label, number in needed.items()
            if number is not None
        ),
    ]


def write_comparison_report(folder: Path, source: str, result: Result, seed: int) -> Path:
    """Write ``report.html`` and its figure.

    Args:
        folder: Folder to write to.
        source: Source of the rows.
        result: Result of the comparison.
        seed: First seed.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file cannot be written.
    """
    plan, (answer, *sentences) = result.plan, said_of(result)
    return write_page(
        folder,
        "report.html",
        lambda: [_intervals(result)],
        {
            "title": f"{len(result.labels)} anomaly detectors on {printable(Path(source).name)}",
            "answer": answer,
            "sentences": [
                *sentences,
                "Scores are of labelled anomalies that were left out of the fit, among the other rows that were left "
                "out. Unlabelled rows count as normal, so an anomaly among them counts against the detector that finds "
                "it.",
            ],
            "facts": [
                ("data", printable(source)),
                ("labelled anomalies", f"{plan.anomalies:,}"),
                ("other rows", f"{plan.others:,}"),
                ("folds", str(plan.folds)),
                ("repeats", f"{plan.repeats} (seeds from {seed})"),
                ("average precision by chance", percent(plan.anomalies / (plan.anomalies + plan.others))),
            ],
            "scores": _table(result),
            "notes": [Note(f"failed and was left out: {said}", label) for label, said in result.failed.items()],
            "versions": versions_here(),
        },
    )


def _table(result: Result) -> Table:
    first = result.labels[0]

    def of(label: str, measure: str) -> list[Cell]:
        score = result.scores[label][measure]
        cells = [Cell(_plus_minus(score), key=score.value)]
        if label == first:
            return [*cells, Cell(NOTHING)]
        found = result.differences[label][measure]
        return [*cells, Cell(f"{points(found.value)} ± {100 * found.half_width:.1f}", found.clear, found.value)]

    def row(label: str) -> list[Cell]:
        found = result.differences.get(label, {}).get("average_precision")
        needed = NOTHING if found is None or found.needed is None else _about(found.needed)
        seconds = result.seconds[label]
        measured = [cell for measure in MEASURES for cell in of(label, measure)]
        return [Cell(label), *measured, Cell(needed), Cell(f"{seconds:.2g}", key=seconds)]

    headings = [text for name in NAMES.values() for text in (name, "difference")]
    return Table(
        f"Mean over the labelled anomalies in percent and difference to {first} in points, ± half the 95 % t-interval "
        "over them, the mean of the repeats at each; bold where the interval excludes zero (each on its own, not "
        "corrected for their number). Labels needed: labelled anomalies that would separate the difference in "
        "average precision from chance, if its estimate is right",
        ["detector", *headings, "labels needed", "seconds a fit"],
        [row(label) for label in result.labels],
        sortable=len(result.labels) > 2,
    )


def _intervals(result: Result) -> Picture:
    labels = result.labels[::-1]
    figure = Figure(figsize=(FIGURE_WIDTH, 1.4 + 0.42 * len(labels)), layout="constrained")
    tips: Mapping[str, list[str]] = {measure: [] for measure in MEASURES}
    for axis, measure in zip(figure.subplots(1, 2, sharey=True), MEASURES, strict=True):
        found = [result.scores[label][measure] for label in labels]
        for place, (label, mean) in enumerate(zip(labels, found, strict=True)):
            low, high = max(0.0, mean.value - mean.half_width), min(1.0, mean.value + mean.half_width)
            colour = COLOURS[0] if label == result.labels[0] else COLOURS[1]
            axis.plot([100 * low, 100 * high], [place, place], color=colour, linewidth=2, zorder=1)
            tips[measure].append(f"{label}: {NAMES[measure]} {_plus_minus(mean)}")
        axis.plot(
            [100 * mean.value for mean in found],
            range(len(labels)),
            linestyle="none",
            marker="o",
            markersize=7,
            color=INK,
            gid=measure,
        )
        axis.set(yticks=range(len(labels)), yticklabels=[short(label) for label in labels], xlabel="%")
        axis.set_ylim(-0.6, len(labels) - 0.4)
        axis.set_title(NAMES[measure])
    best = max(result.labels, key=lambda label: result.scores[label]["average_precision"].value)
    return Picture(
        name="detectors",
        title="Scores of the detectors",
        alt=f"Scores with intervals; the highest average precision is that of {best}, "
        f"{_plus_minus(result.scores[best]['average_precision'])} percent.",
        caption="Labelled anomalies that were left out; lines are 95 % intervals over them, which overlap more than "
        "those of the differences in the table.",
        figure=figure,
        tips=tips,
        wide=True,
    )


def _about(number: int) -> str:
    """Round to two digits: a spread over few labelled anomalies does not give more."""
    return f"about {float(f'{number:.2g}'):,.0f}"


def _plus_minus(mean: Mean) -> str:
    return f"{100 * mean.value:.1f} ± {100 * mean.half_width:.1f}"
