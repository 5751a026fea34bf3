"""Progress: lines where they are printed, one line that is replaced in a notebook."""

import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from imbsam.notebook import progress
from imbsam.notebook.kernel import is_kernel, is_under_kernel
from imbsam.notebook.progress import Progress


class Shown:
    """What a notebook shows in one place."""

    def __init__(self):
        self.displayed, self.updates = 0, []

    def display(self, shown, *, raw):
        self.displayed += 1
        self.updates.append(shown)

    def update(self, shown, *, raw):
        assert self.displayed
        self.updates.append(shown)


@pytest.fixture
def notebook(monkeypatch) -> Shown:
    shown = Shown()
    monkeypatch.setattr(progress, "_handle", lambda: shown)
    return shown


def test_every_part_is_a_line_outside_a_notebook(capsys):
    with Progress(2, shown=True) as told:
        told.tell("epoch 1: loss 0.5")
        told.tell("epoch 2: loss 0.25")
    assert capsys.readouterr().out == "epoch 1: loss 0.5\nepoch 2: loss 0.25\n"


def test_nothing_is_shown_that_was_not_asked_for(capsys, monkeypatch):
    monkeypatch.setattr(progress, "is_kernel", lambda: pytest.fail("nobody asked"))
    with Progress(2, shown=False) as told:
        told.tell("epoch 1: loss 0.5")
    assert capsys.readouterr().out == ""


def test_a_notebook_shows_one_line_with_a_bar_and_in_the_end_the_last_line_alone(notebook, monkeypatch, capsys):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN", 0)
    with Progress(3, shown=True) as told:
        told.tell("epoch 1: loss < 0.5")
        told.tell("epoch 2: loss 0.25")
    assert notebook.displayed == 1
    first, second, last = notebook.updates
    assert '<progress value="1" max="3"></progress>' in first["text/html"]
    assert '<progress value="2" max="3"></progress>' in second["text/html"]
    assert "epoch 1: loss &lt; 0.5 (1 of 3)" in first["text/html"]
    assert last["text/plain"] == "epoch 2: loss 0.25 (2 of 3)"
    assert "<progress" not in last["text/html"]
    assert capsys.readouterr().out == ""


def test_a_thousand_quick_parts_are_few_updates(notebook):
    with Progress(1000, shown=True) as told:
        for part in range(1000):
            told.tell(f"part {part}")
    assert len(notebook.updates) < 100
    assert notebook.updates[-1]["text/plain"] == "part 999 (1000 of 1000)"


def test_the_last_line_stays_when_the_work_fails(notebook):
    with pytest.raises(ValueError, match="failed"), Progress(3, shown=True) as told:  # noqa: PT012
        told.tell("epoch 1")
        raise ValueError("failed")
    assert notebook.updates[-1]["text/plain"] == "epoch 1 (1 of 3)"


def test_work_without_parts_shows_nothing(notebook):
    with Progress(0, shown=True):
        pass
    assert notebook.updates == []


def test_threads_count_together(notebook):
    with Progress(200, shown=True) as told, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda part: told.tell(f"part {part}"), range(200)))
    assert notebook.updates[-1]["text/plain"].endswith("(200 of 200)")


@pytest.mark.parametrize(("shell", "expected"), [(None, False), (object(), False), ("kernel", True)])
def test_ipython_in_a_terminal_is_no_notebook(monkeypatch, shell, expected):
    found = types.SimpleNamespace(kernel=object()) if shell == "kernel" else shell
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: found))
    assert is_kernel() is expected


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not is_kernel()
    assert "IPython" not in sys.modules


@pytest.mark.parametrize(
    ("backend", "expected"), [("module://matplotlib_inline.backend_inline", True), ("agg", False), (None, False)]
)
def test_the_backend_tells_a_command_that_a_kernel_started_it(monkeypatch, backend, expected):
    if backend is None:
        monkeypatch.delenv("MPLBACKEND", raising=False)
    else:
        monkeypatch.setenv("MPLBACKEND", backend)
    assert is_under_kernel() is expected
