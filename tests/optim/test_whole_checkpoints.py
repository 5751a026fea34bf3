"""State dicts as torch, torch.distributed.checkpoint and versions before write them: all of the method comes back."""

import copy
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    get_state_dict,
    set_optimizer_state_dict,
    set_state_dict,
)

from cases import HEAD_AND_TAIL, MLP
from imbsam.errors import OptionError, PassError
from imbsam.optim import METHODS, SAM, LookSAM, SharpnessAware
from optim.loops import adamw, contents, identical, sgd
from optim.test_contract import everything
from optim.test_whole import made, step

BASES = {"sgd": sgd, "adamw": adamw, "stateless": lambda params: torch.optim.SGD(params, lr=0.1)}
REMEMBERING = ("looksam", "friendly-sam", "vasso", "sampa")
EVERY = pytest.mark.parametrize("name", METHODS)
EVERY_BASE = pytest.mark.parametrize(
    ("base", "name"), [(base, name) for base in BASES for name in METHODS if (base, name) != ("stateless", "msam")]
)
OPTIONS = {
    "as it is": StateDictOptions(),
    "flattened": StateDictOptions(flatten_optimizer_state_dict=True),
    "whole": StateDictOptions(full_state_dict=True, cpu_offload=True),
}
# What torch 2.9 and later say of their own code.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")


def start(name: str, base: str, steps: int = 0) -> tuple[nn.Module, SharpnessAware]:
    model = MLP.model()
    options = {"interval": 3} if name == "looksam" else {"switch": 6} if name == "sse-sam" else {}
    optimizer = made(name, model, BASES[base](model.parameters()), **options)
    for seed in range(steps):
        step(optimizer, model, seed)
    return model, optimizer


def assert_goes_on(one: tuple[nn.Module, SharpnessAware], other: tuple[nn.Module, SharpnessAware]) -> None:
    """Both make the same steps, over the next SAM step of LookSAM and the switch of SSE-SAM."""
    assert one[1].steps == other[1].steps
    for seed in range(5):
        step(one[1], one[0], 10 + seed)
        step(other[1], other[0], 10 + seed)
        assert identical(everything(*one), everything(*other))


@EVERY_BASE
@pytest.mark.parametrize("into", [0, 1], ids=["fresh", "stepped"])
@pytest.mark.parametrize("options", ["as it is", "whole"])
def test_a_run_goes_on_from_what_distributed_checkpoint_carries(name: str, base: str, into: int, options: str) -> None:
    if (base, options) == ("stateless", "whole") and name not in REMEMBERING:
        pytest.skip("torch refuses the whole state of an optimizer without any, by an assertion")
    model, optimizer = start(name, base, 4)
    weights, state = get_state_dict(model, optimizer, options=OPTIONS[options])
    twin, other = start(name, base, into)
    set_state_dict(
        twin, other, model_state_dict=weights, optim_state_dict=copy.deepcopy(state), options=OPTIONS[options]
    )
    assert_goes_on((model, optimizer), (twin, other))


@EVERY_BASE
def test_a_run_goes_on_from_a_checkpoint_that_is_loaded_in_place(name: str, base: str, tmp_path: Path) -> None:
    model, optimizer = start(name, base, 4)
    weights, state = get_state_dict(model, optimizer)
    dcp.save({"model": weights, "optimizer": state}, checkpoint_id=tmp_path, no_dist=True)
    twin, other = start(name, base)
    weights, state = get_state_dict(twin, other)
    saved = {"model": weights, "optimizer": state}
    dcp.load(saved, checkpoint_id=tmp_path, no_dist=True)
    set_state_dict(twin, other, model_state_dict=saved["model"], optim_state_dict=saved["optimizer"])
    assert_goes_on((model, optimizer), (twin, other))


@EVERY
def test_a_flattened_state_comes_back_or_is_refused_by_name(name: str) -> None:
    model, optimizer = start(name, "sgd", 4)
    state = get_optimizer_state_dict(model, optimizer, options=OPTIONS["flattened"])
    twin, other = start(name, "sgd")
    twin.load_state_dict(model.state_dict())
    if name in REMEMBERING:
        with pytest.raises(OptionError, match=r"keeps 4 tensors beside those of the base, and has 0 of them"):
            set_optimizer_state_dict(twin, other, state, options=OPTIONS["flattened"])
        assert other.param_groups[0]["lr"] == 0.1
        assert (other.steps, other.memory) == (0, {})
        return
    set_optimizer_state_dict(twin, other, state, options=OPTIONS["flattened"])
    assert_goes_on((model, optimizer), (twin, other))


@EVERY
@pytest.mark.parametrize("base", BASES)
def test_a_state_taken_before_the_first_step_moves_nothing(name: str, base: str) -> None:
    model, optimizer = start(name, base)
    before, lr = contents(model), optimizer.param_groups[0]["lr"]
    get_optimizer_state_dict(model, optimizer)
    assert identical(contents(model), before)
    assert optimizer.param_groups[0]["lr"] == lr
    assert (optimizer.steps, optimizer.memory) == (0, {})


def test_open_passes_refuse_and_leave_the_learning_rate() -> None:
    model, optimizer = start("sam", "sgd")
    with optimizer.passes(HEAD_AND_TAIL) as passes:
        with pytest.raises(PassError, match="inside open passes"):
            get_optimizer_state_dict(model, optimizer)
        assert optimizer.param_groups[0]["lr"] == 0.1
        assert not optimizer.state
        x, y = MLP.batch(HEAD_AND_TAIL)
        for p in passes:
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    optimizer.step()


@pytest.mark.parametrize("lr", [0.0, 0.1])
def test_a_step_without_passes_is_no_initialisation(lr: float) -> None:
    model, optimizer = start("sam", "sgd")
    optimizer.param_groups[0]["lr"] = lr
    for gradient in (None, torch.ones_like):
        for p in model.parameters():
            p.grad = None if gradient is None else gradient(p)
        with pytest.raises(PassError, match="no finished passes"):
            optimizer.step()


@pytest.mark.parametrize("name", REMEMBERING)
def test_a_state_dict_of_versions_before_loads(name: str) -> None:
    """It had the method's part beside the base's alone."""
    model, optimizer = start(name, "adamw", 4)
    before = {**optimizer.base.state_dict(), "sharpness": optimizer.state_dict()["sharpness"]}
    for group in before["param_groups"]:
        del group["sharpness"]
    twin, other = start(name, "adamw")
    twin.load_state_dict(model.state_dict())
    other.load_state_dict(copy.deepcopy(before))
    assert_goes_on((model, optimizer), (twin, other))


def test_the_state_of_the_base_alone_has_the_counts_and_lacks_memory() -> None:
    _, sam = start("sam", "sgd", 3)
    _, other = start("sam", "sgd")
    other.load_state_dict(sam.base.state_dict())
    assert other.steps == 3
    _, looksam = start("looksam", "sgd", 3)
    with pytest.raises(OptionError, match=r"belongs into optimizer\.base\.load_state_dict\(\)"):
        looksam.load_state_dict(looksam.base.state_dict())
    assert looksam.memory


def test_memory_of_another_model_is_refused_before_anything_is_loaded() -> None:
    p, q = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))
    one, other = LookSAM(torch.optim.SGD([p], lr=0.1)), LookSAM(torch.optim.SGD([q], lr=0.2))
    one.step(lambda rows: (p**2).sum().expand(len(rows)), targets=HEAD_AND_TAIL)
    with pytest.raises(OptionError, match=r"'looksam' of LookSAM has shape \(2,\) for a parameter of shape \(3,\)"):
        other.load_state_dict(one.state_dict())
    assert other.param_groups[0]["lr"] == 0.2


def test_a_loaded_state_is_not_shared() -> None:
    _, optimizer = start("sam", "sgd", 2)
    twin, other = start("sam", "sgd")
    other.load_state_dict(optimizer.state_dict())
    held = contents(optimizer)
    step(other, twin)
    assert identical(held, contents(optimizer))
    assert isinstance(other, SAM)
