"""Tables of a report, as texts in cells."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

from imbsam.metrics import MEASURE_NAMES, MEASURES, Measure
from imbsam.notebook.tables import table
from imbsam.report.files import Run, Study
from imbsam.report.summary import Difference, Summary, t_half_width
from imbsam.report.words import plus_minus
from imbsam.runs.records import BlendMember, Example
from imbsam.storage.texts import printable

NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """Cell of a table.

    Args:
        text: Text of the cell.
        strong: Whether it is highlighted: the best of its column, or a setting that differs.
        key: Sort key that replaces the text.
        images: Images to show below the text.
    """

    text: str
    strong: bool = False
    key: float | None = None
    images: Sequence[Example] = ()


@dataclass(frozen=True)
class Table:
    """Table whose rows begin with a heading.

    Args:
        caption: Content of the table, with the units.
        columns: Headings; the first is that of the rows' headings.
        rows: Rows of cells, as many as there are columns.
        sortable: Whether sorting helps.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    sortable: bool = False

    def _repr_html_(self) -> str:
        """The same for notebooks, without images."""
        return table(self.caption, self.columns, [[cell.text for cell in row] for row in self.rows])


def scores(summary: Summary) -> Table:
    """Make the table of each method's mean scores, with the best of each column highlighted."""
    best = {measure: _best(summary, measure) for measure in MEASURES}

    def cell(label: str, measure: Measure) -> Cell:
        estimate = summary.scores[label][measure]
        if estimate is None:
            return Cell(NOTHING)
        strong = len(summary.labels) > 1 and round(100 * estimate.mean, 1) == best[measure]
        return Cell(plus_minus(estimate), strong=strong, key=estimate.mean)

    return Table(
        caption=f"Scores on the {summary.split} set in percent, mean ± half the 95 % t-interval over seeds",
        columns=["method", *(MEASURE_NAMES[measure] for measure in MEASURES), "seeds"],
        rows=[
            [
                Cell(label),
                *(cell(label, measure) for measure in MEASURES),
                Cell(str(max((e.n for e in summary.scores[label].values() if e), default=0))),
            ]
            for label in summary.labels
        ],
        sortable=len(summary.labels) > 2,
    )


def _best(summary: Summary, measure: Measure) -> float | None:
    means = [e.mean for label in summary.labels if (e := summary.scores[label][measure]) is not None]
    return round(100 * max(means), 1) if means else None


def differences(summary: Summary) -> Table | None:
    """Make the table of each method minus the baseline at the same seed; None for one method."""
    if not summary.differences:
        return None

    def cell(difference: Difference | None) -> Cell:
        if difference is None:
            return Cell(NOTHING)
        clear = difference.half_width is not None and abs(difference.mean) > difference.half_width
        return Cell(plus_minus(difference, signed=True), strong=clear, key=difference.mean)

    return Table(
        caption=(
            f"Difference to {summary.baseline} in percentage points, paired by seed, mean ± half the 95 % "
            "t-interval; bold where the interval excludes zero (each on its own, not corrected for their number)"
        ),
        columns=["method", *(MEASURE_NAMES[measure] for measure in MEASURES), "pairs"],
        rows=[
            [
                Cell(label),
                *(cell(by_measure[measure]) for measure in MEASURES),
                Cell(str(max((d.n for d in by_measure.values() if d), default=0))),
            ]
            for label, by_measure in summary.differences.items()
        ],
        sortable=len(summary.differences) > 2,
    )


def run_scores(run: Run) -> Table | None:
    """Make the table of a single run's scores on both sets; None if it was not evaluated."""
    validation = "validation (best epoch)" if run.result.epochs else "validation"
    sets = {"test": run.result.test, validation: run.result.validation}
    shown = {name: metrics for name, metrics in sets.items() if metrics is not None}
    if not shown:
        return None
    rows: list[list[Cell]] = [
        [Cell(MEASURE_NAMES[m]), *(_share(metrics.of(m)) for metrics in shown.values())] for m in MEASURES
    ]
    rows.append([Cell("expected calibration error"), *(_share(metrics.ece) for metrics in shown.values())])
    rows.append([Cell("log loss (nats)"), *(_number(metrics.log_loss) for metrics in shown.values())])
    return Table(caption="Scores in percent, log loss in nats", columns=["measure", *shown], rows=rows)


def members(study: Study) -> Table | None:
    """Make the table of the classifiers of each blend, mean over its seeds; None without a blend of several."""
    rows = []
    for label in study.labels:
        found: dict[str, list[BlendMember]] = {}
        for run in study.runs_of(label):
            for member in run.result.members:
                found.setdefault(member.name, []).append(member)
        of_blend = f"{label}: " if len(study.labels) > 1 else ""
        rows += [
            [
                Cell(of_blend + name),
                _share(_mean([member.share for member in several])),
                _share(_mean([member.score for member in several if member.score is not None])),
            ]
            for name, several in found.items()
            if len(found) > 1
        ]
    if not rows:
        return None
    return Table(
        caption=(
            "Members of the blend: share of all weights, and balanced accuracy of each alone on training rows that it "
            "was not trained on, in percent, mean over seeds"
        ),
        columns=["member", "share", "balanced accuracy alone"],
        rows=rows,
    )


def cost(study: Study) -> Table:
    """Make the table of the cost of each method's training."""
    seconds = {label: _mean([r.result.train_seconds for r in study.runs_of(label)]) for label in study.labels}
    baseline = seconds[study.labels[0]]

    def row(label: str) -> list[Cell]:
        runs = [run.result for run in study.runs_of(label)]
        taken = seconds[label]
        cells = [
            Cell(label),
            _seconds([run.train_seconds for run in runs]),
            _number(_mean([run.rows_forward for run in runs]), ",.0f"),
            _number(_mean([run.cost_ratio for run in runs if run.cost_ratio is not None])),
        ]
        if len(study.labels) > 1:
            cells.insert(2, _number(taken / baseline if taken is not None and baseline else None))
        return cells

    columns = ["method", "training (s)", "rows forwarded", "rows per row of a plain step"]
    if len(study.labels) > 1:
        columns.insert(2, f"times {study.labels[0]}")
    return Table(
        caption="Cost of training, mean over seeds; runs at the same time on one machine slow each other down",
        columns=columns,
        rows=[row(label) for label in study.labels],
    )


def configuration(study: Study) -> tuple[Table | None, Table]:
    """Make the table of options that differ between methods (None if none do), and that of options of all runs."""
    configs = {label: _merged([run.result.config for run in study.runs_of(label)]) for label in study.labels}
    configs = {label: config for label, config in configs.items() if config}
    keys = list(dict.fromkeys(key for config in configs.values() for key in config))
    values = {key: [config.get(key, NOTHING) for config in configs.values()] for key in keys}
    differing = [key for key in keys if len(set(values[key])) > 1]
    shared = Table(
        caption="Options common to all runs" if len(study.runs) > 1 else "Options",
        columns=["option", "value"],
        rows=[[Cell(key), Cell(values[key][0])] for key in keys if key not in differing],
    )
    if not differing:
        return None, shared
    rows = [[Cell(key), *(Cell(value, strong=value != values[key][0]) for value in values[key])] for key in differing]
    caption = f"Options that differ between methods; bold where they differ from {next(iter(configs))}"
    return Table(caption=caption, columns=["option", *configs], rows=rows), shared


def _merged(configs: Sequence[Mapping[str, object]]) -> dict[str, str]:
    """Return one text per option: its value, or its values over the runs."""
    keys = dict.fromkeys(key for config in configs for key in config)
    return {key: ", ".join(dict.fromkeys(_option(config[key]) for config in configs if key in config)) for key in keys}


def _option(value: object) -> str:
    return printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str))


def versions(study: Study) -> Table:
    """Return versions, device and time of the runs."""
    results = [run.result for run in study.runs]
    merged = _merged([result.versions for result in results])
    merged |= _merged([{"device": result.device} for result in results])
    merged["finished"] = max(result.finished for result in results)
    return Table(
        caption="Versions",
        columns=["what", "value"],
        rows=[[Cell(key), Cell(value)] for key, value in merged.items()],
    )


def versions_here() -> Table:
    """Return the versions of the packages in use."""
    return Table("Versions", ["package", "version"], [[Cell(n), Cell(version(n))] for n in ("imbsam", "torch")])


def _share(value: float | None) -> Cell:
    return Cell(NOTHING) if value is None else Cell(f"{100 * value:.1f}", key=value)


def _number(value: float | None, form: str = ".2f") -> Cell:
    return Cell(NOTHING) if value is None else Cell(format(value, form), key=value)


def _seconds(values: Sequence[float]) -> Cell:
    mean = _mean(values)
    if mean is None:
        return Cell(NOTHING)
    half_width = t_half_width(values)
    return Cell(f"{mean:.1f}" if half_width is None else f"{mean:.1f} ± {half_width:.1f}", key=mean)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
