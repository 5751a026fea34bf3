import numpy as np
import pandas as pd
import pytest

from imbsam.data import load
from imbsam.errors import DataError

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}
ROWS = "size,kind\n1,a\n2,b\n3,a\n4,b\n"


@pytest.fixture
def write(tmp_path):
    """A function that writes a file's text and gives its path."""

    def written(text, name="table.csv"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return written


@pytest.mark.parametrize(
    ("name", "text"), [("t.csv", ROWS), ("t.tsv", ROWS.replace(",", "\t")), ("t.csv", ROWS.replace(",", ";"))]
)
def test_commas_tabs_and_semicolons_separate_columns(write, name, text):
    dataset = load(write(text, name), target="kind", **WHOLE)
    assert dataset.classes == ("a", "b")
    assert dataset.train.targets.tolist() == [0, 1, 0, 1]
    assert dataset.train.names == ["1", "2", "3", "4"]


@pytest.mark.parametrize("name", ["t.csv.gz", "t.parquet"])
def test_other_forms_of_the_same_table_give_the_same(write, tmp_path, name):
    frame = pd.read_csv(write(ROWS))
    (frame.to_parquet if name.endswith("parquet") else frame.to_csv)(tmp_path / name, index=False)
    assert load(str(tmp_path / name), target="kind", **WHOLE).train.targets.tolist() == [0, 1, 0, 1]


def test_an_npz_has_its_classes_in_y(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.arange(8.0).reshape(4, 2), y=np.array([[0.0], [1.0], [1.0], [0.0]]))
    dataset = load(str(tmp_path / "t.npz"), **WHOLE)
    assert dataset.classes == ("0", "1")
    assert dataset.spec.numeric == 2
    assert dataset.train.targets.tolist() == [0, 1, 1, 0]


def test_numeric_classes_are_in_numeric_order(write):
    assert load(write("x,y\n1,10\n2,9\n3,-1\n"), target="y", **WHOLE).classes == ("-1", "9", "10")


def test_train_and_test_files_of_a_folder_are_the_parts(write, tmp_path):
    write(ROWS, "train.csv")
    write("kind,size\nb,7\n", "test.csv")
    dataset = load(str(tmp_path), target="kind", validation_fraction=0)
    assert dataset.test.targets.tolist() == [1]
    assert dataset.test.names == ["test.csv row 1"]


def test_a_test_file_without_the_target_is_left_out_and_said(write, tmp_path):
    write(ROWS, "train.csv")
    write("size\n7\n", "test.csv")
    dataset = load(str(tmp_path), target="kind", validation_fraction=0)
    assert dataset.test is None
    assert any("test part has no labels" in note for note in dataset.notes)


@pytest.mark.parametrize(("target", "message"), [(None, "which column"), ("sort", "no column 'sort'")])
def test_a_missing_target_column_lists_the_columns(write, target, message):
    with pytest.raises(DataError, match=rf"{message}.*--target; the columns are size, kind"):
        load(write(ROWS), target=target)


def test_empty_target_cells_are_named_or_skipped(write):
    path = write(ROWS + "5,\n6,NA\n7,a\n")
    with pytest.raises(DataError, match="'kind' is empty in 2 of 7 rows: row 5, 6"):
        load(path, target="kind")
    dataset = load(path, target="kind", skip_bad=True, **WHOLE)
    assert dataset.train.names == ["1", "2", "3", "4", "7"]
    assert any("2 rows without a target were skipped" in note for note in dataset.notes)


def test_an_empty_target_column_is_refused(write):
    with pytest.raises(DataError, match="'kind' is empty in every row"):
        load(write("size,kind\n1,\n2,\n"), target="kind", skip_bad=True)


def test_a_target_of_fractions_is_refused(write):
    with pytest.raises(DataError, match=r"row 2: the target column 'y' holds 1\.5"):
        load(write("x,y\n1,1\n2,1.5\n"), target="y")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("size,kind\n", "0 rows"),
        ("size,kind\n1,a\n2,b,c,d\n", "row 2 has 4 fields, the header names 2"),
        ('size,kind\n1,"a\n2,b\n', "a quote is not closed"),
    ],
)
def test_a_csv_that_cannot_be_read_is_named(write, text, message):
    with pytest.raises(DataError, match=rf"table\.csv: .*{message}"):
        load(write(text), target="kind")


def test_a_csv_that_is_no_text_is_named(tmp_path):
    (tmp_path / "t.csv").write_bytes(b"size,kind\n\x00\x01,\x80\n")
    with pytest.raises(DataError, match=r"t\.csv: .*text"):
        load(str(tmp_path / "t.csv"), target="kind")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"plain text"])
def test_an_npz_that_cannot_be_read_is_named(tmp_path, content):
    (tmp_path / "t.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"t\.npz: cannot be read as a table"):
        load(str(tmp_path / "t.npz"))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data": np.zeros((3, 2))}, "it holds data"),
        ({"X": np.zeros((3, 2)), "y": np.zeros(4)}, "X has 3 rows"),
        ({"X": np.array([[{}]], dtype=object), "y": np.zeros(1)}, "allow_pickle"),
    ],
)
def test_an_npz_of_other_arrays_is_named(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=message):
        load(str(tmp_path / "t.npz"))


def test_files_with_different_columns_are_named(write, tmp_path):
    write(ROWS, "train.csv")
    write("weight,kind\n1,a\n", "test.csv")
    with pytest.raises(DataError, match=r"test\.csv: .*missing size, additional weight"):
        load(str(tmp_path), target="kind")


def test_a_decimal_comma_is_said(write):
    dataset = load(write("size;kind\n1,5;a\n2,25;b\n3;a\n4;b\n"), target="kind", **WHOLE)
    assert [column["name"] for column in dataset.preprocess["numeric"]] == ["size"]
    assert dataset.preprocess["numeric"][0]["median"] == 2.625
    assert "the decimal mark is a comma." in dataset.notes
