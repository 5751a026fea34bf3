"""TensorBoard events of a run."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from imbsam.errors import RunError
from imbsam.runs.tracking.projection import Projection, Step

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Events:
    """Event files under ``FOLDER/tensorboard``, one of each process that had something to write."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "tensorboard"
        self._writer: SummaryWriter | None = None
        self._whole: int | None = None

    def sync(self, projection: Projection) -> None:
        """Write the missing epochs; TensorBoard shows curves, so the outcome is not written.

        Raises:
            RunError: If events cannot be written (disk full, no permission).
        """
        try:
            self._write(projection.epochs)
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"cannot write {self._folder}: {reason}. To run without it: --track none.") from None

    def close(self, error: BaseException | None) -> None:
        """Close the writer, which has nothing left to write."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _write(self, epochs: Sequence[Step]) -> None:
        if self._whole is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._whole = _held_whole(self._folder, epochs)
        for step, scalars in epochs[self._whole :]:
            # Readers drop what the files before say of this step and later ones.
            if self._writer is None:
                from torch.utils.tensorboard import SummaryWriter

                _wait_for_a_later_name(self._folder)
                self._writer = SummaryWriter(self._folder, purge_step=step)
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
            self._whole += 1
        if self._writer is not None:
            self._writer.flush()


def _wait_for_a_later_name(folder: Path) -> None:
    """Wait until the second ends in which another event file began: readers sort by names, which have whole seconds."""
    while any(folder.glob(f"events.out.tfevents.{int(time.time()):010d}.*")):
        time.sleep(0.05)


def _held_whole(folder: Path, epochs: Sequence[Step]) -> int:
    """Return how many of the epochs, from the first, event files have with all their scalars."""
    if not epochs:
        # Of a new run, whose first step need not wait for TensorBoard.
        return 0
    from tensorboard.backend.event_processing import event_accumulator

    found = event_accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    held = {(event.step, name) for name in found.Tags()["scalars"] for event in found.Scalars(name)}
    lacking = (i for i, (step, scalars) in enumerate(epochs) if not held.issuperset((step, name) for name in scalars))
    return next(lacking, len(epochs))
