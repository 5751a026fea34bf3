"""Names of the rows of files, made when needed, since there may be millions."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import overload


class RowNames(Sequence[str]):
    """Names of rows: a prefix and the row's number, counted in its file from 1.

    Args:
        files: Prefix, number of the first row, and number of rows of each file.
    """

    def __init__(self, files: Sequence[tuple[str, int, int]]) -> None:
        self.files = files
        self.ends = list(accumulate(rows for _, _, rows in files))

    def __len__(self) -> int:
        return self.ends[-1] if self.ends else 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        file = bisect_right(self.ends, place)
        before, first, rows = self.files[file]
        return f"{before}{first + place - self.ends[file] + rows}"
