"""The training loop: epochs of steps, a checkpoint after each epoch, and the best epoch's weights at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from imbsam import data
from imbsam.data.seeding import DROPOUT, generator
from imbsam.errors import RunError
from imbsam.losses import Deferred
from imbsam.metrics import Metrics
from imbsam.models.finetune import FineTuned, tuned_parameters
from imbsam.optim import SharpnessAware
from imbsam.runs.checkpoint import Begun, Checkpoint, Progress
from imbsam.runs.folder import RunFolder
from imbsam.runs.onset import Onset
from imbsam.runs.outcome import Made, check_decided, outcome, posterior_at
from imbsam.runs.ranks import World
from imbsam.runs.reading import measured
from imbsam.runs.records import EpochRecord, Result
from imbsam.storage.interruption import HeldBack
from imbsam.training import setup
from imbsam.training.averaging import average_of
from imbsam.training.evaluation import autocast, outputs_of
from imbsam.training.finetuning import class_means, start_head
from imbsam.training.random_numbers import random_state, set_random_state
from imbsam.training.schedule import factor
from imbsam.training.step import train_step

OnStep = Callable[[int, int, int, int], None]


class Training:
    """Parts of a run that change in training.

    Args:
        problem: Data and options of the run.
        folder: Folder of checkpoints and metrics.
        world: Processes that share the run.
        fresh: Whether the run starts, and is not resumed: a fine-tuned model then gets its weights and head.
    """

    def __init__(self, problem: setup.Problem, folder: RunFolder, world: World, *, fresh: bool = True) -> None:
        self.problem = problem
        self.world = world
        self.shard = data.Shard(world.rank, world.size)
        self.folder = folder
        self.progress = Progress()
        self.begun: Begun | None = None
        self.without: list[str] = []
        options = problem.options
        check_decided(problem)
        self.bare = setup.build_model(problem, pretrained=fresh)
        if fresh:
            self._start_head()
        # Before the optimizer's hooks are on the model, which a copy would take along.
        self.average = average_of(self.bare, options.training)
        self.model = world.wrapped(self.bare, problem.device)
        self.criterion = setup.build_criterion(problem)
        epoch = self._batches(0)
        steps, self.rows = len(epoch), sum(epoch.rows)
        self.optimizer: SharpnessAware = setup.build_optimizer(
            problem, self.model, total_steps=steps * setup.epochs_of(options)
        )
        self.onset = Onset(problem, self.optimizer, steps)
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

    def _start_head(self) -> None:
        """Set the head of a fine-tuned model to the class means, which the first rank computes."""
        model, dataset, options = self.bare, self.problem.dataset, self.problem.options
        if isinstance(model, FineTuned):
            classes, precision = len(dataset.classes), autocast(self.problem.device, options)
            start_head(
                model,
                self.world.from_first(lambda: class_means(model, dataset.train, dataset.spec, classes, precision)),
            )

    @property
    def measured(self) -> nn.Module:
        """Model that is evaluated and kept: the average if there is one."""
        return self.bare if self.average is None else self.average.module

    def _draw_apart(self) -> None:
        """Make dropout differ by rank, and draw fresh numbers after a resume with another number of ranks."""
        if not self.world.first:
            key = (self.problem.options.training.seed, self.schedule.last_epoch, DROPOUT, self.world.rank)
            torch.manual_seed(generator(*key).initial_seed())

    def _batches(self, epoch: int, start: int = 0) -> data.Epoch:
        options, dataset = self.problem.options, self.problem.dataset
        assert options.data.sampler != "auto"
        return data.batches(
            dataset.train,
            batch_size=setup.batch_size_of(options),
            seed=options.training.seed,
            epoch=epoch,
            start=start,
            shuffle=True,
            transform=setup.augmentation_of(self.problem),
            workers=options.data.workers,
            sampler=options.data.sampler,
            tail=self.problem.tail,
            tail_rows=options.data.tail_rows,
            repeat_threshold=options.data.repeat_threshold,
            mixing=setup.mixing_of(self.problem, epoch),
            shard=self.shard,
        )

    def epoch(self, signals: HeldBack, on_step: OnStep | None = None) -> EpochRecord:
        """Train one epoch, or the rest of one, evaluate, and write the checkpoint.

        Args:
            signals: Signals, checked after each step; one of them writes the checkpoint and stops training.
            on_step: Function called after each step.

        Returns:
            Record of the epoch.

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
        recall = self.progress.tail_recall if record.tail_recall is None else record.tail_recall
        begins = self.onset.decide(record.tail_recall)
        self.progress = replace(self.progress, epoch=number, tail_recall=recall, sharp_from=begins)
        self.begun = None
        self._write_checkpoint()
        return record

    def _finish(self, number: int, began: float) -> EpochRecord:
        """Evaluate a finished epoch, keep its weights if it is the best, and write its line of metrics."""
        assert self.begun is not None
        begun, rows = self.begun, self.rows
        # Steps that the method skipped have no finite loss; they are counted apart.
        train_loss = float(torch.stack(begun.losses).nansum()) / rows
        held_out = self.problem.dataset.validation
        validation = None if held_out is None else self._scores(held_out, number)
        tail_recall = self._scores(self.onset.tail, number).tail if self.onset.is_due(number) else None
        seconds = time.perf_counter() - began
        self.progress = replace(self.progress, epoch=number, rows=self.progress.rows + rows)
        record = EpochRecord(
            epoch=number,
            epochs=setup.epochs_of(self.problem.options),
            lr=begun.lr,
            rho=begun.rho,
            train_loss=train_loss,
            skipped=self.optimizer.skipped,
            seconds=seconds,
            validation=None if validation is None else replace(validation, confusion=None),
            tail_recall=tail_recall,
        )
        self._keep_if_best(validation)
        self.folder.append_metrics(record)
        return record

    def _collect(self) -> None:
        """Add up on the first rank what each has counted; the other ranks count on from zero."""
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
        skipped = self.optimizer.skipped
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
        if self.average is not None and self.optimizer.skipped == skipped:
            self.average.update_parameters(self.bare)
        self.progress = replace(self.progress, rows_forward=self.progress.rows_forward + forwarded)
        return loss

    def _scores(self, samples: data.Samples, epoch: int) -> Metrics:
        problem = self.problem
        outputs = outputs_of(self.measured, samples, problem.dataset.spec, problem.options)
        return measured(posterior_at(problem, epoch), (outputs, samples.targets), problem.groups, problem.tail)

    def _keep_if_best(self, validation: Metrics | None) -> None:
        """Keep this epoch's weights if it is the best so far; among equal ones the later, which has trained longer."""
        score = validation.balanced if validation is not None else self.progress.best_score
        if self.problem.options.training.select == "last" or score >= self.progress.best_score:
            self.progress = replace(self.progress, best_epoch=self.progress.epoch, best_score=score)
            self.folder.write_weights(self.measured.state_dict(), self.progress.epoch)

    def _write_checkpoint(self) -> None:
        self._collect()
        random = self.world.gather(random_state(self.problem.device))
        self.world.from_first(
            lambda: self.folder.write_checkpoint(
                Checkpoint(
                    options=self.problem.options.deciding(),
                    progress=self.progress,
                    begun=self.begun,
                    model=self.bare.state_dict(),
                    optimizer=self.optimizer.state_dict(),
                    steps=self.schedule.last_epoch,
                    random=random,
                    average=None if self.average is None else self.average.state_dict(),
                )
            )
        )

    def resume(self) -> None:
        """Resume from the folder's last checkpoint.

        Raises:
            DataError: If the data changed since.
            RunError: If no checkpoint is intact, or it belongs to another run.
        """
        about = self.world.from_first(self.folder.read_data)
        self.problem.check_same_data(about.classes, about.counts)
        held = self.world.from_first(self.folder.read_checkpoint)
        self._check_same_options(held.options)
        try:
            self.bare.load_state_dict(held.model)
            if self.average is not None:
                self.average.load_state_dict(dict(held.average or {}))
            self.optimizer.load_state_dict(held.optimizer)
            self._set_random_state(held.random)
        except (KeyError, ValueError, TypeError, RuntimeError) as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            raise RunError(f"{self.folder.checkpoint} does not fit this run ({reason}).") from None
        self.schedule.last_epoch = held.steps
        self.progress = held.progress if self.world.first else replace(held.progress, rows_forward=0)
        self.onset.begin(held.progress.sharp_from)
        self.begun = held.begun
        if self.begun is not None:
            losses = [loss.to(self.problem.device) for loss in self.begun.losses]
            self.begun.losses = losses if self.world.first else [torch.zeros_like(loss) for loss in losses]
        if self.world.first:
            self.folder.keep_metrics(self.progress.epoch)

    def _set_random_state(self, held: Sequence[Mapping[str, Tensor]]) -> None:
        """Restore each rank's state if there are as many ranks, else the first's, and draw anew on the others."""
        if self.world.first or len(held) == self.world.size:
            set_random_state(held[self.world.rank], self.problem.device)
        else:
            self._draw_apart()

    def _check_same_options(self, held: Mapping[str, object]) -> None:
        differing = self.problem.options.differing(held)
        if differing:
            raise RunError(
                f"{self.folder.checkpoint} does not fit this run: that run has another {', '.join(differing)}."
            )

    def notes(self) -> list[str]:
        """Return sentences to report on the training."""
        skipped, without = self.optimizer.skipped, ", ".join(self.without)
        notes = [f"{skipped} steps were skipped: a loss or gradient was NaN or infinite."] if skipped else []
        return notes + ([f"without a deterministic algorithm, so that runs may differ: {without}."] if without else [])

    def _tuned(self) -> list[str]:
        """Say which parameters of a pretrained model were tuned."""
        if not isinstance(self.bare, FineTuned):
            return []
        some, total = tuned_parameters(self.bare)
        return [f"fine-tuned: {some:,} of {total:,} parameters."]

    def result(self, label: str) -> Result:
        """Evaluate the kept epoch on the test data, and summarise the run."""
        self.measured.load_state_dict(self.folder.read_weights())
        progress = self.progress
        made = Made(
            progress.best_epoch,
            progress.epoch,
            # Start-up, and what else the machine was busy with, is in some epochs only.
            seconds=progress.epoch * median([held.seconds for held in self.folder.whole_epochs()] or [0.0]),
            rows=progress.rows,
            rows_forward=progress.rows_forward,
            notes=[
                *self._tuned(),
                *self.onset.note(progress.tail_recall, self.problem.options.method.base),
                *self.notes(),
            ],
        )
        return outcome(self.problem, self.folder, label, self.measured, made)
