"""Progress of a run or a comparison on standard error: a bar in a terminal, plain lines elsewhere."""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from imbsam.cli import show
from imbsam.cli.show import percent
from imbsam.config import read_yaml
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import EpochRecord
from imbsam.storage.texts import printable
from imbsam.studies.compare import Outcome

SECONDS_WITHOUT_A_LINE = 10


class RunProgress:
    """Progress of one run: in a terminal a bar with the last epoch's scores, else a line for every slow epoch.

    For a fast run without a terminal about twenty lines are printed.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = show.err.is_terminal and not quiet
        self._shown = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}", markup=False),
            console=show.err,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=None, epoch="", scores="")

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def begin(self, notes: Sequence[str]) -> None:
        """Show what was done to the data."""
        for note in notes if not self._quiet else ():
            show.err.print(f"note: {printable(note)}")

    def step(self, done: int, steps: int, epoch: int, epochs: int) -> None:
        """Show the progress of the run.

        Args:
            done: Number of steps made in the epoch.
            steps: Number of steps of the epoch.
            epoch: Number of the epoch, from 1.
            epochs: Number of epochs of the run.
        """
        if self._live:
            self._bar.update(
                self._task, completed=(epoch - 1) * steps + done, total=epochs * steps, epoch=f"{epoch}/{epochs}"
            )

    def epoch(self, record: EpochRecord) -> None:
        """Show the scores of an epoch."""
        if self._live:
            self._bar.update(self._task, scores=_scores(record))
            return
        epoch, epochs = record.epoch, record.epochs
        every, now = max(1, epochs // 20), time.monotonic()
        if self._quiet or (epoch % every and epoch not in (1, epochs) and now - self._shown < SECONDS_WITHOUT_A_LINE):
            return
        self._shown = now
        text = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {_scores(record)}"
        show.err.print(f"{text}  {record.seconds:.2f} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _scores(record: EpochRecord) -> str:
    text = f"loss {record.train_loss:.4f}"
    if record.validation is None:
        return text
    shown = (("balanced", record.validation.balanced), ("few", record.validation.few), ("tail", record.validation.tail))
    return f"{text}  validation" + "".join(f"  {name} {percent(value)}" for name, value in shown if value is not None)


class ComparisonProgress:
    """Bar over the epochs of all runs, read from their folders; plain lines without a terminal.

    Args:
        folders: Folders of the runs.
        quiet: Show nothing.
    """

    def __init__(self, folders: Sequence[Path], *, quiet: bool) -> None:
        self._written = [Written(folder) for folder in folders]
        self._quiet = quiet
        self._finished = 0
        self._stop = threading.Event()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}", markup=False),
            console=show.err,
            disable=quiet or not show.err.is_terminal,
        )
        self._task = self._bar.add_task(scores="", description=f"0 of {len(folders)} runs", total=None)
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "ComparisonProgress":
        self._bar.start()
        self._thread.start()
        return self

    def finished(self, outcome: Outcome) -> None:
        """Count a run that has ended."""
        self._finished += 1
        text = f"{self._finished} of {len(self._written)} runs"
        self._bar.update(self._task, description=text)
        if not (self._quiet or show.err.is_terminal):
            show.err.print(f"{text}: {outcome.run.folder.name} {'failed' if outcome.error else 'done'}")

    def _poll(self) -> None:
        while not (self._bar.disable or self._stop.wait(0.5)):
            self._bar.update(self._task, **self._so_far())  # type: ignore[arg-type]

    def _so_far(self) -> dict[str, object]:
        """Return the epochs written and expected, and the last scores of each method on the rare classes."""
        few: dict[str, list[float]] = {}
        for written in self._written:
            written.read()
            if written.few is not None:
                few.setdefault(written.label, []).append(written.few)
        each = max((written.expected for written in self._written), default=0)
        scores = "  ".join(f"{label} {percent(sum(found) / len(found))}" for label, found in few.items())
        return {
            "completed": sum(written.epochs for written in self._written),
            "total": each * len(self._written) or None,
            "scores": f"few-shot so far: {scores}" if scores else "",
        }

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None and not self._bar.disable:
            self._bar.update(self._task, **self._so_far())  # type: ignore[arg-type]
        self._bar.stop()


class Written:
    """Epochs that a run has written; read again only when the file has grown.

    Args:
        folder: Folder of the run.

    Attributes:
        label: Method of the run.
        epochs: Number of epochs written.
        expected: Number of epochs of the run; 0 while it is not known.
        few: Few-shot recall of the last epoch on validation data, if there is one.
    """

    def __init__(self, folder: Path) -> None:
        self._run = RunFolder(folder)
        self._size = 0
        self.label = folder.name.rpartition("-seed")[0] or folder.name
        self.epochs = 0
        self.expected = 0
        self.few: float | None = None

    def read(self) -> None:
        """Read the file again if it has grown."""
        metrics = self._run.metrics
        if not metrics.exists() or metrics.stat().st_size == self._size:
            return
        content = metrics.read_bytes()
        whole = [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]
        self._size, self.epochs = len(content), len(whole)
        self.expected = self.expected or int(str(read_yaml(self._run.path / "config.yaml").get("epochs", 0)))
        with suppress(ValueError, AttributeError, IndexError):  # A damaged line; training says so.
            self.few = (json.loads(whole[-1]).get("validation") or {}).get("few")
