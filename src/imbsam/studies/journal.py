"""Journal of a study: one line per event, in one file that stays intact if the process is killed."""

from pathlib import Path

from optuna.storages.journal import JournalFileBackend

from imbsam.errors import RunError


class Journal(JournalFileBackend):
    """Journal of Optuna in a file that no other process writes to.

    Args:
        path: Path of the file, in a folder that the caller has locked by :func:`~imbsam.storage.files.alone`.

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
            RunError: If they cannot be written (disk full, no permission); earlier lines are kept.
        """
        try:
            super().append_logs(logs)
        except OSError as error:
            raise self._unwritable(error) from None

    def _unwritable(self, error: OSError) -> RunError:
        return RunError(f"cannot write {self._path}: {error.strerror or error}. The earlier content is kept.")


def _cut_to_whole_lines(path: Path) -> None:
    """Drop a last line without an end, which a full disk leaves: anything appended to it would be lost."""
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        with path.open("r+b") as file:
            file.truncate(whole)
