"""Content of ``comparison.json``: the runs of a comparison, by which a report finds them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imbsam.storage.records import Text, read_record, write_record

NAME = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """Runs of a comparison, finished or not.

    Args:
        schema: Schema of the file.
        source: The data.
        methods: Labels in order, the baseline first.
        seeds: Seeds in order.
        runs: Folder of each run, relative to that of the comparison.
        command: Command that the user typed.
    """

    schema: Literal[1]
    source: Text
    methods: tuple[Text, ...]
    seeds: tuple[int, ...]
    runs: tuple[str, ...]
    command: Text

    @staticmethod
    def stands_in(folder: Path) -> bool:
        """Return whether a folder is that of a comparison."""
        return (folder / NAME).is_file()

    @classmethod
    def read(cls, folder: Path) -> "Comparison":
        """Read the file of a comparison.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return read_record(cls, folder / NAME)

    def write(self, folder: Path) -> None:
        """Write the file of the comparison.

        Raises:
            RunError: If the file cannot be written.
        """
        write_record(folder / NAME, self)
