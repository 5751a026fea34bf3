"""TensorBoard events of a run, where TensorBoard is installed."""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter as Writer


class Tracker:
    """Writes each epoch's scalars under ``FOLDER/tensorboard``.

    Args:
        folder: The run's folder.
        enabled: Whether to write at all; without TensorBoard installed nothing is written.
        from_epoch: Epochs that earlier events hold already; later ones are dropped.
    """

    def __init__(self, folder: Path, *, enabled: bool, from_epoch: int = 0) -> None:
        self._writer: Writer | None = None
        if enabled:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            self._writer = SummaryWriter(folder / "tensorboard", purge_step=from_epoch + 1)

    def __enter__(self) -> "Tracker":
        return self

    def write(self, record: Mapping[str, object]) -> None:
        """Write the numbers of an epoch's line of metrics."""
        if self._writer is None:
            return
        step = int(str(record["epoch"]))
        parts = {"train": record, "validation": record.get("validation")}
        for part, values in parts.items():
            for name, value in values.items() if isinstance(values, Mapping) else ():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{part}/{name}", value, step)
                elif name == "per_class" and isinstance(value, list):
                    recalls = {str(c): v for c, v in enumerate(value) if v is not None}
                    for c, recall in recalls.items():
                        self._writer.add_scalar(f"{part}/recall/{c}", recall, step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
