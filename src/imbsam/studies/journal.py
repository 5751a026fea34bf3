"""The journal of a study: a line for whatever happens in it, in one file that a killed process leaves whole."""

from pathlib import Path

from optuna.storages.journal import JournalFileBackend

from imbsam.errors import RunError


class Journal(JournalFileBackend):
    """Optuna's journal in a file that no other process writes to.

    Args:
        path: Path of the file, in a folder that the caller is :func:`~imbsam.storage.files.alone` in.

    Raises:
        RunError: If the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            # Optuna's own lock outlives a process that was killed with it, and the next would wait for half a minute.
            path.with_name(f"{path.name}.lock").unlink(missing_ok=True)
            if path.exists():
                _cut_to_whole_lines(path)
            super().__init__(str(path))
        except OSError as error:
            raise self._unwritable(error) from None

    def append_logs(self, logs: list[dict[str, object]]) -> None:
        """Write lines, flushed to the disk.

        Raises:
            RunError: If they cannot be written (disk full, no permission); the lines before stand.
        """
        try:
            super().append_logs(logs)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"cannot write {self._path}: {error.strerror or error}. What stood there before is kept.")


def _cut_to_whole_lines(path: Path) -> None:
    """Drop a last line without an end, as a full disk leaves it; whatever was appended to it would be lost."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
