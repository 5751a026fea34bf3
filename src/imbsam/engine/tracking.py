"""TensorBoard events of a run, where TensorBoard is installed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from imbsam.errors import RunError

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter as Writer


class Tracker:
    """Writes each epoch's scalars under ``FOLDER/tensorboard``.

    Args:
        folder: The run's folder.
        enabled: Whether to write at all; without TensorBoard installed nothing is written.
        from_epoch: Epochs that earlier events hold already; later ones are dropped.

    Raises:
        RunError: If events cannot be written (disk full, no permission).
    """

    def __init__(self, folder: Path, *, enabled: bool, from_epoch: int = 0) -> None:
        self._folder = folder / "tensorboard"
        self._writer: Writer | None = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            with self._naming_the_folder():
                self._writer = SummaryWriter(self._folder, purge_step=from_epoch + 1)

    def __enter__(self) -> "Tracker":
        return self

    def write(self, record: Mapping[str, object]) -> None:
        """Write the numbers of an epoch's line of metrics."""
        if self._writer is not None:
            with self._naming_the_folder():
                self._add(self._writer, record)

    @staticmethod
    def _add(writer: "Writer", record: Mapping[str, object]) -> None:
        step = int(str(record["epoch"]))
        parts = {"train": record, "validation": record.get("validation")}
        for part, values in parts.items():
            for name, value in values.items() if isinstance(values, Mapping) else ():
                if isinstance(value, float):
                    writer.add_scalar(f"{part}/{name}", value, step)
                elif name == "per_class" and isinstance(value, list):
                    recalls = {str(c): v for c, v in enumerate(value) if v is not None}
                    for c, recall in recalls.items():
                        writer.add_scalar(f"{part}/recall/{c}", recall, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is None:
            return
        if error is not None:
            with suppress(OSError):
                self._writer.close()
            return
        with self._naming_the_folder():
            self._writer.close()

    @contextmanager
    def _naming_the_folder(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = error.strerror or error
            raise RunError(f"cannot write {self._folder}: {reason}. Do without it: --no-tensorboard.") from None
