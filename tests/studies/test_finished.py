import shutil

import pytest

from imbsam.config import Options
from imbsam.errors import OptionError, RunError
from imbsam.runs.folder import RunFolder
from imbsam.storage.records import SCHEMA
from imbsam.studies.comparison import Comparison
from imbsam.studies.finished import finished_runs


@pytest.fixture
def comparison(tmp_path):
    """A comparison of two runs that were begun, of which the first is finished."""
    folder = tmp_path / "comparison"
    for name in ("one", "two"):
        RunFolder(folder / name).write_config("digits", Options())
    RunFolder(folder / "one").result.write_text("{}")
    Comparison(SCHEMA, "digits", ("sgd",), (0, 1), ("one", "two"), "imbsam compare digits").write(folder)
    return folder


def test_a_comparison_stands_for_its_finished_runs_and_a_run_for_itself(comparison):
    assert finished_runs([comparison, comparison / "two"]) == [comparison / "one", comparison / "two"]


def test_a_comparison_without_a_finished_run_is_told(comparison):
    RunFolder(comparison / "one").result.unlink()
    with pytest.raises(RunError, match=r"no run of the comparison in .* is finished"):
        finished_runs([comparison])


def test_a_folder_without_a_run_is_told(comparison):
    shutil.rmtree(comparison / "two")
    with pytest.raises(RunError, match="is not a run's folder"):
        finished_runs([comparison / "one", comparison / "two"])


def test_a_run_that_is_named_twice_is_told(comparison):
    with pytest.raises(OptionError, match="given twice"):
        finished_runs([comparison, comparison / "one"])
