import datetime
import decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from imbsam.data.sources.kinds import MARKS, TRUTHS, ColumnType, UnfitError, text_type, typed_type
from imbsam.data.sources.numbers import MISSING

NUMBERS = [str(number) for number in range(40)]
DAYS = [f"2024-01-{day:02}" for day in range(1, 31)]


def of_texts(*texts, guess=True, missing=MISSING):
    return text_type("c", pa.chunked_array([pa.array(texts, pa.string())]), missing, guess=guess)


def number(**more):
    return ColumnType("c", "number", **more)


TEXT = ColumnType("c", "text")
BOOLEAN = ColumnType("c", "boolean")


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["1", "2.5"], number()),
        (["1", None, "2"], number()),
        (["1", "NA", "2"], number()),
        (["1", " 2"], number()),
        (["1,5", "2"], number()),
        (["1e5", "-inf"], number()),
        (["0.5", "0"], number()),
        ([None, None], number()),
        (["NA", None], number()),
        (["0", "1"], number(truths=True)),
        (["0.0", "1.0", None], number(truths=True)),
        (["0", "NA", "1"], number(truths=True)),
        (["0", "-1"], number()),
        (["a", "b"], TEXT),
        (["2024-01-31", "2024-02-30"], TEXT),
        (["1 days", "2 days 04:00:00"], ColumnType("c", "duration")),
        (["2024-01-31", None], ColumnType("c", "date")),
        (["2024-01-31T10:00Z"], ColumnType("c", "date", zoned=True)),
        (["31.01.2024", "01.02.2024"], ColumnType("c", "date", form="%d.%m.%Y")),
    ],
)
def test_a_column_of_texts_is_what_all_of_them_are(texts, kind):
    assert of_texts(*texts) == (kind, "")


@pytest.mark.parametrize("pair", TRUTHS, ids=lambda pair: "-".join(pair))
@pytest.mark.parametrize("written", [str.lower, str.upper, str.title])
@pytest.mark.parametrize("beside", [[], [None], ["NA"], ["0", "1"], [" "]])
def test_pairs_of_words_are_yes_and_no(pair, written, beside):
    assert of_texts(*map(written, pair), *beside)[0] == BOOLEAN


@pytest.mark.parametrize("texts", [["yes", "false"], ["yes", "maybe"], ["t", "1", "2"], ["on", "off", "auto"]])
def test_words_of_several_pairs_or_others_are_texts(texts):
    assert of_texts(*texts)[0] == TEXT


@pytest.mark.parametrize("codes", [["007", "12"], ["00", "1"], ["01.5", "2"], ["-07"], [" 007", "1"], ["007", "1,5"]])
def test_a_leading_zero_makes_codes_of_numbers(codes):
    kind, said = of_texts(*codes)
    assert kind == TEXT
    assert "leading zeros" in said


@pytest.mark.parametrize("texts", [["0", "0.5", "-0.25", "0e3"], ["0,5", "0"], ["+0.5"]])
def test_a_zero_that_numbers_have_is_no_leading_zero(texts):
    assert of_texts(*texts)[0].kind == "number"


@pytest.mark.parametrize("mark", sorted(MARKS - {word.lower() for word in MISSING}))
def test_words_for_missing_are_so_among_numbers_and_dates_and_said(mark):
    for texts, kind in ((NUMBERS, "number"), (DAYS, "date")):
        found, said = of_texts(*texts, mark.upper(), mark.upper())
        assert (found.kind, found.marks) == (kind, (mark.upper(),))
        assert said == f"{mark.upper()!r} in 2 of {len(texts) + 2} rows counts as missing."


@pytest.mark.parametrize("texts", [["?", "a"], ["-", "--"], ["unknown", "n.a.", "red"]])
def test_words_for_missing_are_texts_among_texts(texts):
    assert of_texts(*texts) == (TEXT, "")


def test_no_word_is_guessed_where_the_user_named_them():
    with pytest.raises(UnfitError, match=r"--missing auto '\?'"):
        of_texts(*NUMBERS, "?", guess=False, missing=("x",))
    assert of_texts(*NUMBERS, "x", guess=False, missing=("x",)) == (number(), "")


def test_a_few_other_words_among_numbers_are_for_the_user_to_say():
    with pytest.raises(UnfitError) as caught:
        of_texts(*NUMBERS, "ill", "not well")
    said = str(caught.value)
    assert "holds numbers, 95.2 % of its values, and other words, 'ill', 'not well'" in said
    assert "--missing auto ill 'not well'" in said
    assert "--text c" in said
    assert "--ignore c" in said


@pytest.mark.parametrize(
    "texts",
    [
        [*NUMBERS, *("abcde" * 3)],
        ["1", "2", "x"] * 40,
        [*NUMBERS * 9, *"abcdef"],
    ],
)
def test_numbers_among_words_are_texts_and_said(texts):
    kind, said = of_texts(*texts)
    assert kind == TEXT
    assert said.startswith("it holds numbers and other words")


def test_dates_that_may_begin_with_day_or_month_are_for_the_user_to_say():
    with pytest.raises(UnfitError, match=r"in which the day or the month may come first.*--text"):
        of_texts("01/02/2024", "03/04/2024")


def test_dates_of_which_some_have_a_zone_are_refused():
    with pytest.raises(UnfitError, match="with a time zone and others without"):
        of_texts("2024-01-31T10:00Z", "2024-01-31T10:00")


MOMENT = datetime.datetime(2024, 1, 31)


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (pa.array([1, 2]), number()),
        (pa.array([1.5, None]), number()),
        (pa.array([decimal.Decimal("1.5")]), number()),
        (pa.array([0, 1, None]), number(truths=True)),
        (pa.array([0.0, 1.0]), number(truths=True)),
        (pa.array([0, 2]), number()),
        (pa.nulls(2), number()),
        (pa.array([True, None]), BOOLEAN),
        (pa.array(["1", "2"]), TEXT),
        (pa.array(["1", "2"], pa.large_string()), TEXT),
        (pa.array(["x", None]), TEXT),
        (pa.array([None], pa.string()), TEXT),
        (pa.array(["1", "1"]).dictionary_encode(), TEXT),
        (pa.array(["2024-01-31", None]), ColumnType("c", "date")),
        (pa.array([MOMENT]), ColumnType("c", "date")),
        (pa.array([MOMENT.date()]), ColumnType("c", "date")),
        (pa.array([MOMENT], pa.timestamp("ns", "Europe/Berlin")), ColumnType("c", "date", zoned=True)),
        (pa.array([datetime.timedelta(1)]), ColumnType("c", "duration")),
    ],
)
def test_a_column_with_a_type_is_that(array, kind):
    assert typed_type("c", pa.chunked_array([array])) == kind


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (pa.array([[1]]), "list"),
        (pa.array([{"a": 1}]), "struct"),
        (pa.array([b"x"]), "binary"),
        (pa.array([datetime.time(1)]), "time64"),
    ],
)
def test_a_column_of_what_is_no_feature_is_refused(array, name):
    with pytest.raises(UnfitError, match=rf"holds {name}.* values, which cannot be a feature.*--ignore c"):
        typed_type("c", pa.chunked_array([array]))


def test_the_order_and_the_pieces_of_rows_decide_nothing():
    texts = np.array([*NUMBERS, "?", *DAYS, "a", "007"])
    for part in (texts[:41], texts[:40], texts[41:71], texts):
        expected = of_texts(*part)
        for seed in range(5):
            mixed = np.random.default_rng(seed).permutation(part)
            assert of_texts(*mixed)[0] == expected[0]
            pieces = pa.chunked_array([mixed[:7].tolist(), mixed[7:].tolist()])
            assert text_type("c", pieces, MISSING, guess=True)[0] == expected[0]


def test_pandas_words_for_missing_are_ours():
    assert MISSING == pd._libs.parsers.STR_NA_VALUES
