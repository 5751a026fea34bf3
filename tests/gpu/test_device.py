"""What an accelerator has of its own, over every method: ``make gpu`` runs it on cuda; it passes on the CPU as well."""

import copy
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.distributed as dist
from capacity import WORK
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from cases import BATCH_NORM, CASES, DEVICE, HEAD_AND_TAIL, MLP, ONE_TAIL_ROW, TAIL, Case, cross_entropy
from docs import capacity_steps
from docs.capacity_steps import BATCH, network
from imbsam.errors import PassError
from imbsam.optim import METHODS, SharpnessAware, create
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from optim.family import PRIORS
from runs.test_resume import Killed, kill_after

EVERY = pytest.mark.parametrize("name", METHODS)
GROUP_NORM = next(case for case in CASES if case.name == "group norm cnn")
ON = pytest.mark.parametrize("case", [MLP, BATCH_NORM, GROUP_NORM], ids=str)


def made(name: str, model: nn.Module, **options: Any) -> SharpnessAware:
    return create(name, model, priors=PRIORS, tail=TAIL, total_steps=6, **{"check_rows": False, **options})


def step(optimizer: SharpnessAware, model: nn.Module, case: Case, x: Tensor, y: Tensor, targets: Tensor) -> Tensor:
    """One step in the loop of the README; the targets lie on the CPU, where the plan is made."""
    with optimizer.passes(targets) as passes:
        for p in passes:
            rows, classes = p.select(x, y)
            with torch.set_grad_enabled(p.needs_gradient):
                losses = case.loss(model(rows), classes)
            p.backward(losses)
    optimizer.step()
    return passes.loss


@contextmanager
def no_waiting() -> Iterator[None]:
    """Make every synchronisation an error, where the device is cuda."""
    if DEVICE.type != "cuda":
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@EVERY
@ON
def test_an_unchecked_step_never_waits_for_the_device(name: str, case: Case) -> None:
    if name == "esam":
        pytest.skip("ESAM selects rows by their losses, which come to the CPU")
    model = case.model(torch.float32)
    optimizer = made(name, model, nonfinite="unchecked")
    x, y = case.batch(HEAD_AND_TAIL, dtype=torch.float32)
    step(optimizer, model, case, x, y, HEAD_AND_TAIL)
    with no_waiting():
        for _ in range(2):
            step(optimizer, model, case, x, y, HEAD_AND_TAIL)
    assert optimizer.steps == 3


@EVERY
@ON
def test_steps_are_those_of_the_cpu(name: str, case: Case) -> None:
    if name in ("friendly-sam", "esam", "trace-sam", "frob-sam", "det-sam") and DEVICE.type != "cpu":
        pytest.skip("draws random numbers on its device, and so others than the CPU")
    model = case.model()
    twin = copy.deepcopy(model).cpu()
    optimizer, other = made(name, model), made(name, twin)
    for number, targets in enumerate((HEAD_AND_TAIL, ONE_TAIL_ROW, HEAD_AND_TAIL)):
        x, y = case.batch(targets, number)
        torch.manual_seed(number)
        loss = step(optimizer, model, case, x, y, targets)
        torch.manual_seed(number)
        expected = step(other, twin, case, x.cpu(), y.cpu(), targets)
        torch.testing.assert_close(loss.cpu(), expected, atol=1e-9, rtol=0)
    here = {key: tensor.cpu() for key, tensor in model.state_dict().items()}
    torch.testing.assert_close(here, dict(twin.state_dict()), atol=1e-9, rtol=0)


@EVERY
def test_a_checkpoint_of_the_device_goes_on_there_and_on_the_cpu(name: str) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    step(optimizer, model, MLP, x, y, HEAD_AND_TAIL)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    for place in (DEVICE, torch.device("cpu")):
        file.seek(0)
        held = torch.load(file, map_location="cpu")
        again = MLP.model().to(place)
        other = made(name, again)
        again.load_state_dict(held["model"])
        other.load_state_dict(held["optimizer"])
        for kept in other.state.values():
            assert all(value.device.type == place.type for value in kept.values() if isinstance(value, Tensor))
        step(other, again, MLP, x.to(place), y.to(place), HEAD_AND_TAIL)
        assert other.steps == 2


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
@EVERY
def test_mixed_precision_trains(name: str, precision: torch.dtype) -> None:
    model = MLP.model(torch.float32)
    optimizer = made(name, model, lr=0.05)
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    losses = []
    for _ in range(20):
        with optimizer.passes(HEAD_AND_TAIL) as passes:
            for p in passes:
                rows, classes = p.select(x, y)
                with torch.autocast(DEVICE.type, precision), torch.set_grad_enabled(p.needs_gradient):
                    found = MLP.loss(model(rows), classes)
                p.backward(found)
        optimizer.step()
        losses.append(float(passes.loss))
    assert losses[-1] < losses[0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["plain", "sam", "imbsam", "cc-sam"])
def test_a_model_compiled_by_inductor_trains_as_it_is(name: str) -> None:
    model = MLP.model(torch.float32)
    twin = copy.deepcopy(model)
    compiled = torch.compile(model)
    optimizer, other = made(name, model), made(name, twin)
    for number in range(3):
        x, y = MLP.batch(HEAD_AND_TAIL, number, torch.float32)
        step(optimizer, compiled, MLP, x, y, HEAD_AND_TAIL)
        step(other, twin, MLP, x, y, HEAD_AND_TAIL)
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), atol=1e-4, rtol=1e-3)
    torch.compiler.reset()


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process group of this process alone: nccl on cuda, gloo elsewhere."""
    dist.init_process_group("nccl" if DEVICE.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("one_process")
@EVERY
def test_one_process_under_ddp_makes_the_steps_without_it(name: str) -> None:
    model = BATCH_NORM.model()
    twin = copy.deepcopy(model)
    wrapped = DistributedDataParallel(model)
    optimizer, other = made(name, wrapped), made(name, twin)
    for number in range(2):
        x, y = BATCH_NORM.batch(HEAD_AND_TAIL, number)
        for each, net in ((optimizer, wrapped), (other, twin)):
            torch.manual_seed(number)
            step(each, net, BATCH_NORM, x, y, HEAD_AND_TAIL)
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), atol=1e-10, rtol=0)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_is_trained_and_resumed_there(tmp_path: Any, options: Callable[..., Any], precision: str) -> None:
    values = {"device": DEVICE.type, "epochs": 3, "hidden": [8], "precision": precision, "average": "ema"}
    straight, resumed = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "resumed")
    result = fit(straight, "digits", options(**values), label="a")
    with pytest.raises(Killed):
        fit(resumed, "digits", options(**values), label="a", on_epoch=kill_after(1))
    fit(resumed, *resumed.read_config(), label="a")
    assert result.test.balanced > 0.2
    weights = straight.read_weights()
    for key, tensor in resumed.read_weights().items():
        assert torch.equal(tensor, weights[key]), key


OF_CUDA = pytest.mark.skipif(DEVICE.type != "cuda", reason="of CUDA itself: IMBSAM_TEST_DEVICE is not cuda")


@OF_CUDA
def test_a_step_in_a_cuda_graph_is_refused_and_training_goes_on() -> None:
    model = MLP.model(torch.float32)
    optimizer = made("imbsam", model, nonfinite="unchecked")
    x, y = MLP.batch(HEAD_AND_TAIL, dtype=torch.float32)
    step(optimizer, model, MLP, x, y, HEAD_AND_TAIL)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PassError, match="CUDA graph"), torch.cuda.graph(torch.cuda.CUDAGraph()):
        step(optimizer, model, MLP, x, y, HEAD_AND_TAIL)
    for key, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[key]), key
    step(optimizer, model, MLP, x, y, HEAD_AND_TAIL)
    assert optimizer.steps == 2


@OF_CUDA
@pytest.mark.parametrize("coupled", [False, True], ids=["alone", "context"])
@pytest.mark.parametrize("name", WORK)
def test_memory_is_as_many_copies_of_the_parameters_as_the_capacity_page_says(name: str, coupled: bool) -> None:
    model = network(coupled=coupled, width=4096, depth=6).to(DEVICE)
    size = sum(p.nbytes for p in model.parameters())
    elsewhere = torch.cuda.memory_allocated() - size
    optimizer = capacity_steps.made(name, model, model, "context" if coupled else "alone")
    x = torch.randn(len(BATCH), 4096, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    y = BATCH.to(DEVICE)

    def closure(rows: Tensor) -> Tensor:
        there = rows.to(DEVICE)
        return cross_entropy(model(x[there]), y[there])

    optimizer.step(closure, targets=BATCH)
    torch.cuda.reset_peak_memory_stats()
    for _ in range(capacity_steps.period(name) + 1):
        optimizer.step(closure, targets=BATCH)
    highest = (torch.cuda.max_memory_allocated() - elsewhere) / size
    _, most = WORK[name].copies(1, coupled=coupled)
    # A workspace of the device's library and the activations are there, too.
    assert most.at(**capacity_steps.quantities(name)) <= highest < most.at(**capacity_steps.quantities(name)) + 0.6
