"""TensorBoard events of a run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from imbsam.errors import RunError
from imbsam.runs.tracking.scalars import of_epoch


class Events:
    """Writes each epoch's scalars under ``FOLDER/tensorboard``.

    A process that was killed takes events along that TensorBoard had not written yet, so those of earlier epochs are
    written again; readers drop what they have of them.

    Args:
        folder: The run's.
        earlier: The lines of metrics of epochs finished before.

    Raises:
        RunError: If events cannot be written (disk full, no permission).
    """

    def __init__(self, folder: Path, earlier: Sequence[Mapping[str, object]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder / "tensorboard"
        with self._naming_the_folder():
            self._writer = SummaryWriter(self._folder, purge_step=1)
        for record in earlier:
            self.write(record)

    def write(self, record: Mapping[str, object]) -> None:
        """Write an epoch's line of metrics."""
        step = int(str(record["epoch"]))
        with self._naming_the_folder():
            for name, value in of_epoch(record).items():
                self._writer.add_scalar(name, value, step)

    def close(self, error: BaseException | None) -> None:
        """Write what is left; where the run ended in an error, as far as it goes."""
        if error is not None:
            with suppress(OSError):
                self._writer.close()
            return
        with self._naming_the_folder():
            self._writer.close()

    def finish(self, result: Mapping[str, object]) -> None:
        """TensorBoard shows curves, and a result is none."""

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"cannot write {self._folder}: {reason}. Do without it: --track none.") from None
