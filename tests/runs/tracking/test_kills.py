"""Killed at random moments and gone on with, a run stands in every tracker once, each step of it once."""

from pathlib import Path

import pytest

from reliability import kills

pytest.importorskip("mlflow")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
KILLS = 2


def test_nothing_is_doubled_and_nothing_lost(tmp_path, database, scalars):
    import mlflow  # noqa: F401 - forks need not import it

    plain = kills.train(3)
    where = plain.first.index("none")
    words = [*plain.first[:where], "tensorboard", "mlflow", *plain.first[where + 1 :]]

    def again(folder: Path) -> list[str]:
        kept = list(plain.again(folder))
        return words if "--resume" not in kept else kept

    def outcome(folder: Path) -> object:
        ((run,),) = database.rows(f"select run_uuid from tags where key = 'folder' and value = '{folder / 'run'}'")
        metrics = f"select key, step, value from metrics where run_uuid = '{run}' and key not like '%seconds'"
        ((status,),) = database.rows(f"select status from runs where run_uuid = '{run}'")
        events = {name: steps for name, steps in scalars(folder / "run").items() if "seconds" not in name}
        return status, database.rows(f"{metrics} order by key, step"), events

    made = kills.kill(kills.Work(words, again, outcome), KILLS, tmp_path / "places")
    assert made["kills"] == KILLS
    # One run for the undisturbed command, and one for each that was killed until it ended.
    assert database.rows("select count(*) from runs") == [(1 + made["ends"],)]
    _, rows, _ = outcome(tmp_path / "places/straight")
    assert [step for key, step, _ in rows if key == "train/train_loss"] == [1, 2, 3]
