import os

import pytest

from imbsam.errors import OptionError
from imbsam.runs.places import called_by, check_apart, free


@pytest.mark.parametrize(
    ("source", "folder"),
    [("pets", "pets"), (".", "here"), ("my pets!/", "my-pets"), ("a.csv", "a"), ("a.csv,b.csv", "a.csv-b")],
)
def test_the_default_folder_is_called_by_the_source(tmp_path, monkeypatch, source, folder):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("pets", "my pets!"):
        (tmp_path / "here" / name).mkdir()
    assert called_by(source) == folder


def test_a_free_place_never_is_a_taken_one(tmp_path):
    assert free(tmp_path / "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert free(tmp_path / "run") == tmp_path / "run-3"


def test_a_long_name_leaves_room_in_the_folder_called_by_it():
    assert len(os.fsencode(f"compare-{called_by('ä' * 120 + '.csv')}-imbsam-seed0")) < 255
    assert called_by("St\udcdf \udce9.csv") == "St"


@pytest.mark.parametrize("source", ["a.csv", "a.csv,b.csv", "*.csv", "./a.csv", "link.csv", "b.csv,hard.csv"])
def test_an_output_never_replaces_what_is_read(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).touch()
    (tmp_path / "link.csv").symlink_to("a.csv")
    os.link("a.csv", "hard.csv")
    check_apart(tmp_path / "c.txt", source)
    with pytest.raises(OptionError, match=r"a\.csv would replace the input data"):
        check_apart(tmp_path / "a.csv", source)


def test_an_output_does_not_lie_among_the_data(tmp_path):
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    check_apart(tmp_path / "p.csv", str(tmp_path / "photos"))
    with pytest.raises(OptionError, match=r"p\.csv would be among the input data"):
        check_apart(tmp_path / "photos" / "p.csv", str(tmp_path / "photos"))
