"""The command that searches options."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import Tune
from imbsam.errors import OptionError
from imbsam.runs.places import check_apart
from imbsam.runs.tracking import Store, keep_reports
from imbsam.storage.interruption import exit_code
from imbsam.storage.outputs import check_folder
from imbsam.storage.texts import quoted
from imbsam.studies.tune import Range, Search, Tried, best_of, tune, usual_search, write_best
from imbsam.studies.workers import Workers

SHOWN = 10
"""Number of trials in the table."""


def tune_options(command: Tune, source: str, folder: Path, words: Sequence[str]) -> Answer | int:
    """Run ``imbsam tune``."""
    if command.seeds < 1:
        raise OptionError(f"--seeds must be at least 1; got {command.seeds}.")
    search = Search(
        [Range.parse(text) for text in command.search] or usual_search(command.options),
        command.trials,
        range(command.seeds),
        command.objective,
        command.storage,
    )
    workers = Workers(command.jobs, command.backend, command.address)
    check_folder(folder, ("tune.json", "best.yaml", "trials.journal", "runs/trial/result.json"))
    check_apart(folder / "tune.json", source)
    typed = " ".join(["imbsam", *map(quoted, words)])
    tried: list[Tried] = []
    try:
        for each in tune(folder, source, command.options, search, workers=workers, command=typed):
            tried.append(each)
            if not command.quiet:
                show.err.print(_line(each, tried, search))
    except KeyboardInterrupt as error:
        print(f"\ninterrupted. No trial is lost; continue with the same command:\n  {typed}", file=sys.stderr)
        return exit_code(error)
    best = best_of(tried)
    config = write_best(folder, command.options, best)
    keep_reports(command.options.training.track, Store.of(folder), [folder])

    def shown() -> None:
        show.out.print(_table(tried, search))
        show.lines(
            [
                f"best of {len(tried)}: trial {best.number}; its score is optimistic, as it is the best of many on "
                "these validation data",
                f"train with it: imbsam train {quoted(source)} --config {quoted(str(config))}",
                f"compare it on test data: imbsam compare {quoted(source)} --config {quoted(str(config))} --methods "
                "sgd "
                f"{command.options.method.method}",
            ]
        )

    content = {
        "source": source,
        "objective": command.objective,
        "best": {**vars(best), "config": config},
        "trials": [vars(each) for each in tried],
    }
    return Answer(content, shown)


def _line(each: Tried, tried: Sequence[Tried], search: Search) -> str:
    scores = [other.score for other in tried if other.score is not None]
    got = f"failed: {each.error}" if each.score is None else f"{search.objective} {show.percent(each.score)}"
    best = f" (best {show.percent(max(scores))})" if scores else ""
    return f"trial {len(tried)} of {search.trials}: {got}{best}  {_values(each)}"


def _values(each: Tried) -> str:
    return "  ".join(f"{name.replace('_', '-')}={_value(value)}" for name, value in each.values.items())


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _table(tried: Sequence[Tried], search: Search) -> Table:
    scored = sorted((each for each in tried if each.score is not None), key=lambda each: -(each.score or 0))[:SHOWN]
    table = Table(
        title=f"the best of {len(tried)} trials, {search.objective} on validation data, %",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("trial", justify="right")
    table.add_column(search.objective, justify="right")
    for searched in search.ranges:
        table.add_column(searched.name.replace("_", "-"), justify="right")
    for each in scored:
        values = (_value(each.values.get(searched.name, "")) for searched in search.ranges)
        table.add_row(str(each.number), f"{100 * (each.score or 0):.1f}", *values)
    return table
