"""The training loop: epochs of steps, a checkpoint after each epoch, the best epoch's weights at the end."""

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from statistics import median
from typing import Literal, cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from imbsam import data
from imbsam.config import Options
from imbsam.data.seeding import DROPOUT, generator
from imbsam.errors import DataError, NonFiniteError, RunError, RunWarning
from imbsam.losses import Deferred
from imbsam.metrics import classification
from imbsam.optim import SharpnessAware
from imbsam.runs.examples import confused_examples
from imbsam.runs.folder import SCHEMA, RunFolder
from imbsam.runs.ranks import World
from imbsam.runs.tracking import Store, Tracker, opened, sync
from imbsam.storage.files import alone
from imbsam.storage.interruption import HeldBack, held_back
from imbsam.training import setup
from imbsam.training.determinism import deterministic
from imbsam.training.evaluation import autocast, logits_of
from imbsam.training.random_numbers import random_state, set_random_state
from imbsam.training.schedule import factor
from imbsam.training.step import train_step

OnBegin = Callable[[Sequence[str]], None]
OnStep = Callable[[int, int, int, int], None]
OnEpoch = Callable[[Mapping[str, object]], None]


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        epoch: Epochs finished.
        best_epoch: The epoch whose weights are kept, from 1.
        best_score: Its validation balanced accuracy.
        rows: Rows trained on.
        rows_forward: Rows forwarded for them, every pass counted.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    rows: int = 0
    rows_forward: int = 0


@dataclass
class Begun:
    """What an epoch that is not finished has come to.

    Args:
        lr: Learning rate of its first step.
        rho: Neighbourhood size of its first step.
        losses: Sum of the losses of each batch, scalars: as many as steps were made.
        seconds: How long they took.
    """

    lr: float
    rho: float
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


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
) -> dict[str, object]:
    """Train one model from the beginning, or go on from the folder's last checkpoint.

    SIGINT and SIGTERM wait for the end of the step and a checkpoint; then they do what they did before.

    Args:
        folder: Where everything is written. If it holds a checkpoint of this run, training goes on from there.
        source: The data.
        options: Those left open are filled in.
        label: What to call the variant in reports; by default the method.
        store: Where in MLflow the run of a comparison or study is tracked; by default where a run of its own is.
        overwrite: Remove the run in the folder and begin anew, once data and options have proved usable.
        world: The processes that share the run, each of which calls this; by default there is one. Of several the
            first alone measures, writes and calls back.
        on_begin: Called with the notes on the data, before the first epoch.
        on_step: Called after each step with how many of the epoch's are made, how many it has, the epoch from 1,
            and the number of epochs.
        on_epoch: Called with each epoch's line of metrics.

    Returns:
        The content of ``result.json``.

    Raises:
        ImbsamError: If the data, an option or the folder cannot be used, or the loss became NaN or infinite.
    """
    world = world or World()
    if not world.first:
        on_begin = on_step = on_epoch = None
    if options.training.threads:
        torch.set_num_threads(options.training.threads)
    problem = setup.load_problem(source, options)
    _check_same_data(problem, world)
    training = Training(problem, folder, world)
    label = label or problem.options.method.method
    track = options.training.track if world.first else ("none",)
    tags = {"source": source, "label": label, "seed": str(options.training.seed)}
    with (
        alone(folder.path) if world.first else nullcontext(),
        deterministic(options.training.deterministic) as training.without,
        opened(track, folder.path, store or Store.of(folder.path, source), tags) as trackers,
    ):
        if world.from_first(lambda: _begin(folder, problem, options, overwrite)):
            training.resume()
        sync(folder, trackers)
        with held_back() as signals:
            if on_begin is not None:
                on_begin(cast(Sequence[str], problem.describe()["notes"]))
            while training.progress.epoch < setup.epochs_of(problem.options):
                try:
                    record = training.epoch(signals, on_step)
                except NonFiniteError as error:
                    finished = training.progress.epoch
                    kept = f"The checkpoint of epoch {finished} stands." if finished else "No epoch was finished."
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


def _check_same_data(problem: setup.Problem, world: World) -> None:
    mine = json.dumps(problem.describe())
    if world.from_first(lambda: mine) != mine:
        raise DataError(f"{problem.source} is not the same here as on rank 0: give all machines the same data.")


def _begin(folder: RunFolder, problem: setup.Problem, options: Options, overwrite: bool) -> bool:
    """Make the folder that of a new run, unless there is one to go on with, which is said."""
    if overwrite:
        folder.clear()
    if folder.has_checkpoint():
        return True
    folder.keep_metrics(0)
    folder.write_data({**problem.describe(), "asked": options.flat()})
    folder.write_config(problem.source, problem.options)
    return False


def _end(training: "Training", trackers: Sequence[Tracker], label: str) -> dict[str, object]:
    """Measure, and write what came out."""
    result = training.result(label)
    sync(training.folder, trackers, result)
    training.folder.write_result(result)
    return result


class Training:
    """The moving parts of a run.

    Args:
        problem: The data and options.
        folder: Where checkpoints and metrics go.
        world: The processes that share the run.
    """

    def __init__(self, problem: setup.Problem, folder: RunFolder, world: World) -> None:
        self.problem = problem
        self.world = world
        self.shard = data.Shard(world.rank, world.size)
        self.folder = folder
        self.progress = Progress()
        self.begun: Begun | None = None
        self.without: list[str] = []
        options = problem.options
        self.bare = setup.build_model(problem)
        self.model = world.wrapped(self.bare, problem.device)
        self.criterion = setup.build_criterion(problem)
        steps = len(self._batches(0))
        self.optimizer: SharpnessAware = setup.build_optimizer(
            problem, self.model, total_steps=steps * setup.epochs_of(options)
        )
        assert options.training.warmup is not None
        self.schedule = LambdaLR(
            self.optimizer,
            factor(
                options.training.schedule,
                epochs=setup.epochs_of(options),
                warmup=options.training.warmup,
                steps_per_epoch=steps,
            ),
        )
        self._draw_apart()

    def _draw_apart(self) -> None:
        """Let dropout differ by rank, and after a resume by another number of ranks go on with fresh draws."""
        if not self.world.first:
            key = (self.problem.options.training.seed, self.schedule.last_epoch, DROPOUT, self.world.rank)
            torch.manual_seed(generator(*key).initial_seed())

    def _batches(self, epoch: int, start: int = 0) -> data.Epoch:
        options, dataset = self.problem.options, self.problem.dataset
        augment = cast(Literal["none", "cifar", "imagenet"], options.data.augment)
        return data.batches(
            dataset.train,
            batch_size=setup.batch_size_of(options),
            seed=options.training.seed,
            epoch=epoch,
            start=start,
            shuffle=True,
            transform=data.training_transform(dataset.spec, augment),
            workers=options.data.workers,
            sampler=options.data.sampler,
            tail=self.problem.tail,
            tail_rows=options.data.tail_rows,
            shard=self.shard,
        )

    def epoch(self, signals: HeldBack, on_step: OnStep | None = None) -> dict[str, object]:
        """Train one epoch, or the rest of one, evaluate, write the checkpoint.

        Args:
            signals: Asked after each step whether to write the checkpoint there and stop.
            on_step: Called after each step.

        Returns:
            The epoch's line of metrics.

        Raises:
            Stopped: If a signal came.
        """
        number = self.progress.epoch + 1
        if isinstance(self.criterion, Deferred):
            self.criterion.set_epoch(self.progress.epoch)
        if self.begun is None:
            first = self.optimizer.param_groups[0]
            self.begun = Begun(float(first["lr"]), float(first["rho"]))
        begun, began = self.begun, time.perf_counter() - self.begun.seconds
        self.model.train()
        rest = self._batches(self.progress.epoch, start=len(begun.losses))
        steps, epochs = len(begun.losses) + len(rest), setup.epochs_of(self.problem.options)
        batches, sizes = iter(rest), iter(rest.rows)
        while True:
            batch = next(batches, None)
            # Before the passes: a rank whose batch cannot be read is missed here, not in the middle of a step.
            if (stop := self.world.agree(signals.number)) is not None:
                begun.seconds = time.perf_counter() - began
                self._write_checkpoint()
                self.world.stop(signals, stop)
            if batch is None:
                break
            rows = next(sizes)
            begun.losses.append(self._step(*batch) * (rows * self.shard.share(rows)))
            self.schedule.step()
            if on_step is not None:
                on_step(len(begun.losses), steps, number, epochs)
        self._collect()
        record = self.world.from_first(lambda: self._finish(number, began))
        self.progress, self.begun = replace(self.progress, epoch=number), None
        self._write_checkpoint()
        return record

    def _finish(self, number: int, began: float) -> dict[str, object]:
        """Measure a finished epoch, keep its weights if it is the best, write its line of metrics."""
        assert self.begun is not None
        begun, rows = self.begun, len(self.problem.dataset.train)
        # Steps that the method skipped have no finite loss; they are counted apart.
        train_loss = float(torch.stack(begun.losses).nansum()) / rows
        validation = self._measure(self.problem.dataset.validation)
        seconds = time.perf_counter() - began
        self.progress = replace(self.progress, epoch=number, rows=self.progress.rows + rows)
        record: dict[str, object] = {
            "epoch": number,
            "epochs": setup.epochs_of(self.problem.options),
            "lr": begun.lr,
            "rho": begun.rho,
            "train_loss": train_loss,
            "skipped": self.optimizer.skipped,
            "seconds": seconds,
            "validation": None if validation is None else {k: v for k, v in validation.items() if k != "confusion"},
        }
        self._keep_if_best(validation)
        self.folder.append_metrics(record)
        return record

    def _collect(self) -> None:
        """Add up on the first rank what each has counted; the others count on from nothing."""
        if self.world.size == 1:
            return
        losses = torch.stack(self.begun.losses).cpu() if self.begun is not None and self.begun.losses else None
        found = self.world.gather((losses, self.progress.rows_forward))
        self.progress = replace(self.progress, rows_forward=sum(n for _, n in found) if self.world.first else 0)
        if self.begun is not None and losses is not None:
            total = torch.zeros_like(losses)
            for each, _ in found if self.world.first else ():
                total = total if each is None else total + each
            self.begun.losses = list(total.to(self.problem.device))

    def _step(self, inputs: Tensor, targets: Tensor) -> Tensor:
        device, options = self.problem.device, self.problem.options
        inputs = inputs.to(device, non_blocking=True)
        if setup.channels_last(self.problem):
            inputs = inputs.contiguous(memory_format=torch.channels_last)
        loss, forwarded = train_step(
            self.model,
            self.criterion,
            self.optimizer,
            inputs,
            targets,
            precision=autocast(device, options),
            clip_norm=options.training.clip_norm,
        )
        self.progress = replace(self.progress, rows_forward=self.progress.rows_forward + forwarded)
        return loss

    def _measure(self, samples: data.Samples | None, *, show_as: str | None = None) -> dict[str, object] | None:
        """Measure; under the name of a split images of what was taken for what are kept, too."""
        if samples is None:
            return None
        problem = self.problem
        spec = problem.dataset.spec
        logits = logits_of(self.bare, samples, spec, problem.options, problem.priors)
        scores = classification(logits, samples.targets, problem.groups).to_dict()
        if show_as is not None:
            confused = confused_examples(logits, samples, spec, scores["confusion"], problem.priors.counts.tolist())
            if confused:
                self.folder.write_examples(show_as, confused)
        return scores

    def _keep_if_best(self, validation: Mapping[str, object] | None) -> None:
        """Keep this epoch's weights if it is the best so far; of equal ones the later, which has trained longer."""
        score = cast(float, validation["balanced"]) if validation is not None else self.progress.best_score
        if self.problem.options.training.select == "last" or score >= self.progress.best_score:
            self.progress = replace(self.progress, best_epoch=self.progress.epoch, best_score=score)
            self.folder.write_weights(self.bare.state_dict(), self.progress.epoch)

    def _write_checkpoint(self) -> None:
        self._collect()
        first, *others = self.world.gather(random_state(self.problem.device))
        self.world.from_first(
            lambda: self.folder.write_checkpoint(
                {
                    "options": self.problem.options.deciding(),
                    "progress": asdict(self.progress),
                    "begun": None if self.begun is None else vars(self.begun),
                    "model": self.bare.state_dict(),
                    "optimizer": self.optimizer.state_dict(),
                    "schedule": {"last_epoch": self.schedule.last_epoch},
                    "random": first,
                    "random_of_other_ranks": others,
                }
            )
        )

    def resume(self) -> None:
        """Go on from the folder's last checkpoint.

        Raises:
            DataError: If the data changed since.
            RunError: If none is whole, or it belongs to another run.
        """
        held = self.world.from_first(self.folder.read_data)
        self.problem.check_same_data(cast(list[str], held.get("classes", [])), cast(list[int], held.get("counts", [])))
        state = self.world.from_first(self.folder.read_checkpoint)
        self._check_same_options(cast(dict[str, object], state.get("options", {})))
        try:
            self.bare.load_state_dict(cast(dict[str, Tensor], state["model"]))
            self.optimizer.load_state_dict(cast(dict[str, object], state["optimizer"]))
            self.progress = Progress(**cast(dict[str, float], state["progress"]))  # type: ignore[arg-type]
            self.schedule.last_epoch = cast(dict[str, int], state["schedule"])["last_epoch"]
            begun = cast(dict[str, object] | None, state["begun"])
            self.begun = None if begun is None else Begun(**begun)  # type: ignore[arg-type]
            if self.begun is not None:
                losses = [loss.to(self.problem.device) for loss in self.begun.losses]
                self.begun.losses = losses if self.world.first else [torch.zeros_like(loss) for loss in losses]
            if not self.world.first:
                self.progress = replace(self.progress, rows_forward=0)
            self._set_random_state(state)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise RunError(f"{self.folder.checkpoint} does not fit this run ({reason}).") from None
        if self.world.first:
            self.folder.keep_metrics(self.progress.epoch)

    def _set_random_state(self, state: Mapping[str, object]) -> None:
        """Each rank's own where they are as many as before; else that of the first, and fresh ones for the others."""
        held = [state["random"], *cast(list[object], state.get("random_of_other_ranks", []))]
        if self.world.first or len(held) == self.world.size:
            set_random_state(cast(dict[str, Tensor], held[self.world.rank]), self.problem.device)
        else:
            self._draw_apart()

    def _check_same_options(self, held: Mapping[str, object]) -> None:
        differing = self.problem.options.differing(held)
        if differing:
            raise RunError(
                f"{self.folder.checkpoint} does not fit this run: it is of one with another {', '.join(differing)}."
            )

    def notes(self) -> list[str]:
        """What has to be said of the training, a sentence each."""
        skipped, without = self.optimizer.skipped, ", ".join(self.without)
        notes = [f"{skipped} steps were skipped: a loss or gradient was NaN or infinite."] if skipped else []
        return notes + ([f"without a deterministic algorithm, so that runs may differ: {without}."] if without else [])

    def result(self, label: str) -> dict[str, object]:
        """Measure the kept epoch on the test data, sum the run up, and write it down."""
        problem = self.problem
        self.bare.load_state_dict(self.folder.read_weights())
        about = problem.describe()
        dataset = problem.dataset
        result = {
            "schema": SCHEMA,
            "name": self.folder.path.name,
            "method": problem.options.method.method,
            "label": label,
            "seed": problem.options.training.seed,
            "source": problem.source,
            "config": problem.options.flat(),
            **{name: about[name] for name in ("classes", "counts", "groups", "tail")},
            "notes": [*cast(Sequence[str], about["notes"]), *self.notes()],
            "best_epoch": self.progress.best_epoch,
            "epochs": self.progress.epoch,
            "test": self._measure(dataset.test, show_as="test"),
            "validation": self._measure(dataset.validation, show_as="validation" if dataset.test is None else None),
            # Start-up, and what else the machine was busy with, is in some epochs only.
            "train_seconds": self.progress.epoch * median(self.folder.epoch_seconds() or [0.0]),
            "rows_forward": self.progress.rows_forward,
            "cost_ratio": self.progress.rows_forward / self.progress.rows if self.progress.rows else None,
            "versions": {name: version(name) for name in ("imbsam", "torch", "numpy", "scikit-learn")},
            "device": str(problem.device),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        return result
