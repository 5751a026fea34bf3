import pytest

from imbsam.data import load
from imbsam.errors import DataError


def test_a_path_that_is_not_there_is_named_with_what_is_understood(tmp_path):
    with pytest.raises(DataError, match=r"(?s)gone\.csv.*no such file.*Understood are"):
        load(str(tmp_path / "gone.csv"))


def test_an_unknown_kind_is_told_what_is_understood(tmp_path):
    (tmp_path / "data.docx").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"(?s)data\.docx: cannot tell.*Understood are"):
        load(str(tmp_path / "data.docx"))


def test_an_empty_folder_is_said_to_be_empty(tmp_path):
    with pytest.raises(DataError, match="the folder is empty"):
        load(str(tmp_path))


def test_a_folder_of_something_else_is_told_what_is_understood(tmp_path):
    (tmp_path / "readme.md").write_text("hello")
    with pytest.raises(DataError, match=r"(?s)nothing in this folder.*Understood are"):
        load(str(tmp_path))


def test_several_tables_without_parts_are_listed(tmp_path):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("x,y\n1,a\n")
    with pytest.raises(DataError, match=r"several tables: one\.csv, two\.csv"):
        load(str(tmp_path), target="y")


def test_files_may_be_joined_by_commas(tmp_path):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n3,a\n4,b\n")
    dataset = load(f"{tmp_path}/one.csv,{tmp_path}/two.csv", target="y", test_fraction=0, validation_fraction=0)
    assert dataset.train.names[0] == "one.csv row 1"
    assert len(dataset.train) == 8
