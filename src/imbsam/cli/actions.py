"""What each command does: call the library, print what came out."""

import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import (
    AnomalyEvaluate,
    AnomalyFit,
    AnomalyScore,
    Command,
    Compare,
    Cost,
    Doctor,
    Evaluate,
    Export,
    Methods,
    Predict,
    Report,
    Reproduce,
    Sharpness,
    Train,
    Tune,
)
from imbsam.cli.progress import ComparisonProgress, RunProgress
from imbsam.config import WITHOUT_EFFECT, Options
from imbsam.errors import OptionError, RunError
from imbsam.models import is_user_code
from imbsam.report import answer, write_report
from imbsam.runs.cost import expected_cost
from imbsam.runs.export import about, export
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.ranks import World
from imbsam.runs.tracking import Store, keep_reports
from imbsam.runs.trained import Trained, check_named
from imbsam.storage.interruption import exit_code
from imbsam.studies.compare import Variant, compare, plan_runs, tracks_of
from imbsam.studies.workers import Workers
from imbsam.training.methods import NAMES


def act(command: Command, words: Sequence[str], world: World | None = None) -> int:
    """Run a command.

    Args:
        command: From :func:`imbsam.cli.commands.parse`.
        words: What the user typed.
        world: The processes that do it; by default there is one.

    Returns:
        The exit code.

    Raises:
        ImbsamError: If the input cannot be used.
        KeyboardInterrupt: If the user interrupts; what was finished is kept.
    """
    warnings.showwarning = show.warning
    found = _acted(command, words, world or World())
    return found if isinstance(found, int) else found.give(as_json=command.json)


def _acted(command: Command, words: Sequence[str], world: World) -> Answer | int:
    """What a command found out, or the exit code of one that was interrupted."""
    match command:
        case Train():
            return train(command, world)
        case Compare():
            return compare_methods(command, words)
        case Tune():
            from imbsam.cli.tune import tune_options

            source = _source(command.source, "tune")
            usual = Path("runs") / f"tune-{_name(source)}-{command.options.method.method}"
            return tune_options(command, source, command.out or usual, words)
        case Cost():
            return cost(command)
        case Reproduce():
            from imbsam.cli.reproduce import Planned, with_recipe

            planned = Planned.of(command)
            if command.dry_run:
                return planned.tried(command.samples_per_second)
            return with_recipe(planned, compare_methods(planned.comparison(), words))
        case Evaluate():
            return evaluate(command)
        case Predict():
            return predict(command)
        case Export():
            return export_run(command)
        case AnomalyFit() | AnomalyScore() | AnomalyEvaluate():
            from imbsam.cli.anomaly import anomaly

            return anomaly(command)
        case Sharpness():
            from imbsam.cli.sharpness import measure_sharpness

            return measure_sharpness(command, words)
        case Report():
            page = write_report(command.folder)
            return Answer({"report": page}, lambda: print(f"report: {page}"))
        case Methods():
            return Answer(show.about_methods(), show.methods)
        case Doctor():
            from imbsam.cli.doctor import doctor

            return doctor()
        case _:
            raise OptionError(f"there is no action for {command!r}.")


def train(command: Train, world: World) -> Answer | int:
    """Train one model, or go on with one."""
    folder, source, options = world.from_first(lambda: _asked(command))
    try:
        with RunProgress(quiet=command.quiet or not world.first) as progress:
            result = fit(
                folder,
                source,
                options,
                overwrite=command.overwrite,
                world=world,
                on_begin=progress.begin,
                on_step=progress.step,
                on_epoch=progress.epoch,
            )
    except KeyboardInterrupt as error:
        world.check()
        _say_how_to_resume(folder, options.model.model)
        return exit_code(error)
    page = world.from_first(lambda: write_report(folder.path))
    if world.first:
        keep_reports(options.training.track, Store.of(folder.path, source), [folder.path])

    def shown() -> None:
        show.result(result)
        print(f"report: {page}")

    return Answer({**asdict(result), "folder": folder.path, "report": page}, shown)


def _asked(command: Train) -> tuple[RunFolder, str, Options]:
    """The folder, the source and the options of the run."""
    if command.resume is not None:
        return _resumed(command)
    source = _source(command.source, "train")
    folder = RunFolder(command.out or _free(Path("runs") / f"{_name(source)}-{_run_name(command)}"))
    if folder.has_checkpoint() and not command.overwrite:
        raise RunError(
            f"{folder.path} holds a run already. Go on with it: imbsam train --resume {folder.path}; "
            "or begin anew with --overwrite."
        )
    return folder, source, command.options


def _resumed(command: Train) -> tuple[RunFolder, str, Options]:
    assert command.resume is not None
    folder = RunFolder(command.resume)
    source, options = folder.read_config()
    if command.source is not None or command.out is not None or command.overwrite:
        raise OptionError(
            "--resume goes on with the source and folder of the run; give neither SOURCE, --out nor --overwrite."
        )
    asked, usual = command.options.flat(), type(command.options)().flat()
    given = {name: value for name, value in asked.items() if value != usual[name]}
    check_named(folder, options.model.model, asked["model"])
    if asked["model"] == options.model.model:
        given.pop("model", None)
    if set(given) - set(WITHOUT_EFFECT):
        raise OptionError(
            f"--resume goes on with the options of the run; only {', '.join(map(show.flag, WITHOUT_EFFECT))} may be "
            "given anew. A new run takes another --out."
        )
    options = options.updated(given)
    if folder.result.exists():
        raise RunError(f"the run in {folder.path} is finished. Its report: imbsam report {folder.path}")
    return folder, source, options


def compare_methods(command: Compare, words: Sequence[str]) -> Answer | int:
    """Train methods times seeds, and report."""
    source = _source(command.source, "compare")
    folder = command.out or Path("runs") / f"compare-{_name(source)}"
    if command.seeds < 1:
        raise OptionError(f"--seeds must be at least 1; got {command.seeds}.")
    workers = Workers(command.jobs, command.backend, command.address)
    first = command.options.training.seed
    variants = _variants(command.methods)
    runs = plan_runs(folder, command.options, variants, range(first, first + command.seeds))
    typed = "imbsam " + shlex.join(words)
    failed = []
    try:
        with ComparisonProgress([run.folder for run in runs], quiet=command.quiet) as progress:
            for outcome in compare(folder, source, runs, workers=workers, command=typed):
                progress.finished(outcome)
                failed += [outcome] if outcome.error else []
    except KeyboardInterrupt as error:
        print("\ninterrupted. Finished runs are kept; the same command goes on:\n  " + typed, file=sys.stderr)
        return exit_code(error)
    if len(failed) == len(runs):
        raise RunError(f"every run failed, the first with: {failed[0].error}")
    page = write_report(folder)
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


def cost(command: Cost) -> Answer:
    """Count the work of each method's steps."""
    source = _source(command.source, "train")
    runs = plan_runs(Path(), command.options, _variants(command.methods), [command.options.training.seed])
    found = {run.label: expected_cost(source, run.options) for run in runs}
    content = {label: {**asdict(each), "ratio": each.ratio} for label, each in found.items()}
    return Answer(content, lambda: show.costs(found))


def _variants(labels: Sequence[str]) -> list[Variant]:
    every = [name for name in NAMES if name != "adamw"]
    return [Variant.parse(label) for label in (every if tuple(labels) == ("all",) else labels)]


def evaluate(command: Evaluate) -> Answer:
    """Measure a trained run."""
    trained = Trained.open(command.run, device=command.device, model=command.model)
    metrics = trained.evaluate(command.source, skip_bad=command.skip_bad)
    return Answer(asdict(metrics), lambda: show.metrics(trained, metrics))


def predict(command: Predict) -> Answer:
    """Write predictions."""
    trained = Trained.open(command.run, device=command.device, model=command.model)
    number, per_class = trained.predict(
        command.source, command.out, all_probabilities=command.all_probabilities, skip_bad=command.skip_bad
    )
    counts = per_class.tolist()
    content = {
        "out": command.out,
        "predictions": number,
        "classes": [{"name": name, "predicted": n} for name, n in zip(trained.classes, counts, strict=True)],
    }
    return Answer(content, lambda: show.predictions(command.out, number, trained.classes, counts))


def export_run(command: Export) -> Answer:
    """Write a run's model as one file."""
    out = command.out or command.run / "model.onnx"
    trained = Trained.open(command.run, device="cpu", model=command.model)
    difference = export(trained, out, adjust=command.adjust)
    text = f"{out}: probabilities as the run's, to {difference:.1g}; {about(out).name} says how to feed it."
    return Answer({"out": out, "about": about(out), "difference": difference}, lambda: print(text))


def _source(source: str | None, command: str) -> str:
    if source is None:
        raise OptionError(
            f"name what to {command} on: imbsam {command} SOURCE, for instance `digits` or a folder of images."
        )
    return source


def _name(source: str) -> str:
    path = Path(source).resolve()
    name = path.name if path.is_dir() or not path.suffix else path.stem
    return re.sub(r"[^\w.+-]+", "-", name).strip("-") or "data"


def _run_name(command: Train) -> str:
    return f"{command.options.method.method}-seed{command.options.training.seed}"


def _free(path: Path) -> Path:
    """The path, or with a number where a run is there already: a default name never overwrites."""
    number, free = 1, path
    while free.exists():
        number += 1
        free = path.with_name(f"{path.name}-{number}")
    return free


def _say_how_to_resume(folder: RunFolder, model: str) -> None:
    if folder.has_checkpoint():
        print(
            f"\ninterrupted. The checkpoint stands; go on with:\n  imbsam train --resume {folder.path}"
            + (f" --model {model}" if is_user_code(model) else ""),
            file=sys.stderr,
        )
    else:
        print("\ninterrupted before the first step: nothing to resume.", file=sys.stderr)
