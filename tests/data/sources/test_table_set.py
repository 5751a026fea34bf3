"""Several files as one table."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from imbsam.data.sources.dialect import AS_FOUND
from imbsam.data.sources.table_set import TableSet, joined
from imbsam.errors import DataError


def test_several_files_are_one_table_by_names_of_columns(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("b;a\n4,5;3\n")
    files = TableSet.open([tmp_path / "1.csv", tmp_path / "2.csv"], AS_FOUND)
    table, names = files.whole(["a", "b"])
    assert table.to_pydict() == {"a": ["1", "3"], "b": ["2", "4,5"]}
    assert names == ["1.csv row 1", "2.csv row 1"]
    found = [(block.to_pydict(), list(rows)) for block, rows in files.blocks(["a"], 5)]
    assert found == [({"a": ["1"]}, ["1.csv row 1"]), ({"a": ["3"]}, ["2.csv row 1"])]
    assert files.notes == ["2.csv: columns are separated by semicolons."]
    assert (files.has("a"), files.has(None), files.having("c"), files.having("b")) == (True, False, [], ["b"])


def test_files_of_other_columns_or_of_another_kind_are_refused(tmp_path):
    (tmp_path / "1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "2.csv").write_text("b,c\n4,3\n")
    with pytest.raises(DataError, match=r"2\.csv: its columns differ .*missing a, additional c"):
        TableSet.open([tmp_path / "1.csv", tmp_path / "2.csv"], AS_FOUND)
    pa.parquet.write_table(pa.table({"a": [1], "b": [2]}), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="a mix of text files and others"):
        TableSet.open([tmp_path / "1.csv", tmp_path / "t.parquet"], AS_FOUND)


def test_files_whose_types_do_not_fit_are_refused():
    numbers = joined([pa.table({"a": [1]}), pa.table({"a": [1.5]})])
    assert numbers["a"].to_pylist() == [1, 1.5]
    with pytest.raises(DataError, match="do not fit together"):
        joined([pa.table({"a": [1]}), pa.table({"a": ["x"]})])
