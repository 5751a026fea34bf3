"""Training a model from the beginning, or resuming a run: locks, trackers, signals and ranks around the loop."""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict

from imbsam.config import Options
from imbsam.errors import DataError, NonFiniteError, OptionError, RunWarning
from imbsam.models.blend import Blend
from imbsam.runs.folder import RunFolder
from imbsam.runs.loop import OnStep, Training
from imbsam.runs.outcome import Made, check_decided, outcome
from imbsam.runs.ranks import World
from imbsam.runs.records import DataRecord, EpochRecord, Result
from imbsam.runs.tracking import Store, Tracker, opened, sync
from imbsam.storage.files import alone
from imbsam.storage.interruption import held_back
from imbsam.training import setup
from imbsam.training.determinism import deterministic
from imbsam.training.methods import BLENDS, usual_method
from imbsam.training.threads import threads

OnBegin = Callable[[Sequence[str]], None]
OnEpoch = Callable[[EpochRecord], None]


def fit(
    folder: RunFolder,
    source: str,
    options: Options,
    *,
    label: str | None = None,
    store: Store | None = None,
    overwrite: bool = False,
    world: World | None = None,
    on_begin: OnBegin | None = None,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
) -> Result:
    """Train one model from the beginning, or resume from the folder's last checkpoint.

    SIGINT and SIGTERM wait for the end of the step and a checkpoint; then they act as before.

    Args:
        folder: Folder to write to. If it contains a checkpoint of this run, training resumes from there.
        source: The data.
        options: Options of the run; those left open are filled in.
        label: Name of the variant in reports; by default the method.
        store: Place in MLflow where the run of a comparison or study is tracked; by default that of a single run.
        overwrite: Remove the run in the folder and start again, once data and options have proved usable.
        world: Processes that share the run, each of which calls this function; by default there is one. With several,
            only the first evaluates, writes and calls back.
        on_begin: Function called with the notes on the data, before the first epoch.
        on_step: Function called after each step with the number of steps made in the epoch, the number of steps of an
            epoch, the epoch from 1, and the number of epochs.
        on_epoch: Function called with the record of each epoch.

    Returns:
        The outcome.

    Raises:
        ImbsamError: If the data, an option or the folder cannot be used, or the loss became NaN or infinite.
    """
    world = world or World()
    if not world.first:
        on_begin = on_step = on_epoch = None
    with threads(options.training.threads):
        return _fitted(
            folder,
            source,
            options,
            label=label,
            store=store,
            overwrite=overwrite,
            world=world,
            on_begin=on_begin,
            on_step=on_step,
            on_epoch=on_epoch,
        )


def _fitted(
    folder: RunFolder,
    source: str,
    options: Options,
    *,
    label: str | None,
    store: Store | None,
    overwrite: bool,
    world: World,
    on_begin: OnBegin | None,
    on_step: OnStep | None,
    on_epoch: OnEpoch | None,
) -> Result:
    """Train with the number of threads that is set."""
    if world.size > 1:
        # A blend trains in one process.
        options = usual_method(options, is_table=False)
    held = world.from_first(lambda: _held(folder, overwrite))
    problem = setup.load_problem(source, options, held=held)
    _check_same_data(problem, world)
    label = label or problem.options.method.method
    if problem.options.method.method in BLENDS:
        return _fit_blend(
            folder, problem, options, label, store=store, overwrite=overwrite, world=world, on_begin=on_begin
        )
    training = Training(problem, folder, world, fresh=held is None)
    track = options.training.track if world.first else ("none",)
    tags = {"source": source, "label": label, "seed": str(options.training.seed)}
    with (
        alone(folder.path) if world.first else nullcontext(),
        deterministic(options.training.deterministic) as training.without,
        threads(setup.threads_of(problem, training.bare)),
        opened(track, folder.path, store or Store.of(folder.path, source), tags) as trackers,
    ):
        if world.from_first(lambda: _begin(folder, problem, options, overwrite)):
            training.resume()
        sync(folder, trackers)
        with held_back() as signals:
            if on_begin is not None:
                on_begin(problem.dataset.notes)
            while training.progress.epoch < setup.epochs_of(problem.options):
                try:
                    record = training.epoch(signals, on_step)
                except NonFiniteError as error:
                    finished = training.progress.epoch
                    kept = f"The checkpoint of epoch {finished} is kept." if finished else "No epoch was finished."
                    raise NonFiniteError(f"epoch {finished + 1}: {error} {kept}") from None
                sync(folder, trackers)
                if on_epoch is not None:
                    on_epoch(record)
                if (number := world.agree(signals.number)) is not None:
                    world.stop(signals, number)
        result = world.from_first(lambda: _end(training, trackers, label))
        for note in training.notes() if world.first else ():
            warnings.warn(note, RunWarning, stacklevel=2)
        return result


def _fit_blend(
    folder: RunFolder,
    problem: setup.Problem,
    options: Options,
    label: str,
    *,
    store: Store | None,
    overwrite: bool,
    world: World,
    on_begin: OnBegin | None,
) -> Result:
    """Train a blend in one go; an interrupted training starts again."""
    # With it comes scikit-learn, for which other runs need not wait.
    from imbsam.runs.blends import check_blend, train_blend

    if world.size > 1:
        raise OptionError(f"--method {label} trains in one process: start it without torchrun.")
    check_blend(problem)
    check_decided(problem)
    tags = {"source": problem.source, "label": label, "seed": str(options.training.seed)}
    with (
        alone(folder.path),
        deterministic(options.training.deterministic),
        opened(options.training.track, folder.path, store or Store.of(folder.path, problem.source), tags) as trackers,
    ):
        _begin(folder, problem, options, overwrite)
        sync(folder, trackers)
        if on_begin is not None:
            on_begin(problem.dataset.notes)
        trained = train_blend(problem)
        folder.write_weights(trained.state, 0)
        made = Made(0, 0, trained.seconds, len(problem.dataset.train), 0, trained.notes, trained.members)
        result = outcome(problem, folder, label, Blend(folder.read_weights()).to(problem.device), made)
        sync(folder, trackers, result)
        folder.write_result(result)
        return result


def _check_same_data(problem: setup.Problem, world: World) -> None:
    mine = json.dumps(asdict(DataRecord.of(problem, problem.options)))
    if world.from_first(lambda: mine) != mine:
        raise DataError(f"{problem.source} is not the same here as on rank 0: give all machines the same data.")


def _held(folder: RunFolder, overwrite: bool) -> Mapping[str, object] | None:
    """Return the preprocessing of the run that is resumed, if one is."""
    return folder.read_data().preprocess if folder.has_checkpoint() and not overwrite else None


def _begin(folder: RunFolder, problem: setup.Problem, options: Options, overwrite: bool) -> bool:
    """Set up the folder of a new run, unless there is a run to resume, which is reported."""
    if overwrite:
        folder.clear()
    if folder.has_checkpoint():
        return True
    folder.keep_metrics(0)
    # Of a second stage that stood here.
    folder.second_stage.unlink(missing_ok=True)
    folder.write_data(DataRecord.of(problem, options))
    folder.write_config(problem.source, problem.options)
    return False


def _end(training: Training, trackers: Sequence[Tracker], label: str) -> Result:
    """Evaluate, and write the result."""
    result = training.result(label)
    sync(training.folder, trackers, result)
    training.folder.write_result(result)
    return result
