import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imbsam.data.sources.dialect import AS_FOUND
from imbsam.data.sources.endings import is_table
from imbsam.data.sources.opened import open_table
from imbsam.errors import DataError

NUMBERS = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, np.nan, 2.5]})


def opened(path):
    return open_table(path, AS_FOUND)


def whole(file):
    return file.whole(file.names).to_pydict()


def sheets(path, *found):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.remove(book.active)
    for place, rows in enumerate(found):
        sheet = book.create_sheet(f"S{place}")
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def written(folder, ending):
    """A file of NUMBERS."""
    path = folder / f"t{ending}"
    if ending == ".parquet":
        NUMBERS.to_parquet(path)
    elif ending == ".npz":
        np.savez(path, X=NUMBERS.to_numpy(), y=np.arange(3))
    elif ending == ".xlsx":
        cells = [[None if pd.isna(value) else value for value in row] for row in NUMBERS.to_numpy().tolist()]
        sheets(path, [list(NUMBERS), *cells])
    else:
        NUMBERS.to_csv(path, index=False)
    return path


ENDINGS = [".parquet", ".npz", ".xlsx", ".csv"]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_blocks_are_the_whole_in_pieces_of_the_columns_asked_for(tmp_path, ending, size):
    file = opened(written(tmp_path, ending))
    names = list(file.names)[::-1][:2]
    table = file.whole(names)
    blocks = list(file.blocks(names, size))
    assert table.column_names == names
    pd.testing.assert_frame_equal(pa.concat_tables(blocks).to_pandas(), table.to_pandas())
    assert [len(block) for block in blocks] == [len(piece) for piece in np.split(np.arange(3), range(size, 3, size))]
    assert file.is_text == (ending in (".csv", ".xlsx"))
    assert file.notes == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", ["empty", "cut", "other"])
def test_a_damaged_file_is_named(tmp_path, ending, damage):
    path = written(tmp_path, ending)
    data = path.read_bytes()
    path.write_bytes(
        {"empty": b"", "cut": data[: len(data) // 2], "other": np.random.default_rng(0).bytes(800)}[damage]
    )
    if ending == ".csv" and damage == "cut":
        path.write_text('a,b\n1,"2\n')
    with pytest.raises(DataError, match=rf"t\{ending}: "):
        whole(opened(path))


@pytest.mark.parametrize("ending", [".parquet", ".npz", ".xlsx"])
def test_a_file_damaged_within_is_named_when_it_is_read(tmp_path, ending):
    path = written(tmp_path, ending)
    data = bytearray(path.read_bytes())
    middle = slice(4, 60) if ending == ".parquet" else slice(len(data) // 3, len(data) // 3 + 60)
    data[middle] = bytes(byte ^ 0x5A for byte in data[middle])
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"t\{ending}: cannot be read as a table"):
        list(opened(path).blocks(opened(path).names, 2))


@pytest.mark.parametrize(
    ("index", "names", "values"),
    [
        (pd.RangeIndex(3), ["a", "b"], None),
        (pd.RangeIndex(5, 11, 2, name="id"), ["a", "b", "id"], [5, 7, 9]),
        (pd.Index([7, 9, 8], name="id"), ["a", "b", "id"], [7, 9, 8]),
        (pd.Index(["x", "y", "z"], name="key"), ["a", "b", "key"], ["x", "y", "z"]),
        (pd.MultiIndex.from_tuples([(1, 4), (2, 5), (3, 6)], names=["p", "q"]), ["a", "b", "p", "q"], [4, 5, 6]),
    ],
)
def test_a_named_index_of_a_parquet_file_is_a_column(tmp_path, index, names, values):
    path = tmp_path / "t.parquet"
    NUMBERS.set_axis(index).to_parquet(path)
    file = opened(path)
    assert (list(file.names), file.notes) == (names, [])
    if values is not None:
        assert file.whole([names[-1]])[names[-1]].to_pylist() == values
        blocks = pa.concat_tables(file.blocks([names[-1]], 2))
        assert blocks[names[-1]].to_pylist() == values


def test_an_index_without_a_name_is_left_out_and_said(tmp_path):
    path = tmp_path / "t.parquet"
    NUMBERS.set_axis([3, 1, 2]).to_parquet(path)
    file = opened(path)
    assert list(file.names) == ["a", "b"]
    assert file.notes == ["t.parquet: the index without a name was left out."]


def test_a_parquet_file_not_by_pandas_is_read(tmp_path):
    table = pa.table({"a": [1, 2], "d": [datetime.date(2024, 1, 31), None]})
    pq.write_table(table, tmp_path / "t.parquet")
    assert whole(opened(tmp_path / "t.parquet")) == table.to_pydict()


@pytest.mark.parametrize("ending", ["parquet", "xlsx", "csv"])
def test_columns_of_one_name_are_refused(tmp_path, ending):
    path = tmp_path / f"t.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]), path)
    elif ending == "xlsx":
        sheets(path, [["a", "a"], [1, 2]])
    else:
        path.write_text("a,a\n1,2\n")
    with pytest.raises(DataError, match="several columns are called 'a'"):
        opened(path)


def test_arrays_of_an_npz_beside_x_and_y_are_said(tmp_path):
    path = tmp_path / "t.npz"
    np.savez(path, X=np.eye(2), y=[[3], [4]], weights=[1, 2], extra=[0])
    file = opened(path)
    assert whole(file) == {"x0": [1, 0], "x1": [0, 1], "y": [3, 4]}
    assert file.notes == ["t.npz: arrays other than X and y were left out: extra, weights."]


def test_an_npz_may_be_without_y(tmp_path):
    np.savez(tmp_path / "t.npz", X=np.eye(2))
    assert list(opened(tmp_path / "t.npz").names) == ["x0", "x1"]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.eye(2)}, "expected arrays X .* it holds x"),
        ({"X": np.zeros(2)}, "expected arrays X"),
        ({"X": np.zeros((2, 2)), "y": np.zeros(3)}, "X has 2 rows, but y has the shape"),
    ],
)
def test_an_npz_of_other_arrays_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "t.npz", **arrays)
    with pytest.raises(DataError, match=rf"t\.npz: .*{message}"):
        opened(tmp_path / "t.npz")


MOMENT = datetime.datetime(2024, 1, 31, 10, 30)


def test_cells_of_a_sheet_are_texts(tmp_path):
    rows = [["n", "code", "d", "mixed"], [1, "007", MOMENT, "?"], [2.5, "8", None, True], [None] * 4, [3.0, "", "", 4]]
    file = opened(sheets(tmp_path / "t.xlsx", rows))
    assert whole(file) == {
        "n": ["1", "2.5", "3"],
        "code": ["007", "8", None],
        "d": ["2024-01-31 10:30:00", None, None],
        "mixed": ["?", "True", "4"],
    }
    assert (file.is_text, file.notes) == (True, [])


def test_the_first_sheet_is_read_and_the_others_are_said(tmp_path):
    path = sheets(tmp_path / "t.xlsx", [["a"], [1]], [["b"], [2]], [["c"]])
    file = opened(path)
    assert whole(file) == {"a": ["1"]}
    assert file.notes == ["t.xlsx: the first of 3 sheets was read; not S1, S2."]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "the first sheet, 'S0', is empty"),
        ([[None, None]], "the first sheet, 'S0', is empty"),
        ([["a", None], [1, 2]], "column 2 of the sheet 'S0' has values and no name"),
        ([["a"], [1, None, 3]], "column [23] of the sheet 'S0' has .*no name"),
    ],
)
def test_a_sheet_that_is_no_table_is_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=rf"t\.xlsx: {message}"):
        opened(sheets(tmp_path / "t.xlsx", rows))


def test_without_openpyxl_it_is_said_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openpyxl", None)
    (tmp_path / "t.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=r"t\.xlsx: .*pip install 'imbsam\[excel\]'; or save the sheet as CSV"):
        opened(tmp_path / "t.xlsx")


@pytest.mark.parametrize(
    ("name", "table"),
    [("a.csv", True), ("a.CSV.gz", True), ("a.XLSX", True), ("a.npz", True), ("a.parquet", True), ("a.xls", False)],
)
def test_the_ending_tells_a_table(tmp_path, name, table):
    assert is_table(tmp_path / name) is table
