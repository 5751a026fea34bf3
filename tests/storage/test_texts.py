import pytest

from imbsam.storage.texts import printable


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("two\nlines\t and", "two lines and"),
        ("bell\x07\x00", "bell\ufffd\ufffd"),
        ("right\u202eleft", "right\ufffdleft"),
        ("half \udc80", "half \ufffd"),
        ("猫 قط 🐈", "猫 قط 🐈"),
        (" \n ", "(empty)"),
    ],
)
def test_names_are_put_on_one_printable_line(name, shown):
    assert printable(name) == shown
