"""Runs on processes, on a real Dask cluster, on a real Ray cluster."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from distributed import LocalCluster
from joblib.externals.loky import get_reusable_executor

from imbsam.config import Options
from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.studies.compare import Variant, compare, plan_runs
from imbsam.studies.tune import Range, Search, tune
from imbsam.studies.workers import Workers


@pytest.fixture(scope="module")
def cluster():
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=50) as started:
        yield started


@pytest.fixture
def processes():
    yield
    get_reusable_executor().shutdown()


def planned(folder, options, methods=("sgd", "imbsam")):
    return plan_runs(folder, options, [Variant.parse(label) for label in methods], [0])


def bytes_of(folder) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in sorted(folder.glob("runs/*/best.safetensors"))}


def twice(number: int) -> tuple[int, int, str]:
    return 2 * number, os.getpid(), os.getcwd()  # noqa: PTH109


def dies_once(work: tuple[Path, int]) -> int:
    """The first call takes its process with it."""
    mark, number = work
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return number
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def dies(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@pytest.mark.slow
def test_the_runs_of_a_dask_cluster_are_those_of_one_process_bit_for_bit(tmp_path, options, cluster):
    chosen = options(threads=1)
    serial = list(compare(tmp_path / "a", "digits", planned(tmp_path / "a", chosen), workers=Workers(1)))
    dask = Workers(None, "dask", cluster.scheduler_address)
    spread = list(compare(tmp_path / "b", "digits", planned(tmp_path / "b", chosen), workers=dask))
    assert [outcome.error for outcome in serial + spread] == [None] * 4
    assert len(bytes_of(tmp_path / "a")) == 2
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")


@contextmanager
def a_worker_dies(folder: Path, workers: Callable[[], list[int]]) -> Iterator[None]:
    """Kill one of the workers as soon as a run is in training, and see that none was finished by then."""
    finished: list[list[Path]] = []

    def kill() -> None:
        until = time.monotonic() + 60
        while not list(folder.glob("runs/*/last.ckpt")) and time.monotonic() < until:
            time.sleep(0.005)
        finished.append(list(folder.glob("runs/*/result.json")))
        os.kill(workers()[0], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    yield
    killer.join()
    assert finished == [[]]


def processes_of_joblib() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "popen_loky" in " ".join(child.cmdline())]


LONG = {"epochs": 20, "threads": 1}


@pytest.fixture(scope="module")
def serial(tmp_path_factory):
    """The runs of a comparison and of a study, one after the other in this process."""
    folder, chosen = tmp_path_factory.mktemp("serial"), Options().updated({**LONG, "track": "none"})
    assert not any(o.error for o in compare(folder / "c", "digits", planned(folder / "c", chosen), workers=Workers(1)))
    tried = list(tune(folder / "t", "digits", chosen, SEARCH, workers=Workers(1)))
    return bytes_of(folder / "c"), bytes_of(folder / "t"), [(each.values, each.score) for each in tried]


SEARCH = Search([Range.parse("lr=0.05:0.2")], trials=2)


@pytest.mark.slow
def test_a_comparison_whose_process_dies_ends_as_the_serial_one(tmp_path, options, serial, processes):
    runs = planned(tmp_path, options(**LONG))
    with a_worker_dies(tmp_path, processes_of_joblib), pytest.warns(RunWarning, match="a process died"):
        assert not any(outcome.error for outcome in compare(tmp_path, "digits", runs, workers=Workers(2)))
    assert bytes_of(tmp_path) == serial[0]


@pytest.mark.slow
def test_a_comparison_whose_dask_worker_dies_ends_as_the_serial_one(tmp_path, options, serial, cluster):
    runs, dask = planned(tmp_path, options(**LONG)), Workers(None, "dask", cluster.scheduler_address)
    with a_worker_dies(tmp_path, lambda: [worker.pid for worker in cluster.workers.values()]):
        assert not any(outcome.error for outcome in compare(tmp_path, "digits", runs, workers=dask))
    assert bytes_of(tmp_path) == serial[0]


@pytest.mark.slow
def test_a_study_whose_process_dies_ends_as_the_serial_one(tmp_path, options, serial, processes):
    with a_worker_dies(tmp_path, processes_of_joblib), pytest.warns(RunWarning, match="a process died"):
        tried = list(tune(tmp_path, "digits", options(**LONG), SEARCH, workers=Workers(2)))
    assert sorted((each.values["lr"], each.score) for each in tried) == sorted(
        (values["lr"], score) for values, score in serial[2]
    )
    assert bytes_of(tmp_path) == serial[1]


@pytest.mark.slow
def test_a_dask_worker_that_dies_is_replaced_and_its_work_done_again(tmp_path, cluster):
    work = [(tmp_path / "mark", number) for number in range(3)]
    assert sorted(Workers(None, "dask", cluster.scheduler_address).carry_out(dies_once, work)) == [0, 1, 2]


@pytest.mark.slow
def test_workers_work_in_our_folder(tmp_path, cluster, monkeypatch, processes):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        for workers in (Workers(2), Workers(None, "dask", cluster.scheduler_address)):
            made = list(workers.carry_out(twice, [1, 2, 3]))
            assert sorted(number for number, _, _ in made) == [2, 4, 6]
            assert {folder for _, _, folder in made} == {str(tmp_path / place)}
            assert os.getpid() not in {process for _, process, _ in made}


@pytest.mark.slow
def test_processes_end_when_told_and_others_follow(processes):
    workers = Workers(2)
    for work in ([1, 2, 3], [4, 5]):
        ids = {process for _, process, _ in workers.carry_out(twice, work)}
        assert all(map(psutil.pid_exists, ids))
        workers.end(len(work))
        assert not any(map(psutil.pid_exists, ids))


@pytest.mark.parametrize(("workers", "work"), [(Workers(1), 3), (Workers(2), 1), (Workers(2), 0)])
def test_where_there_are_no_processes_none_end(workers, work, monkeypatch):
    monkeypatch.setattr("joblib.externals.loky.get_reusable_executor", None)
    workers.end(work)


def test_where_there_is_nothing_to_do_nothing_is_done():
    assert list(Workers(2).carry_out(twice, [])) == []


@pytest.mark.slow
def test_a_process_that_dies_is_replaced_and_said(tmp_path, processes):
    work = [(tmp_path / "mark", number) for number in range(3)]
    with pytest.warns(RunWarning, match="a process died, perhaps for lack of memory"):
        assert sorted(Workers(2).carry_out(dies_once, work)) == [0, 1, 2]


@pytest.mark.slow
def test_a_process_that_dies_again_and_again_is_an_error(processes):
    with pytest.warns(RunWarning), pytest.raises(RunError, match="a process died 3 times"):
        list(Workers(2).carry_out(dies, [1, 2]))


def test_workers_of_several_threads_are_refused():
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0", processes=False) as cluster,
        pytest.raises(OptionError, match="has several threads"),
    ):
        list(Workers(None, "dask", cluster.scheduler_address).carry_out(twice, [1]))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
    monkeypatch.setattr("imbsam.studies.workers.PATIENCE", 0.5)
    with pytest.raises(RunError, match="no Dask scheduler answers at tcp:"):
        list(Workers(None, "dask", "tcp://127.0.0.1:9").carry_out(twice, [1]))


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"jobs": 0}, "--jobs must be at least 1"),
        ({"address": "tcp://x:1"}, "name its kind"),
        ({"backend": "dask"}, "needs the address of the cluster, for example --address tcp://"),
        ({"backend": "ray"}, "needs the address of the cluster, for example --address 10"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, told):
    with pytest.raises(OptionError, match=told):
        Workers(**asked)


CLUSTER = """
import subprocess, sys, ray
address = ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False).address_info["address"]
words = ["imbsam", *sys.argv[1:], "--backend", "ray", "--address", address]
sys.exit(subprocess.run([sys.executable, "-m", *words]).returncode)
"""


@pytest.mark.slow
def test_the_runs_of_a_ray_cluster_are_those_of_one_process_bit_for_bit(tmp_path, options):
    list(compare(tmp_path / "a", "digits", planned(tmp_path / "a", options(threads=1)), workers=Workers(1)))
    words = "compare digits --methods sgd imbsam --seeds 1 --epochs 2 --threads 1 --track none --json --out b"
    ran = subprocess.run(
        [sys.executable, "-c", CLUSTER, *words.split()],
        cwd=tmp_path,
        env={**os.environ, "RAY_AUTH_MODE": "disabled"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert bytes_of(tmp_path / "a") == bytes_of(tmp_path / "b")
