"""Commands of anomaly detection: fit, score, evaluate."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from imbsam.anomaly.core import named, objective_for
from imbsam.anomaly.registry import objective_options
from imbsam.anomaly.saved import ABOUT, WEIGHTS, SavedDetector
from imbsam.anomaly.scoring import evaluate, none_for_nan, write_scores
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.sources import Block, Preprocess, read_training
from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import AnomalyEvaluate, AnomalyFit, AnomalyScore, LabelledRows
from imbsam.cli.stdin import path_of
from imbsam.data.sources.raw import Request
from imbsam.errors import RunError
from imbsam.metrics.detection import Evaluation
from imbsam.optim import options_of
from imbsam.report.anomaly import AnomalyStudy, Fitted, about_threshold, write_anomaly_report
from imbsam.report.anomaly_fit import FitStudy, write_fit_report
from imbsam.runs.places import REPORT_FILES, RUNS, called_by, check_apart, check_file
from imbsam.storage.files import write_json
from imbsam.storage.outputs import check_folder
from imbsam.storage.texts import quoted
from imbsam.training.methods import values_of


def anomaly(command: AnomalyFit | AnomalyScore | AnomalyEvaluate) -> Answer:
    """Run one of the commands."""
    match command:
        case AnomalyFit():
            return _fit(command)
        case AnomalyScore():
            return _score(command)
        case AnomalyEvaluate():
            return _evaluate(command)


def _fit(command: AnomalyFit) -> Answer:
    source, words = command.source, command.words
    folder = command.out or RUNS / f"anomaly-{called_by(source)}"
    if (folder / ABOUT).exists() and not command.overwrite:
        raise RunError(f"{folder} holds a detector already. Replace it with --overwrite, or choose another --out.")
    check_folder(folder, (ABOUT, WEIGHTS, "fit.html", "figures/figure.png"))
    check_apart(folder / ABOUT, source)
    training, preprocess, notes = labelled_rows(command)
    settings = _with_own_options(command.settings, training.rows.shape[1:])
    if not command.quiet:
        show.err.print(*(f"note: {note}" for note in notes), _about(training), sep="\n")
    objective = objective_for(training.known, settings)
    if objective != settings.objective:
        print(
            f"warning: no row is labelled as an anomaly ({words.anomaly!r}): {objective} is fitted, which needs no "
            "labels.",
            file=sys.stderr,
        )
    began = time.perf_counter()
    saved = SavedDetector.fit(training, preprocess, words, source, settings, seed=command.seed)
    seconds = time.perf_counter() - began
    saved.write(folder)
    page = write_fit_report(folder, FitStudy.of(saved, training, seconds))
    content = {
        "folder": folder,
        "objective": objective,
        "rows": dict(zip(("unlabelled", "anomalies", "normal"), saved.counts, strict=True)),
        "threshold": none_for_nan(asdict(saved.detector.threshold)),
        "notes": notes,
        "report": page,
    }
    sentences = [
        f"{objective} detector: {folder}",
        about_threshold(saved.detector),
        f"score other rows: imbsam anomaly score {quoted(str(folder))} FILE",
        f"report: {page}",
    ]
    return Answer(content, lambda: show.lines(sentences))


def labelled_rows(command: LabelledRows) -> tuple[Block, Preprocess, tuple[str, ...]]:
    """Read the rows that a command names, see :func:`imbsam.anomaly.sources.read_training`."""
    request = Request(
        skip_bad=command.skip_bad,
        ignore=command.ignore,
        texts=command.text,
        dialect=command.file.dialect(command.missing),
    )
    return read_training(command.source, command.labels, command.words, request=request, image_size=command.image_size)


def _with_own_options(settings: Settings, shape: Sequence[int]) -> Settings:
    """Return the options with the name of the objective, and with its options and the method's parsed from text."""

    def read(typed: Mapping[str, object], option: str, defaults: Mapping[str, object]) -> dict[str, object]:
        return values_of([f"{name}={value}" for name, value in typed.items()], option, defaults)

    objective = named(settings.objective, shape)
    own = read(settings.objective_options, "--objective-options", objective_options(objective))
    method = read(settings.method_options, "--method-options", options_of(settings.method))
    return replace(settings, objective=objective, objective_options=own, method_options=method)


def _about(training: Block) -> str:
    unlabelled, anomalies, normal = training.counts
    what = "x".join(map(str, training.rows.shape[1:])) + (" columns" if training.rows.ndim == 2 else " images")
    return (
        f"{len(training.rows)} rows, {what}: {anomalies} labelled anomalies, {unlabelled} unlabelled, "
        f"{normal} known to be normal"
    )


def _score(command: AnomalyScore) -> Answer:
    check_file(command.out, command.source)
    saved = SavedDetector.open(command.detector, device=command.device)
    with path_of(command.source) as source:
        found = write_scores(saved, source, command.out, names=command.id, request=_later(command))
    for note in found.notes:
        show.warn(note)
    sentences = [f"{found.alarms} anomalies in {found.rows} rows: {command.out}"]
    content = {"out": command.out, "rows": found.rows, "anomalies": found.alarms, "notes": found.notes}
    return Answer(content, lambda: show.lines(sentences))


def _later(command: AnomalyScore | AnomalyEvaluate) -> Request:
    """Return the options of reading later files."""
    return Request(skip_bad=command.skip_bad, dialect=command.file.dialect())


def _evaluate(command: AnomalyEvaluate) -> Answer:
    folder = command.out or command.detector
    check_folder(folder, ("evaluation.json", *REPORT_FILES))
    saved = SavedDetector.open(command.detector, device=command.device)
    request = _later(command)
    found = evaluate(saved, command.source, labels=command.labels, names=command.id, request=request)
    for note in found.notes:
        show.warn(note)
    numbers = found.numbers()
    write_json(folder / "evaluation.json", {"source": command.source, **numbers})
    page = write_anomaly_report(
        folder,
        AnomalyStudy(
            detector=Fitted.of(saved),
            source=command.source,
            evaluation=found.evaluation,
            scores=found.scores,
            anomalous=found.anomalous,
            top=found.top,
        ),
    )
    sentences = [*_sentences(found.evaluation), f"report: {page}"]
    return Answer({**numbers, "report": page}, lambda: show.lines(sentences))


def _sentences(evaluation: Evaluation) -> list[str]:
    auroc, precision, chosen = evaluation.auroc, evaluation.average_precision, evaluation.chosen
    share = evaluation.anomalies / evaluation.rows
    of_alarms = (
        "no row is called an anomaly"
        if chosen.alarms == 0
        else f"{show.percent(chosen.precision)} of its alarms are anomalies"
    )
    return [
        f"{evaluation.anomalies} anomalies among {evaluation.rows} rows ({show.percent(share)})",
        f"AUROC {auroc.value:.3f} (95 % interval {auroc.low:.3f} to {auroc.high:.3f})",
        f"average precision {precision.value:.3f} ({precision.low:.3f} to {precision.high:.3f}); chance is {share:.3f}",
        f"at the threshold it finds {show.percent(chosen.recall)} of the anomalies; {of_alarms}; "
        f"{chosen.alarms:.1f} alarms in 1,000 rows",
    ]
