"""Second stage of a finished run: its classifier is retrained, as a run of its own beside it."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from imbsam import data
from imbsam.errors import OptionError, RunError
from imbsam.inputs import ImageSpec
from imbsam.runs.fit import OnEpoch
from imbsam.runs.folder import RunFolder
from imbsam.runs.outcome import Made, outcome, posterior_at
from imbsam.runs.places import check_run
from imbsam.runs.reading import measured
from imbsam.runs.records import EpochRecord, Result
from imbsam.runs.retraining_options import RetrainingOptions
from imbsam.runs.trained import Trained
from imbsam.storage.files import alone
from imbsam.training import setup
from imbsam.training.determinism import deterministic
from imbsam.training.evaluation import outputs_of
from imbsam.training.methods import BLENDS
from imbsam.training.retraining import Cut, best_tau, features_of, normalise, retrained, spread, usual_lr
from imbsam.training.second_stage import SecondStage
from imbsam.training.threads import threads

USUAL_EPOCHS = {"crt": 10, "smoothed": 20, "tau-norm": 0}


def check_first(path: Path, out: Path) -> None:
    """Check, before anything slow, that a run can have a second stage, and that there is room for it.

    Args:
        path: Folder of the run.
        out: Folder of the second stage.

    Raises:
        OptionError: If the run is a blend, or a second stage itself.
        RunError: If there is no finished run, or something exists at ``out``.
    """
    first = RunFolder(path)
    source, options = first.read_config()
    if options.method.method in BLENDS:
        raise OptionError(
            f"the run in {path} is of --method {options.method.method}, which has no last layer to retrain: choose "
            "a run of a network."
        )
    if (second := first.read_second_stage()) is not None:
        raise OptionError(f"the run in {path} is a second stage itself: retrain its first stage, {second.of}.")
    if first.weights.exists() and not first.result.exists():
        raise RunError(f"the run in {path} is not finished. Resume it: imbsam train --resume {path}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise RunError(f"{out} exists already. Choose another --out.")
    check_run(out, source)


def retrain(
    path: Path,
    out: Path,
    options: RetrainingOptions,
    *,
    device: str = "auto",
    model: str | None = None,
    on_step: Callable[[int, int, int, int], None] | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Retrain the classifier of a finished run, and write the result as a run of its own.

    The folder gets its name when all of it is written: until then nothing exists at ``out``, and an interrupted
    training starts again. The first run is only read.

    Args:
        path: Folder of the first run.
        out: Folder of the new run; it does not exist, or is empty.
        options: Options of the second stage.
        device: Device that computes.
        model: ``package.module:callable`` if the run's model is one.
        on_step: Function called after each epoch with one of one steps made, the epoch from 1, and the number of
            epochs.
        on_epoch: Function called with the record of each epoch.

    Returns:
        The outcome.

    Raises:
        ImbsamError: If the run, its data or an option cannot be used, or the loss became NaN or infinite.
    """
    options.check()
    check_first(path, out)
    trained = Trained.open(path, device=device, model=model)
    if not isinstance(trained.spec, ImageSpec):
        raise OptionError(f"imbsam retrain is for images, but the run in {path} is of a table.")
    first = RunFolder(path)
    before = first.read_result()
    cut = Cut(trained.model, trained.options.model.model, len(trained.classes))
    chosen = trained.options.updated({"device": device})
    problem = setup.load_problem(trained.source, chosen, held=trained.preprocess)
    problem.check_same_data(trained.classes, trained.priors.counts.tolist())
    unfinished = RunFolder(out.with_name(f".{out.name}.unfinished"))
    training = trained.options.training
    with alone(unfinished.path), deterministic(training.deterministic) as without, threads(training.threads):
        try:
            unfinished.clear()
            unfinished.write_data(first.read_data())
            unfinished.write_config(trained.source, trained.options)
            stage, seconds = _remade(cut, problem, unfinished, _stage(path, trained, options), on_step, on_epoch)
            unfinished.write_second_stage(stage)
            unfinished.write_weights(cut.model.state_dict(), stage.epochs)
            rows = stage.epochs * len(problem.dataset.train)
            notes = [f"second stage: {stage.told()}"]
            if without:
                notes.append(f"without a deterministic algorithm, so that runs may differ: {', '.join(without)}.")
            made = Made(stage.epochs, stage.epochs, seconds, rows, rows, notes, second=stage)
            result = outcome(problem, unfinished, f"{before.label}, {stage.how}", cut.model, made)
            result = replace(result, name=out.name, config=before.config)
            unfinished.write_result(result)
            _take_place(unfinished.path, out)
        except BaseException:
            unfinished.clear()
            with suppress(OSError):
                unfinished.path.rmdir()
            raise
    return result


def _stage(path: Path, trained: Trained, options: RetrainingOptions) -> SecondStage:
    """Return what is to be done, with every open option but tau filled in."""
    if options.how == "tau-norm":
        return SecondStage(path.resolve().name, options.how, 0, None, options.tau)
    epochs = options.epochs or USUAL_EPOCHS[options.how]
    lr = options.lr or usual_lr(trained.options, options.how)
    return SecondStage(path.resolve().name, options.how, epochs, lr, None)


def _remade(
    cut: Cut,
    problem: setup.Problem,
    folder: RunFolder,
    stage: SecondStage,
    on_step: Callable[[int, int, int, int], None] | None,
    on_epoch: OnEpoch | None,
) -> tuple[SecondStage, float]:
    """Retrain the classifier, and write a line of metrics per epoch; return what was done and its time in seconds."""
    began, dataset = time.perf_counter(), problem.dataset
    held_out = dataset.train if dataset.validation is None else dataset.validation
    some = torch.arange(min(4, len(held_out)))
    cut.check(data.evaluation_transform(dataset.spec)(held_out.batch(some), None).to(problem.device))

    def spread_of_outputs() -> float:
        return spread(outputs_of(cut.model, held_out, dataset.spec, problem.options))

    spread_before = spread_of_outputs()
    if stage.how == "tau-norm":
        stage = replace(stage, tau=_tau(cut, problem) if stage.tau is None else stage.tau)
        assert stage.tau is not None
        normalise(cut, stage.tau)
    else:
        _train(cut, problem, folder, stage, on_step, on_epoch)
    folder.metrics.touch()
    if stage.how != "crt":
        spread_now = spread_of_outputs()
        stage = replace(stage, scale=spread_before / spread_now if spread_before > 0 and spread_now > 0 else 1.0)
    return stage, time.perf_counter() - began


def _tau(cut: Cut, problem: setup.Problem) -> float:
    samples = problem.dataset.validation
    if samples is None:
        raise OptionError("the run has no validation data to choose tau on: give a value, for example --tau 1.")
    return best_tau(features_of(cut, samples, problem), samples.targets, cut.layer.weight.detach().cpu())


def _train(
    cut: Cut,
    problem: setup.Problem,
    folder: RunFolder,
    stage: SecondStage,
    on_step: Callable[[int, int, int, int], None] | None,
    on_epoch: OnEpoch | None,
) -> None:
    began, samples = time.perf_counter(), problem.dataset.validation
    for number, (loss, lr) in enumerate(retrained(cut, problem, stage), start=1):
        found = None
        if samples is not None:
            scored = outputs_of(cut.model, samples, problem.dataset.spec, problem.options), samples.targets
            found = measured(posterior_at(problem, number, second=stage), scored, problem.groups, problem.tail)
        record = EpochRecord(
            epoch=number,
            epochs=stage.epochs,
            lr=lr,
            rho=0.0,
            train_loss=loss,
            skipped=0,
            seconds=time.perf_counter() - began,
            validation=None if found is None else replace(found, confusion=None),
        )
        folder.append_metrics(record)
        if on_step is not None:
            on_step(1, 1, number, stage.epochs)
        if on_epoch is not None:
            on_epoch(record)
        began = time.perf_counter()


def _take_place(unfinished: Path, out: Path) -> None:
    try:
        if out.exists():
            out.rmdir()
        unfinished.replace(out)
    except OSError as error:
        raise RunError(f"cannot write {out}: {error.strerror or error}. Choose another --out.") from None
