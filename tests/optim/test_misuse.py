"""What would train wrongly without a word is refused by name, and nothing moves."""

from collections.abc import Callable, Iterator

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.distributed.fake_pg import FakeStore

from cases import HEAD_AND_TAIL, MLP, TAIL
from imbsam.errors import OptionError, PassError
from imbsam.optim import SAM, ImbSAM
from optim.loops import contents, identical, imbsam, make_passes, mean_closure, rows_closure, sam, sgd, take_step

BATCH = MLP.batch(HEAD_AND_TAIL)


def test_a_base_that_evaluates_the_loss_by_itself_is_refused() -> None:
    model = MLP.model()
    with pytest.raises(OptionError, match="LBFGS evaluates the loss itself"):
        ImbSAM(torch.optim.LBFGS(model.parameters()), TAIL)


def test_a_base_whose_step_knows_no_closure_serves() -> None:
    class Bare(torch.optim.SGD):
        def step(self) -> None:
            super().step()

    model, twin = MLP.model(), MLP.model()
    take_step(SAM(Bare(model.parameters(), lr=0.1)), model, MLP.loss, BATCH)
    take_step(SAM(torch.optim.SGD(twin.parameters(), lr=0.1)), twin, MLP.loss, BATCH)
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_closure_handed_on_by_a_grad_scaler_is_refused(scheduled: bool) -> None:
    model = MLP.model()
    optimizer = sam(MLP, model)
    if scheduled:
        torch.optim.lr_scheduler.StepLR(optimizer, 1)
    scaler = torch.amp.GradScaler("cpu")
    closure = mean_closure(model, MLP.loss, BATCH, scaler.scale)
    before = contents(model)
    closure()  # As the usual SAM protocol has it; without a gradient the scaler itself refuses.
    with pytest.raises(PassError, match=r"loss_scale=scaler\.get_scale"):
        scaler.step(optimizer, closure)
    assert identical(contents(model), before)


@pytest.mark.parametrize("call", ["passes", "step", "closure"])
def test_a_cuda_graph_that_is_captured_is_refused_and_nothing_moves(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    if call == "step":
        make_passes(optimizer, model, MLP.loss, BATCH)
    before = contents(model)
    calls: dict[str, Callable[[], object]] = {
        "passes": lambda: optimizer.passes(BATCH[1]),
        "step": optimizer.step,
        "closure": lambda: take_step(optimizer, model, MLP.loss, BATCH),
    }
    with monkeypatch.context() as capturing:
        capturing.setattr(torch.cuda, "is_initialized", lambda: True)
        capturing.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        with pytest.raises(PassError, match="CUDA graph"):
            calls[call]()
    assert identical(contents(model), before)
    if call == "step":
        optimizer.step()
    else:
        take_step(optimizer, model, MLP.loss, BATCH)
    assert optimizer.steps == 1


def test_a_scaler_that_is_switched_off_hands_on_any_closure() -> None:
    model, twin = MLP.model(), MLP.model()
    torch.amp.GradScaler("cpu", enabled=False).step(sam(MLP, model), mean_closure(model, MLP.loss, BATCH))
    sam(MLP, twin).step(mean_closure(twin, MLP.loss, BATCH))
    assert identical(contents(model), contents(twin))


def test_a_closure_after_finished_passes_is_refused_until_they_are_applied_or_dropped() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    closure = rows_closure(model, MLP.loss, *BATCH)
    for finish in (optimizer.step, optimizer.zero_grad):
        make_passes(optimizer, model, MLP.loss, BATCH)
        with pytest.raises(PassError, match="but earlier passes still wait"):
            optimizer.step(closure, targets=BATCH[1])
        finish()
        optimizer.step(closure, targets=BATCH[1])
    assert optimizer.steps == 3


def test_gradients_cleared_before_the_step_are_no_step() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    make_passes(optimizer, model, MLP.loss, BATCH)
    optimizer.zero_grad()
    with pytest.raises(PassError, match="no finished passes"):
        optimizer.step()
    assert optimizer.steps == 0


def test_a_closure_inside_open_passes_is_refused() -> None:
    model = MLP.model()
    optimizer = sam(MLP, model)
    before = contents(model)
    with optimizer.passes(BATCH[1]) as passes:
        next(iter(passes))
        with pytest.raises(PassError, match="inside open passes"):
            optimizer.step(mean_closure(model, MLP.loss, BATCH))
    assert identical(contents(model), before)


@pytest.fixture
def _two_ranks() -> Iterator[None]:
    """This process as one of two whose messages go nowhere."""
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=2)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_two_ranks")
@pytest.mark.parametrize("knows_the_bare_model", [False, True])
def test_a_model_distributed_after_the_optimizer_was_made_is_refused(knows_the_bare_model: bool) -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, model=model if knows_the_bare_model else None)
    wrapped = DistributedDataParallel(model)
    before = contents(model)
    with pytest.raises(PassError, match="with the wrapped model"):
        take_step(optimizer, wrapped, MLP.loss, BATCH)
    assert identical(contents(model), before)
