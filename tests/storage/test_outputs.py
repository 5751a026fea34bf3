import os
from pathlib import Path

import pytest

from imbsam.errors import RunError
from imbsam.storage.files import write_atomically
from imbsam.storage.outputs import check_folder, check_writable


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("name", ["new.csv", "a/b/new.csv", "old.csv", "n" * 255, "ä" * 127, "-x", "St\udcdf.csv"])
def test_a_place_that_can_be_written_is_left_as_it_is(tmp_path, name):
    (tmp_path / "old.csv").write_text("old")
    check_writable(tmp_path / name)
    assert everything(tmp_path) == ["old.csv"]
    assert (tmp_path / "old.csv").read_text() == "old"
    write_atomically(tmp_path / name, "new")
    assert (tmp_path / name).read_text() == "new"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("file/new.csv", "file is a file, not a folder"),
        ("file/a/b/new.csv", "file is a file, not a folder"),
        ("folder", "a folder has this name"),
        ("n" * 256, "File name too long"),
        ("a/b/" + "n" * 256, "File name too long"),
        ("a/" + "n" * 256 + "/new.csv", "File name too long"),
        ("circle/new.csv", "File exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path, name, reason):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    before = everything(tmp_path)
    with pytest.raises(RunError, match=rf"cannot write .*{reason}\. Choose another place\."):
        check_writable(tmp_path / name)
    assert everything(tmp_path) == before


def test_a_protected_folder_and_a_protected_file_are_told(tmp_path, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "old.csv").touch()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(RunError, match=r"old\.csv: it is write-protected"):
        check_writable(tmp_path / "old.csv")
    monkeypatch.setattr(Path, "touch", refused)
    with pytest.raises(RunError, match=r"new\.csv: Permission denied"):
        check_writable(tmp_path / "a" / "new.csv")
    assert everything(tmp_path) == ["old.csv"]


def test_of_a_folder_each_file_is_tried(tmp_path):
    (tmp_path / "run" / "figures.png").mkdir(parents=True)
    check_folder(tmp_path / "other", ("a.json", "figures/b.png"))
    with pytest.raises(RunError, match=r"figures\.png: a folder has this name"):
        check_folder(tmp_path / "run", ("a.json", "figures.png"))
    assert everything(tmp_path) == ["run", "run/figures.png"]


def test_a_link_stays_a_link_and_its_file_is_written(tmp_path):
    (tmp_path / "link.csv").symlink_to("file.csv")
    write_atomically(tmp_path / "link.csv", "new")
    assert (tmp_path / "link.csv").is_symlink()
    assert (tmp_path / "file.csv").read_text() == "new"


def test_a_device_is_written_to_and_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    check_writable(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "new")
    assert os.read(reader, 10) == b"new"
    os.close(reader)
    assert everything(tmp_path) == ["pipe"]
    assert (tmp_path / "pipe").is_fifo()
