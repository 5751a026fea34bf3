import csv

import pytest

from imbsam.data.sources.dialect import Dialect, best_cuts
from imbsam.errors import OptionError


@pytest.mark.parametrize(
    ("word", "mark"),
    [("tab", "\t"), (r"\t", "\t"), ("Comma", ","), ("semicolon", ";"), ("pipe", "|"), ("space", " "), ("~", "~")],
)
def test_a_separator_has_a_name_or_is_the_character_itself(word, mark):
    assert Dialect(separator=word).separator == mark


@pytest.mark.parametrize(
    "wrong",
    [
        {"separator": ";;"},
        {"separator": ""},
        {"separator": '"'},
        {"separator": "\n"},
        {"separator": "§"},
        {"separator": "comma", "decimal": ","},
        {"decimal": ";"},
        {"encoding": "utf-9"},
        {"encoding": "base64"},
        {"encoding": "a\0b"},
    ],
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(OptionError):
        Dialect(**wrong)


@pytest.mark.parametrize(
    ("text", "own", "found"),
    [
        ("a,b\n1,2\n", ",", ","),
        ("temp, C;druck;art\n1.5;2.5;x\n", ",", ";"),
        ("temp;druck;art\n20,5;1,2;x\n", ",", ";"),
        ("temp, C;druck, hPa\n20,5;1000,3\n", ",", ";"),
        ("id;Name, Vorname;art\n1;Muster, Eva;x\n", ",", ";"),
        ("temp;notiz;art\n1;gut, alt;x\n2;gut;y\n", ",", ";"),
        ("a|b\n1,5|2;5\n", ",", "|"),
        ("a\tb\n1,5\t2,5\n", ",", "\t"),
        ('"a;b",c\n"x;y",1\n', ",", ","),
        ("a;b,c\nx;y z,1\nx,2\n", ",", ","),
        ("a;b;\n1;2;\n", ",", ";"),
        ("a;b\n1;2;\n3;4;\n", ",", ";"),
        ("temp, C;druck\n1,5;2\n3;4;5\n" + "1,5;2\n" * 9, ",", ";"),
        ("a,b\n1\n2\n", ",", ","),
        ("text, verbatim\nHello\n", "\t", ""),
        ("text\nHello, you\nHello\n", ",", ""),
        ("a;b,c\nx;y,z\n", ",", ",;"),
    ],
)
def test_the_separator_that_cuts_header_and_rows_alike_is_found(text, own, found):
    cuts = best_cuts(text.splitlines(keepends=True), own, whole=True)
    assert "".join(cut.separator for cut in cuts) == found


def test_the_csv_modules_limit_is_as_before():
    before = csv.field_size_limit()
    assert best_cuts(["a,b\n", "x" * 2 * before + ",1\n"], ",", whole=True)
    assert csv.field_size_limit() == before
