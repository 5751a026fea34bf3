"""``imbsam anomaly compare``: detectors on the user's own rows, by cross-validation."""

from dataclasses import asdict

from rich.progress import Progress

from imbsam.anomaly.comparison import Result, compare_detectors, planned
from imbsam.anomaly.contenders import contenders
from imbsam.cli import show
from imbsam.cli.anomaly import labelled_rows
from imbsam.cli.answer import Answer
from imbsam.cli.commands import AnomalyCompare
from imbsam.report.anomaly_compare import said_of, write_comparison_report
from imbsam.runs.places import REPORT_FILES, RUNS, called_by, check_apart
from imbsam.storage.files import write_json
from imbsam.storage.outputs import check_folder

FILE = "detectors.json"


def compare_anomaly(command: AnomalyCompare) -> Answer:
    """Compare detectors, and report."""
    source, detectors = command.source, contenders(command.detectors)
    folder = command.out or RUNS / f"anomaly-compare-{called_by(source)}"
    check_folder(folder, (FILE, *REPORT_FILES))
    check_apart(folder / FILE, source)
    block, _, notes = labelled_rows(command)
    plan = planned(block.known, command.seeds)
    if not command.quiet:
        unlabelled, anomalies, normal = block.counts
        counts = f"{anomalies} labelled anomalies, {unlabelled} unlabelled, {normal} known to be normal"
        show.err.print(*(f"note: {note}" for note in notes), f"{len(block.rows)} rows: {counts}", sep="\n")
    live = show.err.is_terminal and not command.quiet
    with Progress(console=show.err, disable=not live, transient=True) as bar:
        task = bar.add_task("", total=len(detectors) * plan.repeats * plan.folds)

        def step(said: str) -> None:
            bar.update(task, advance=1, description=said)
            if not live and not command.quiet:
                show.err.print(said)

        result = compare_detectors(block.rows, block.known, detectors, plan, seed=command.seed, step=step)
    for label, reason in result.failed.items():
        show.warn(f"{label} failed and was left out: {reason}")
    content = {"source": source, "seed": command.seed, "answer": said_of(result), "notes": notes, **asdict(result)}
    write_json(folder / FILE, content)
    page = write_comparison_report(folder, source, result, command.seed)
    return Answer(
        {"folder": folder, "report": page, **content},
        lambda: show.lines([*_scores(result), *said_of(result), f"report: {page}"]),
        code=1 if result.failed else 0,
    )


def _scores(result: Result) -> list[str]:
    width = max(map(len, result.labels))
    return [
        f"{label:<{width}}  average precision {100 * own['average_precision'].value:5.1f} "
        f"± {100 * own['average_precision'].half_width:4.1f}  AUROC {100 * own['auroc'].value:5.1f} "
        f"± {100 * own['auroc'].half_width:4.1f}"
        for label, own in result.scores.items()
    ]
