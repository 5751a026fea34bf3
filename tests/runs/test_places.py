import pytest

from imbsam.runs.places import called_by, free


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
