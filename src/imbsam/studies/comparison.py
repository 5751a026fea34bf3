"""``comparison.json``: what a comparison was of, so that a report finds its runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from imbsam.storage.records import Text, read_record, write_record

NAME = "comparison.json"


@dataclass(frozen=True)
class Comparison:
    """The runs of a comparison, finished or not.

    Args:
        schema: Schema of the file.
        source: The data.
        methods: Labels in order, the baseline first.
        seeds: In order.
        runs: The folder of each, from that of the comparison.
        command: What the user typed.
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
        """Read it.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return read_record(cls, folder / NAME)

    def write(self, folder: Path) -> None:
        """Write it.

        Raises:
            RunError: If the file cannot be written.
        """
        write_record(folder / NAME, self)
