"""Deterministic algorithms are chosen for a while, and what has none is named."""

import warnings

import pytest
import torch

from imbsam.errors import RunWarning
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.training.determinism import deterministic


def put():
    torch.zeros(4).put_(torch.tensor([0]), torch.tensor([1.0]))


def test_they_are_chosen_inside_and_not_after():
    with deterministic(True):
        assert torch.are_deterministic_algorithms_enabled()
    assert not torch.are_deterministic_algorithms_enabled()
    with deterministic(False):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_has_none_is_named_once_and_other_warnings_pass():
    with warnings.catch_warnings(record=True) as seen, deterministic(True) as without:
        warnings.simplefilter("always")
        put()
        put()
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert without == ["put_"]
    assert [str(warning.message) for warning in seen] == ["something else"]


NET = """
import torch
from torch import nn
class Net(nn.Sequential):
    def forward(self, x):
        x = x.flatten(1)
        x = x + torch.zeros(4).put_(torch.tensor([0]), torch.tensor([1.0])).sum() if {puts} else x
        return super().forward(x)
def net(spec, *, num_classes):
    return Net(nn.Linear(spec.channels * spec.height * spec.width, num_classes))
"""


@pytest.mark.parametrize("puts", [False, True])
def test_a_run_says_what_could_not_be_deterministic(tmp_path, monkeypatch, options, puts):
    (tmp_path / f"net_that_puts_{puts}.py").write_text(NET.format(puts=puts))
    monkeypatch.syspath_prepend(tmp_path)
    run = RunFolder(tmp_path / "run")
    told = "without a deterministic algorithm, so that runs may differ: put_."
    chosen = options(model=f"net_that_puts_{puts}:net", deterministic=True, epochs=1)
    if puts:
        with pytest.warns(RunWarning, match="put_"):
            fit(run, "digits", chosen)
    else:
        fit(run, "digits", chosen)
    assert (told in run.read_result().notes) == puts
