import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from imbsam.data.sources.kinds import ColumnType
from imbsam.data.sources.schema import Reading, Schema, decimal_of, learn, missing_words
from imbsam.errors import DataError

NUMBER, TEXT = ColumnType("n", "number"), ColumnType("t", "text")
SCHEMA = Schema((NUMBER, TEXT))


def texts(**columns):
    return pa.table({name: pa.array(column, pa.string()) for name, column in columns.items()})


def test_a_schema_goes_through_json_and_back():
    schema = Schema((NUMBER, ColumnType("d", "date", form="%d.%m.%Y", zoned=True, marks=("?",), truths=True)), ("x",))
    assert Schema.of(json.loads(json.dumps(schema.plain()))) == schema
    assert schema.names == ["n", "d"]
    assert schema.without(["n"]) == Schema(schema.columns[1:], ("x",))


@pytest.mark.parametrize(
    "damaged", [None, {}, {"columns": [{"name": "n"}]}, {"columns": [{"name": "n", "kind": "colour"}]}]
)
def test_a_damaged_schema_is_refused(damaged):
    with pytest.raises(DataError, match="the types of the columns"):
        Schema.of(damaged)


def test_the_words_asked_for_are_missing_beside_the_empty_cell():
    assert missing_words(("x",)) == {"", "x"}
    assert missing_words(()) == {""}
    assert missing_words(("auto", "x")) >= {"", "NA", "null", "x"}
    assert "auto" not in missing_words(("auto",))


def test_each_column_is_learnt_and_what_was_decided_is_said():
    schema, notes = learn(texts(n=["5", "?"], c=["007", "1"], w=["5", "6"]), is_file=True, texts=["w"])
    assert schema.columns == (
        ColumnType("n", "number", marks=("?",)),
        ColumnType("c", "text"),
        ColumnType("w", "text"),
    )
    assert [note.split(":")[0] for note in notes] == ["column 'n'", "column 'c'"]


def test_texts_that_have_a_type_stay_texts():
    assert learn(texts(n=["1", "2"]), is_file=False)[0].columns == (ColumnType("n", "text"),)


def test_words_asked_for_are_kept_in_the_schema():
    table = texts(n=["1", "gone"])
    schema, notes = learn(table, is_file=True, missing=["gone"])
    assert (schema.missing, notes) == (("gone",), [])
    np.testing.assert_array_equal(Reading(schema, "t.csv").frame(table, [1, 2])["n"], [1, np.nan])


def test_a_column_in_doubt_is_named():
    with pytest.raises(DataError, match=r"column 'n' holds numbers, 97\.6 % .*--text n.*\.$"):
        learn(texts(n=[*map(str, range(40)), "ill"]), is_file=True)
    with pytest.raises(DataError, match="column 'l' holds list values"):
        learn(pa.table({"l": [[1]]}), is_file=False)


def test_cells_that_cannot_be_read_are_counted_over_all_blocks():
    reading = Reading(SCHEMA, "t.csv")
    whole = texts(t=["a", "b", "c"], n=["1", "x", "y"])
    frames = [reading.frame(whole.slice(start, 1), [start + 1]) for start in range(3)]
    assert reading.notes() == ["column 'n': 2 values are not a number, first 'x' in row 2; read as missing."]
    read = pd.concat([frame["n"] for frame in frames])
    np.testing.assert_array_equal(read, [1, np.nan, np.nan])


def test_one_cell_that_cannot_be_read_is_said_in_the_singular():
    reading = Reading(Schema((ColumnType("d", "date"),)), "t.csv")
    reading.frame(texts(d=["2024-01-31", "soon"]), [1, 2])
    assert reading.notes() == ["column 'd': 1 value is not a date, first 'soon' in row 2; read as missing."]


def test_a_column_of_which_nothing_can_be_read_is_refused_after_the_last_row():
    reading = Reading(SCHEMA, "t.csv")
    reading.frame(texts(n=["x", None, "y"], t=["a", "b", "c"]), [1, 2, 3])
    with pytest.raises(DataError, match=r"t\.csv: row 1: column 'n' holds 'x', which is not a number"):
        reading.notes()
    reading.frame(texts(n=["5"], t=["a"]), [4])
    assert "2 values" in reading.notes()[0]


def test_an_empty_column_is_no_fault():
    reading = Reading(SCHEMA, "t.csv")
    assert reading.frame(texts(n=[None, "NA"], t=[None, None]), [1, 2]).isna().to_numpy().all()
    assert reading.notes() == []


def test_a_column_of_another_type_names_file_row_and_column():
    reading = Reading(Schema((ColumnType("d", "date"),)), "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: row seven: column 'd' holds '20240105'.*\.$"):
        reading.frame(texts(d=["2024-01-05", "20240105"]), ["six", "seven"])
    with pytest.raises(DataError, match=r"t\.csv: column 'd' was a date in training, and holds int64 values here\.$"):
        reading.frame(pa.table({"d": [20240105]}), ["six"])


@pytest.mark.parametrize(
    ("asked", "column", "mark"),
    [(None, ["0,5"], ","), (None, ["0.5"], "."), (None, ["5"], "."), (",", ["1,234"], ","), (".", ["0,5"], ".")],
)
def test_the_decimal_mark_is_asked_for_or_found(asked, column, mark):
    assert decimal_of(lambda: texts(n=column).columns, asked, "t.csv")() == mark


def test_a_decimal_mark_in_doubt_is_for_the_user_to_say_when_it_is_needed():
    found = decimal_of(lambda: texts(n=["1,234"]).columns, None, "t.csv")
    with pytest.raises(DataError, match=r"t\.csv: .*1,234.*--decimal"):
        found()


def test_the_decimal_mark_is_searched_once_and_not_in_typed_columns():
    searched = []

    def columns():
        searched.append(1)
        return [pa.chunked_array([[1.5]]), *texts(n=["0,5"]).columns]

    found = decimal_of(columns, None, "t.csv")
    assert searched == []
    assert (found(), found()) == (",", ",")
    assert searched == [1]
