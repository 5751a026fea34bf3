from dataclasses import dataclass

import pytest

from imbsam.errors import RunError
from imbsam.storage.records import Text, parsed, read_record, write_record


@dataclass(frozen=True)
class Part:
    name: str
    shown: Text
    sizes: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ValueError("sizes are none")


def test_a_record_comes_back_as_it_was_written_but_for_what_is_to_be_shown(tmp_path):
    write_record(tmp_path / "a.json", Part("a\n\x80", "a\n\x80\udcdf", (1, 2)))
    assert read_record(Part, tmp_path / "a.json") == Part("a\n\x80", r"a \u0080\xdf", (1, 2))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"not valid JSON"),
        ("[" * 100_000, r"not valid JSON"),
        ("3", r"here: Input should be a dictionary"),
        ("{}", r"here: name: Field required"),
        ('{"name": "a", "shown": "a", "sizes": [1, "x"]}', r"here: sizes\.1: Input should be a valid integer"),
        ('{"name": "a", "shown": "a", "sizes": []}', r"here: sizes are none\. The file is damaged"),
    ],
)
def test_what_does_not_fit_is_named(content, message):
    with pytest.raises(RunError, match=message):
        parsed(Part, content, "here")


def test_a_file_that_is_missing_or_cannot_be_read_is_named(tmp_path):
    with pytest.raises(RunError, match=r"a\.json is missing"):
        read_record(Part, tmp_path / "a.json")
    with pytest.raises(RunError, match=r"cannot read .*: Is a directory"):
        read_record(Part, tmp_path)
