"""Actions of the commands: call the library, print the result."""

import sys
import warnings
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from imbsam import report
from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import (
    AnomalyCompare,
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
    Retrain,
    Sharpness,
    Train,
    Tune,
)
from imbsam.cli.dry_run import tried
from imbsam.cli.progress import RunProgress
from imbsam.cli.stdin import path_of
from imbsam.config import Options
from imbsam.errors import OptionError, RunError
from imbsam.models import is_user_code
from imbsam.runs.cost import expected_cost
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.going_on import begun
from imbsam.runs.places import REPORT_FILES, RUNS, called_by, check_file, check_run, free
from imbsam.runs.ranks import World
from imbsam.runs.retraining import check_first, retrain
from imbsam.runs.tracking import Store, chosen, keep_reports
from imbsam.runs.trained import Trained
from imbsam.storage.interruption import exit_code
from imbsam.storage.outputs import check_folder
from imbsam.storage.texts import quoted
from imbsam.studies.compare import PlannedRun, Variant, every_method, plan_runs
from imbsam.studies.dry_run import dry_run
from imbsam.training.methods import AUTO, usual_method


def act(command: Command, words: Sequence[str], world: World | None = None) -> int:
    """Run a command that the user typed as ``words``, and return the exit code."""
    warnings.showwarning = show.warning
    found = _acted(command, words, world or World())
    return found if isinstance(found, int) else found.give(as_json=command.json)


def _acted(command: Command, words: Sequence[str], world: World) -> Answer | int:
    """Return the answer of a command, or the exit code of one that was interrupted."""
    match command:
        case Train():
            return train(command, world)
        case Compare():
            from imbsam.cli.compare import compare_methods

            return compare_methods(command, words)
        case Tune():
            from imbsam.cli.tune import tune_options

            source = _source(command.source, "tune")
            command = replace(command, options=usual_method(command.options, is_table=False))
            usual = RUNS / f"tune-{called_by(source)}-{command.options.method.method}"
            return tune_options(command, source, command.out or usual, words)
        case Cost():
            return cost(command)
        case Retrain():
            return retrain_classifier(command, words)
        case Evaluate():
            return evaluate(command)
        case Predict():
            return predict(command)
        case Export():
            return export_run(command)
        case AnomalyCompare():
            from imbsam.cli.anomaly_compare import compare_anomaly

            return compare_anomaly(command)
        case AnomalyFit() | AnomalyScore() | AnomalyEvaluate():
            from imbsam.cli.anomaly import anomaly

            return anomaly(command)
        case Sharpness():
            from imbsam.cli.sharpness import measure_sharpness

            return measure_sharpness(command, words)
        case Report():
            if command.folder.is_dir():
                check_folder(command.folder, REPORT_FILES)
            page = report.write_report(command.folder)
            return Answer({"report": page}, lambda: print(f"report: {page}"))
        case Methods():
            return Answer(show.about_methods(), show.methods)
        case Doctor():
            from imbsam.cli.doctor import doctor

            return doctor()
        case _:
            raise OptionError(f"there is no action for {command!r}.")


def train(command: Train, world: World) -> Answer | int:
    """Train one model, or resume a run."""
    folder, source, options = world.from_first(lambda: _asked(command))
    if command.dry.dry_run:
        # Of a table it is refused once the data are read: a blend makes no steps.
        label = usual_method(options, is_table=False).method.method
        run, speed = PlannedRun(folder.path, label, options), command.dry.samples_per_second
        return tried(world.from_first(lambda: dry_run(source, [run], samples_per_second=speed)), source)
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
    page = world.from_first(lambda: report.write_report(folder.path))
    if world.first:
        keep_reports(options.training.track, Store.of(folder.path, source), [folder.path])

    def shown() -> None:
        show.result(result)
        print(f"report: {page}")

    return Answer({**asdict(result), "folder": folder.path, "report": page}, shown)


def _asked(command: Train) -> tuple[RunFolder, str, Options]:
    """Return the folder, the source and the options of the run."""
    command.dry.check()
    if command.resume is not None:
        if command.source is not None or command.out is not None or command.overwrite or command.dry.dry_run:
            raise OptionError(
                "--resume uses the source and folder of the run; leave out SOURCE, --out, --overwrite and --dry-run."
            )
        folder, source, options = begun(command.resume, command.options)
        check_run(folder.path, source)
        return folder, source, options
    source = _source(command.source, "train")
    method = command.options.method.method
    named = "" if method == AUTO else f"-{method}"
    usual = f"{called_by(source)}{named}-seed{command.options.training.seed}"
    folder = RunFolder(command.out or free(RUNS / usual))
    if (folder.has_checkpoint() or folder.result.exists()) and not command.overwrite:
        raise RunError(
            f"{folder.path} holds a run already. Resume it: imbsam train --resume {quoted(str(folder.path))}; or start "
            "again with --overwrite."
        )
    if not command.dry.dry_run:
        check_run(folder.path, source)
        chosen(command.options.training.track)
    return folder, source, command.options


def cost(command: Cost) -> Answer:
    """Count the work of each method's steps."""
    source = _source(command.source, "train")
    variants = [Variant.parse(label) for label in every_method(command.methods)]
    runs = plan_runs(Path(), command.options, variants, [command.options.training.seed])
    found = {run.label: expected_cost(source, run.options) for run in runs}
    content = {label: {**asdict(each), "ratio": each.ratio} for label, each in found.items()}
    return Answer(content, lambda: show.costs(found))


def retrain_classifier(command: Retrain, words: Sequence[str]) -> Answer | int:
    """Retrain the classifier of a run."""
    command.options.check()
    out = command.out or free(command.run.resolve().with_name(f"{command.run.resolve().name}-{command.options.how}"))
    check_first(command.run, out)
    try:
        with RunProgress(quiet=command.quiet) as progress:
            result = retrain(
                command.run,
                out,
                command.options,
                device=command.device,
                model=command.model,
                on_step=progress.step,
                on_epoch=progress.epoch,
            )
    except KeyboardInterrupt as error:
        typed = " ".join(["imbsam", *map(quoted, words)])
        print(f"\ninterrupted. The first run is kept; start the second stage again with:\n  {typed}", file=sys.stderr)
        return exit_code(error)
    page = report.write_report(out)

    def shown() -> None:
        show.result(result)
        assert result.second_stage is not None
        show.lines([f"second stage: {result.second_stage.told()}"])
        print(f"report: {page}")

    return Answer({**asdict(result), "folder": out, "report": page}, shown)


def evaluate(command: Evaluate) -> Answer:
    """Evaluate a trained run."""
    trained = _opened(command, command.device)
    metrics = trained.evaluate(command.source, skip_bad=command.skip_bad, dialect=command.file.dialect())
    content = {**asdict(metrics), "prices": list(trained.read.prices), "tta": trained.tta}
    return Answer(content, lambda: show.metrics(trained, metrics))


def predict(command: Predict) -> Answer:
    """Write predictions."""
    check_file(command.out, command.source)
    trained = _opened(command, command.device)
    with path_of(command.source) as source, show.noted() as notes:
        number, per_class = trained.predict(
            source,
            command.out,
            all_probabilities=command.all_probabilities,
            skip_bad=command.skip_bad,
            dialect=command.file.dialect(),
        )
    counts = per_class.tolist()
    content = {
        "out": command.out,
        "predictions": number,
        "notes": notes,
        "prices": list(trained.read.prices),
        "tta": trained.tta,
        "classes": [{"name": name, "predicted": n} for name, n in zip(trained.classes, counts, strict=True)],
    }

    def shown() -> None:
        show.lines(trained.read.prices)
        show.lines(show.mirrored(trained))
        show.predictions(command.out, trained.classes, counts)

    return Answer(content, shown)


def export_run(command: Export) -> Answer:
    """Write a run's model as one file."""
    # With it come pandas and pyarrow, for which a first step need not wait.
    from imbsam.runs.export import about, check, export

    out = command.out or command.run / "model.onnx"
    check(out)
    trained = _opened(command, "cpu")
    difference = export(trained, out)
    text = f"{out}: probabilities as the run's, to {difference:.1g}; {about(out).name} describes inputs and outputs."
    content = {"out": out, "about": about(out), "difference": difference, "prices": list(trained.read.prices)}
    return Answer(content, lambda: show.lines([*trained.read.prices, text]))


def _opened(command: Evaluate | Predict | Export, device: str) -> Trained:
    """Return the run, with the decisions that the user asks for now."""
    trained = Trained.open(command.run, device=device, model=command.model)
    if not isinstance(command, Export):
        trained = trained.averaged_over(command.tta)
    return trained if command.decision.asked is None else trained.decided(command.decision.asked)


def _source(source: str | None, command: str) -> str:
    if source is None:
        raise OptionError(
            f"name what to {command} on: imbsam {command} SOURCE, for example `digits` or a folder of images."
        )
    return source


def _say_how_to_resume(folder: RunFolder, model: str) -> None:
    if folder.has_checkpoint():
        print(
            f"\ninterrupted. The checkpoint is kept; resume with:\n  imbsam train --resume {quoted(str(folder.path))}"
            + (f" --model {model}" if is_user_code(model) else ""),
            file=sys.stderr,
        )
    else:
        print("\ninterrupted before the first step: nothing to resume.", file=sys.stderr)
