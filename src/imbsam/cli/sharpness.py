"""The command ``imbsam sharpness``: measure runs, show their groups side by side, write the report."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from imbsam.cli.answer import Answer
from imbsam.cli.commands import Sharpness
from imbsam.cli.show import err, out
from imbsam.errors import NonFiniteError, OptionError
from imbsam.report import SharpnessStudy, findings, group_table, notes, write_sharpness
from imbsam.runs.places import REPORT_FILES, RUNS
from imbsam.runs.sharpness import RunSharpness
from imbsam.runs.sharpness_record import SharpnessRecord
from imbsam.storage.files import write_json
from imbsam.storage.interruption import exit_code
from imbsam.storage.outputs import check_folder
from imbsam.storage.records import SCHEMA
from imbsam.storage.texts import quoted
from imbsam.studies.finished import finished_runs


def measure_sharpness(command: Sharpness, words: Sequence[str]) -> Answer | int:
    """Measure each run, except what was measured before."""
    if not command.runs:
        raise OptionError("name the folders of trained runs: imbsam sharpness runs/RUN runs/RUN2.")
    folders = finished_runs(command.runs)
    command.options.check()
    target = command.out or (folders[0] / "sharpness" if len(folders) == 1 else RUNS / "sharpness")
    check_folder(target, ("sharpness.json", *REPORT_FILES))
    for folder in folders:
        check_folder(folder, [f"sharpness-{command.options.split}.json"])
    typed = " ".join(["imbsam", *map(quoted, words)])
    measured = []
    try:
        for place, folder in enumerate(folders, start=1):
            measured.append(_measured(folder, command, f"{place} of {len(folders)}"))
    except KeyboardInterrupt as error:
        print("\ninterrupted. Finished measures are kept; continue with the same command:\n  " + typed, file=sys.stderr)
        return exit_code(error)
    content = {"schema": SCHEMA, "command": typed, "runs": [dataclasses.asdict(record) for record in measured]}
    write_json(target / "sharpness.json", content)
    page = write_sharpness(target, measured, command=typed)

    def shown() -> None:
        _show(SharpnessStudy(measured))
        out.print(f"report: {page}")

    return Answer({"schema": SCHEMA, "runs": content["runs"], "report": page}, shown)


def _measured(folder: Path, command: Sharpness, place: str) -> SharpnessRecord:
    run = RunSharpness(folder, command.options, device=command.device, model=command.model)
    if not command.quiet:
        err.print(f"{place}: {folder.name}: {_expected(run)}")
    if run.without_rows:
        named = ", ".join(run.without_rows[:5]) + (", ..." if len(run.without_rows) > 5 else "")
        err.print(
            f"note: {folder.name}: the {command.options.split} data have no rows of {named}; groups are measured "
            "without these classes.",
        )
    bar = Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
        transient=True,
        disable=command.quiet or not err.is_terminal,
    )
    with bar:
        task = bar.add_task(folder.name, total=None)
        try:
            return run.measure(
                lambda what, done, total: bar.update(task, description=what, completed=done, total=total)
            )
        except NonFiniteError as error:
            raise NonFiniteError(f"{folder}: {error}") from None


def _expected(run: RunSharpness) -> str:
    """Return how much work there is to do."""
    steps = run.todo()
    if not steps:
        return "measured before."
    kinds = {
        "Hessian products": ("spectrum", "trace"),
        "gradients and ascents": ("sam",),
        "forwards": ("line", "plane"),
    }
    sums = {kind: sum(step.rows for step in steps if step.measure in names) for kind, names in kinds.items()}
    listed = ", ".join(f"{kind} of {number:,} rows" for kind, number in sums.items() if number)
    return f"{len(run.surface.rows.targets)} rows of {len(run.surface.classes)} classes; expected: {listed}."


def _show(study: SharpnessStudy) -> None:
    found = group_table(study, brief=True)
    table = Table(title=found.caption, title_justify="left", box=SIMPLE_HEAD)
    for place, name in enumerate(found.columns):
        table.add_column(name, justify="left" if place < 2 else "right")
    before = None
    for group, *cells in found.rows:
        if before not in (None, group.text):
            table.add_section()
        table.add_row("" if group.text == before else group.text, *(cell.text for cell in cells))
        before = group.text
    out.print(table)
    for sentence in findings(study):
        out.print(sentence)
    for text, about in notes(study):
        err.print(f"note: {about}: {text}")
