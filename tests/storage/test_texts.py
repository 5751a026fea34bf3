import json
import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imbsam.storage.texts import READABLE, json_text, printable, quoted, readable


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


@pytest.mark.parametrize(
    ("name", "shown"), [("Stra\udcdfe", r"Stra\xdfe"), ("größe 😀\n", "größe 😀\n"), ("half \ud83d", r"half \ud83d")]
)
def test_a_name_that_is_not_utf_8_is_readable(name, shown):
    assert readable(name) == shown
    assert readable(shown) == shown


@given(st.text(st.characters(exclude_categories=[])))
def test_every_text_is_readable_and_its_json_valid(text):
    readable(text).encode()
    again = json.loads(json_text({text: [text, (text, 1)], "path": Path("a")}, default=str).encode("ascii"))
    assert again == {readable(text): [readable(text), [readable(text), 1]], "path": "a"}


@given(st.text(st.characters(exclude_categories=[])), st.sampled_from(["ascii", "cp1252", "latin-1", "utf-8"]))
def test_every_encoding_takes_every_text(text, encoding):
    taken = text.encode(encoding, READABLE)
    assert taken.decode(encoding).encode(encoding) == taken


def test_an_encoding_that_lacks_a_letter_gets_plain_ones():
    assert "72.5 ± 3.1 – “a…b” × ü 😀 \udcdf".encode("ascii", READABLE) == (
        rb'72.5 +/- 3.1 - "a...b" x \u00fc \U0001f600 \xdf'
    )
    assert "± …".encode("cp1252", READABLE) == "± …".encode("cp1252")


@pytest.mark.parametrize("name", ["plain", "two words", "it's", "St\udcdf 'q' \\ \"", "a\nb\t\x1b[31m", "größe", ""])
def test_a_shell_reads_a_quoted_word_as_it_was(name):
    told = subprocess.run(["bash", "-c", f"printf %s {quoted(name)}"], capture_output=True, check=True).stdout
    assert os.fsdecode(told) == name
    assert quoted(name).isprintable()
