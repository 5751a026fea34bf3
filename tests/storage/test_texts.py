import pytest

from imbsam.storage.texts import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines\t and", "two lines and"),
        ("bell\x07\x00", r"bell\x07\x00"),
        ("right\u202eleft", r"right\u202eleft"),
        ("Stra\udcdfe", r"Stra\xdfe"),
        ("half \ud83d", r"half \ud83d"),
        ("plane \U000e0001", r"plane \U000e0001"),
        ("猫 قط 🐈", "猫 قط 🐈"),
        (" \n ", "(empty)"),
    ],
)
def test_names_are_put_on_one_printable_line(name, shown):
    assert printable(name) == shown
