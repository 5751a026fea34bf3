"""The commands of anomaly detection: fit, score, evaluate."""

import csv
import io
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from imbsam.anomaly.core import Detector, fit
from imbsam.anomaly.labels import ANOMALY, UNLABELLED
from imbsam.anomaly.outstanding import outstanding
from imbsam.anomaly.registry import objective_named, objective_options
from imbsam.anomaly.saved import ABOUT, SavedDetector
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.sources import Block, Words, read_further, read_training
from imbsam.anomaly.threshold import Threshold
from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import AnomalyEvaluate, AnomalyFit, AnomalyScore, DetectorOptions
from imbsam.errors import DataError, OptionError, RunError
from imbsam.metrics.detection import AtThreshold, Evaluation, evaluated
from imbsam.optim import options_of
from imbsam.report.anomaly import AnomalyStudy, Fitted, Outstanding, write_anomaly_report
from imbsam.report.anomaly_fit import FitStudy, write_fit_report
from imbsam.storage.files import harmless, write_json, written_aside
from imbsam.training.methods import values_of

TOP = 20
"""Rows that the report shows."""


def anomaly(command: AnomalyFit | AnomalyScore | AnomalyEvaluate) -> Answer:
    """Run one of the commands.

    Returns:
        What it found out.

    Raises:
        ImbsamError: If the input cannot be used.
    """
    match command:
        case AnomalyFit():
            return _fit(command)
        case AnomalyScore():
            return _score(command)
        case AnomalyEvaluate():
            return _evaluate(command)


def _fit(command: AnomalyFit) -> Answer:
    name = Path(command.source).resolve().name.partition(".")[0]
    folder = command.out or Path("runs") / f"anomaly-{name}"
    if (folder / ABOUT).exists() and not command.overwrite:
        raise RunError(f"{folder} holds a detector already. Replace it with --overwrite, or choose another --out.")
    settings = _settings(command.options, strict=command.strict)
    words = Words(**asdict(command.words))
    block, preprocess, notes = read_training(
        command.source, command.labels, words, ignore=command.ignore, image_size=command.image_size
    )
    assert block.kinds is not None
    unlabelled, anomalies, normal = torch.bincount(block.kinds, minlength=3).tolist()
    if not command.quiet:
        for note in notes:
            show.err.print(f"note: {note}", markup=False)
        what = "x".join(map(str, block.rows.shape[1:])) + (" columns" if block.rows.ndim == 2 else " images")
        show.err.print(
            f"{len(block.rows)} rows, {what}: {anomalies} labelled anomalies, {unlabelled} unlabelled, "
            f"{normal} known to be normal",
            markup=False,
        )
    if not anomalies and not command.strict and objective_named(settings.objective).least_anomalies:
        print(
            f"warning: no row is labelled as an anomaly ({words.anomaly!r}): deep-svdd is fitted, which needs none.",
            file=sys.stderr,
        )
    began = time.perf_counter()
    detector = fit(block.rows, block.kinds, settings, seed=command.seed)
    seconds = time.perf_counter() - began
    typical = block.rows.median(dim=0).values if block.rows.ndim == 2 else torch.zeros(0)
    counts = (unlabelled, anomalies, normal)
    saved = SavedDetector(detector, preprocess, words, typical, command.source, counts)
    saved.write(folder)
    page = _fit_report(folder, saved, block, seconds)
    content = {
        "folder": folder,
        "objective": detector.objective,
        "rows": {"unlabelled": unlabelled, "anomalies": anomalies, "normal": normal},
        "threshold": _plain(detector.threshold),
        "report": page,
    }
    sentences = [
        f"{detector.objective} detector: {folder}",
        about_threshold(detector),
        f"score other rows: imbsam anomaly score {folder} FILE",
        f"report: {page}",
    ]
    return Answer(content, lambda: show.lines(sentences))


def _fit_report(folder: Path, saved: SavedDetector, block: Block, seconds: float) -> Path:
    assert block.kinds is not None
    scores, anomalous = saved.detector.score(block.rows).numpy(), (block.kinds == ANOMALY).numpy()
    top = _Top(TOP)
    top.add(block, np.where((block.kinds == UNLABELLED).numpy(), scores, -np.inf))
    return write_fit_report(
        folder,
        FitStudy(
            detector=_fitted(saved),
            threshold=saved.detector.threshold.value,
            scores=scores,
            anomalous=anomalous,
            top=top.outstanding(saved),
            seconds=seconds,
        ),
    )


def _fitted(saved: SavedDetector) -> Fitted:
    detector = saved.detector
    return Fitted(detector.objective, detector.settings.method, saved.source, saved.counts, about_threshold(detector))


def about_threshold(detector: Detector) -> str:
    """What is known of a detector's threshold, in a sentence without a full stop."""
    threshold = detector.threshold
    if threshold.anomalies:
        return (
            f"threshold {threshold.value:.4g}: estimated to find {show.percent(threshold.recall)} of the anomalies, "
            f"with false alarms on {show.percent(threshold.false_alarm_rate)} of the other rows "
            f"(held out: {threshold.anomalies} labelled anomalies, {threshold.others} other rows)"
        )
    share = detector.settings.contamination
    how = "10 %, the usual share" if share == "auto" else show.percent(float(share))
    return f"threshold {threshold.value:.4g}: calls {how} of the training rows anomalies; nothing was estimated"


def _settings(chosen: DetectorOptions, *, strict: bool) -> Settings:
    given: dict[str, object] = {name: value for name, value in asdict(chosen).items() if value not in (None, ())}
    share = given.get("contamination")
    if isinstance(share, str) and share != "auto":
        try:
            given["contamination"] = float(share)
        except ValueError:
            raise OptionError(f"--contamination must be auto or a share in (0, 0.5]; got {share!r}.") from None
    settings = Settings(**{name: v for name, v in given.items() if not name.endswith("_options")}, strict=strict)  # type: ignore[arg-type]
    own = values_of(chosen.objective_options, "--objective-options", objective_options(settings.objective))
    method = values_of(chosen.method_options, "--method-options", options_of(settings.method))
    return replace(settings, objective_options=own, method_options=method)


def _score(command: AnomalyScore) -> Answer:
    if command.out.resolve() == Path(command.source).resolve():
        raise OptionError(f"--out {command.out} would replace the rows to score. Choose another file.")
    saved = SavedDetector.open(command.detector, device=command.device)
    rows = alarms = 0
    with written_aside(command.out) as file:
        text = io.TextIOWrapper(file, "utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([harmless(command.id or "row"), "score", "anomaly"])
        for block in read_further(command.source, saved.preprocess, saved.words, names=command.id):
            scores = saved.detector.score(block.rows)
            called = scores > saved.detector.threshold.value
            names = [harmless(name) for name in block.names]
            writer.writerows(zip(names, map(repr, scores.tolist()), called.int().tolist(), strict=True))
            rows += len(scores)
            alarms += int(called.sum())
        text.detach()
    sentences = [f"{alarms} anomalies in {rows} rows: {command.out}"]
    return Answer({"out": command.out, "rows": rows, "anomalies": alarms}, lambda: show.lines(sentences))


def _evaluate(command: AnomalyEvaluate) -> Answer:
    saved = SavedDetector.open(command.detector, device=command.device)
    preprocess = saved.preprocess if command.labels is None else {**saved.preprocess, "labels": command.labels}
    scores, truth, top = [], [], _Top(TOP)
    for block in read_further(command.source, preprocess, saved.words, labelled=True, names=command.id):
        found = saved.detector.score(block.rows).numpy()
        assert block.kinds is not None
        scores.append(found)
        truth.append((block.kinds == ANOMALY).numpy())
        top.add(block, found)
    if not scores:
        raise DataError(f"{command.source} has no rows.")
    every, anomalous = np.concatenate(scores), np.concatenate(truth)
    evaluation = evaluated(every, anomalous, saved.detector.threshold.value)
    folder = command.out or command.detector
    write_json(folder / "evaluation.json", {"source": command.source, **_numbers(evaluation)})
    page = write_anomaly_report(
        folder,
        AnomalyStudy(
            detector=_fitted(saved),
            source=command.source,
            evaluation=evaluation,
            scores=every,
            anomalous=anomalous,
            top=top.outstanding(saved),
        ),
    )
    sentences = [*_sentences(evaluation), f"report: {page}"]
    return Answer({**_numbers(evaluation), "report": page}, lambda: show.lines(sentences))


class _Top:
    """The rows with the highest scores of all blocks so far."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: list[tuple[float, str, bool, torch.Tensor, object]] = []

    def add(self, block: Block, scores: "np.ndarray") -> None:
        assert block.kinds is not None
        for place in np.argsort(-scores, kind="stable")[: self.number].tolist():
            frame = None if block.frame is None else block.frame.iloc[place]
            known = bool(block.kinds[place] == ANOMALY)
            self.rows.append((float(scores[place]), block.names[place], known, block.rows[place], frame))
        self.rows = sorted(self.rows, key=lambda row: -row[0])[: self.number]

    def outstanding(self, saved: SavedDetector) -> list[Outstanding]:
        """The rows with what stands out in them."""
        return [
            Outstanding(name, score, known, outstanding(saved, row, frame))
            for score, name, known, row, frame in self.rows
            if np.isfinite(score)
        ]


def _numbers(evaluation: Evaluation) -> dict[str, object]:
    return {
        "rows": evaluation.rows,
        "anomalies": evaluation.anomalies,
        "auroc": asdict(evaluation.auroc),
        "average_precision": asdict(evaluation.average_precision),
        "at_threshold": _plain(evaluation.chosen),
        "trade_off": [_plain(found) for found in evaluation.trade_off],
    }


def _plain(found: AtThreshold | Threshold) -> dict[str, float | None]:
    """Its values, None where it has none."""
    return {name: value if value == value else None for name, value in asdict(found).items()}


def _sentences(evaluation: Evaluation) -> list[str]:
    auroc, precision, chosen = evaluation.auroc, evaluation.average_precision, evaluation.chosen
    share = evaluation.anomalies / evaluation.rows
    of_alarms = (
        "no row is called one" if chosen.alarms == 0 else f"{show.percent(chosen.precision)} of its alarms are right"
    )
    return [
        f"{evaluation.anomalies} anomalies among {evaluation.rows} rows ({show.percent(share)})",
        f"AUROC {auroc.value:.3f} (95 % interval {auroc.low:.3f} to {auroc.high:.3f})",
        f"average precision {precision.value:.3f} ({precision.low:.3f} to {precision.high:.3f}); chance is {share:.3f}",
        f"at the threshold it finds {show.percent(chosen.recall)} of the anomalies; {of_alarms}; "
        f"{chosen.alarms:.1f} alarms in 1,000 rows",
    ]
