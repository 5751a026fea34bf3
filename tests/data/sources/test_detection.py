import pytest

from imbsam.data import load, load_like
from imbsam.errors import DataError, DataWarning


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


@pytest.mark.parametrize(
    "names",
    [
        ("train_2023.csv", "year_2024.csv"),
        ("customers_training_jan.csv", "train_2023.csv", "year_2024.csv"),
        ("year_2024.csv", "test.csv"),
        ("val.csv", "test.csv"),
    ],
)
def test_files_whose_names_contradict_each_other_are_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n")
    for source in (",".join(f"{tmp_path}/{name}" for name in names), f"{tmp_path}/*.csv", str(tmp_path)):
        with pytest.raises(DataError, match=r"the purpose of some is unclear\. .*Rename them"):
            load(source, target="y")


def test_a_file_that_is_named_twice_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x,y\n1,a\n2,b\n")
    with pytest.raises(DataError, match=r"named twice: .*a\.csv"):
        load(f"{tmp_path}/a.csv,{tmp_path}/*.csv", target="y")


def test_files_of_one_part_are_all_of_the_data(tmp_path):
    for name in ("train_2023.csv", "train_2024.csv"):
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n3,a\n4,b\n")
    assert len(load(f"{tmp_path}/*.csv", target="y", test_fraction=0, validation_fraction=0).train) == 8


def test_what_lies_beside_train_csv_is_named(tmp_path):
    for name in ("train.csv", "test.csv", "sample_submission.csv"):
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n")
    (tmp_path / "plots").mkdir()
    dataset = load(str(tmp_path), target="y", validation_fraction=0)
    assert (len(dataset.train), len(dataset.test)) == (2, 2)
    assert dataset.notes[0] == f"not read in {tmp_path}: plots/, sample_submission.csv."


def test_a_table_beside_class_folders_is_read_where_its_column_is_asked_for(class_folders):
    (class_folders / "labels.csv").write_text("x,y\n1,a\n2,b\n")
    images = load(str(class_folders), test_fraction=0, validation_fraction=0)
    assert (images.classes, images.notes) == (("cat", "dog", "eel"), (f"not read in {class_folders}: labels.csv.",))
    table = load(str(class_folders), target="y", test_fraction=0, validation_fraction=0)
    assert (table.classes, table.notes[0]) == (("a", "b"), f"not read in {class_folders}: cat/, dog/, eel/.")


def test_what_is_called_digits_goes_before_the_bundled_digits(class_folders, monkeypatch):
    folder = class_folders.rename(class_folders.with_name("digits"))
    bundled = load("digits")
    monkeypatch.chdir(folder.parent)
    own = load("digits")
    assert own.classes == ("cat", "dog", "eel")
    assert "the folder digits is used, not scikit-learn's digits." in own.notes
    assert len(bundled.classes) == 10
    with pytest.warns(DataWarning) as warned:
        samples, _ = load_like("digits", own.preprocess)
    assert len(samples) == 18
    assert "these are the data that the model was trained on" in str(warned[-1].message)
    with pytest.raises(DataError, match="not among the classes of training"):
        load_like("digits", bundled.preprocess)


def test_a_file_called_digits_is_said_to_stand_before_the_bundled_digits(tmp_path, monkeypatch):
    (tmp_path / "digits").write_text("0123456789")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        DataError, match=r"the kind of this source is unclear\. It has precedence over scikit-learn's digits"
    ):
        load("digits")


def test_files_may_be_joined_by_commas(tmp_path):
    for name in ("one.csv", "two.csv"):
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n3,a\n4,b\n")
    dataset = load(f"{tmp_path}/one.csv,{tmp_path}/two.csv", target="y", test_fraction=0, validation_fraction=0)
    assert dataset.train.names[0] == "one.csv row 1"
    assert len(dataset.train) == 8


def test_many_files_joined_are_no_name_that_is_too_long(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = [f"part-{number:05}-of-00030.csv" for number in range(30)]
    for name in names:
        (tmp_path / name).write_text("x,y\n1,a\n2,b\n")
    dataset = load(",".join(names), target="y", test_fraction=0, validation_fraction=0)
    assert len(dataset.train) == 60
