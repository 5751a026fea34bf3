"""The command ``imbsam compare``, with or without a recipe, and ``imbsam reproduce``, its short form."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from imbsam import report
from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import Compare, Reproduce
from imbsam.cli.dry_run import tried
from imbsam.cli.progress import ComparisonProgress
from imbsam.errors import OptionError, RunError
from imbsam.report.words import answer
from imbsam.runs.places import REPORT_FILES, RUNS, called_by, check_apart, check_run
from imbsam.runs.tracking import Store, keep_reports
from imbsam.storage.files import write_atomically
from imbsam.storage.interruption import exit_code
from imbsam.storage.outputs import check_folder
from imbsam.storage.texts import quoted
from imbsam.studies.compare import PlannedRun, Variant, compare, every_method, plan_runs, state_of, tracks_of
from imbsam.studies.dry_run import dry_run
from imbsam.studies.recipes import Recipe
from imbsam.studies.workers import Workers


def compare_methods(command: Compare, words: Sequence[str]) -> Answer | int:
    """Train methods times seeds, and report."""
    command.dry.check()
    recipe = None if command.recipe is None else Recipe.read(command.recipe)
    place = _named(command, recipe)
    folder = command.out or RUNS / (f"compare-{called_by(place)}" if recipe is None else recipe.name)
    if command.seeds < 1:
        raise OptionError(f"--seeds must be at least 1; got {command.seeds}.")
    workers = Workers(command.jobs, command.backend, command.address)
    labels = every_method(command.methods)
    variants = [Variant.parse(label) for label in (labels if recipe is None else recipe.labels(labels))]
    first = command.options.training.seed
    runs = plan_runs(folder, command.options, variants, range(first, first + command.seeds))
    source = place if recipe is None else recipe.source(place)
    # Before anything is written: a folder of other runs is told at once.
    left = [run for run in runs if state_of(run, source) != "finished"]
    if command.dry.dry_run:
        found = dry_run(
            source,
            runs[: len(variants)],
            samples_per_second=command.dry.samples_per_second,
            # A layout names every file; to open hundreds of thousands takes an hour.
            open_all=recipe is None or recipe.layout is None,
        )
        return _with_recipe(recipe, tried(found, source, command.seeds))
    check_folder(folder, ("comparison.json", "recipe.yaml", *REPORT_FILES))
    for run in left:
        check_run(run.folder, source)
    check_apart(folder / "report.html", source)
    if recipe is not None:
        write_atomically(folder / "recipe.yaml", recipe.text)
    made = _made(command, folder, source, runs, " ".join(["imbsam", *map(quoted, words)]), workers, left=left)
    return made if isinstance(made, int) else _with_recipe(recipe, made)


def _made(
    command: Compare,
    folder: Path,
    source: str,
    runs: Sequence[PlannedRun],
    typed: str,
    workers: Workers,
    *,
    left: Sequence[PlannedRun],
) -> Answer | int:
    """Make the runs that are not finished yet, and report."""
    failed = []
    report.load_ahead()
    try:
        with ComparisonProgress([run.folder for run in runs], quiet=command.quiet) as progress:
            for outcome in compare(folder, source, runs, workers=workers, command=typed):
                progress.finished(outcome)
                failed += [outcome] if outcome.error else []
    except KeyboardInterrupt as error:
        print("\ninterrupted. Finished runs are kept; continue with the same command:\n  " + typed, file=sys.stderr)
        return exit_code(error)
    workers.end(len(left))
    if len(failed) == len(runs):
        raise RunError(f"every run failed, the first with: {failed[0].error}")
    page = report.write_report(folder)
    keep_reports(tracks_of(runs), Store.of(folder), [folder, *(run.folder for run in runs)])
    for outcome in failed:
        print(f"imbsam: {outcome.run.folder.name} failed: {outcome.error}", file=sys.stderr)
    summary = show.summary_of(folder, [run.folder for run in runs])

    def shown() -> None:
        show.comparison(summary, source)
        print(f"report: {page}")

    content = {"source": source, "folder": folder, "report": page, "answer": answer(summary), **asdict(summary)}
    content["failed"] = {outcome.run.folder.name: outcome.error for outcome in failed}
    return Answer(content, shown, code=1 if failed else 0)


def _named(command: Compare, recipe: Recipe | None) -> str:
    """Return the data that the user named."""
    if command.source is not None:
        return command.source
    if recipe is None:
        raise OptionError("name what to compare on: imbsam compare SOURCE, for example `digits` or a folder of images.")
    typed = f"reproduce {command.recipe} --data" if isinstance(command, Reproduce) else "compare"
    rest = "" if isinstance(command, Reproduce) else f" --recipe {command.recipe}"
    needed = "" if recipe.layout is None else f" {recipe.layout.needed}"
    raise OptionError(f"name the data: imbsam {typed} SOURCE{rest}.{needed}")


def _with_recipe(recipe: Recipe | None, found: Answer) -> Answer:
    """Add the recipe's own description to the answer."""
    if recipe is None:
        return found
    head = recipe.head

    def shown() -> None:
        show.lines([f"{recipe.name}: {head.about}".rstrip(": ")])
        for title, sentences in (
            ("sources of its values", head.origin),
            ("differences from the paper", head.differs),
            ("what others report", head.reported),
        ):
            show.lines(["", f"{title}:", *(f"  - {sentence}" for sentence in sentences)] if sentences else [])
        print()
        found.show()

    return Answer(
        {**cast(Mapping[str, object], found.content), "recipe": recipe.name, **asdict(head)}, shown, found.code
    )
