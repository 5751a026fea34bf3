"""The life of a step, and what stands behind private names of torch."""

import pytest
import torch
from torch import Tensor, nn

from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, Case
from imbsam.errors import OptionError, PassError
from imbsam.optim import Combined, ImbSAM, Parts, Passes, SharpnessAware, Step, Term, create
from imbsam.optim._batchnorm import _has_kernels
from optim.loops import contents, identical, imbsam, make_passes, mean_closure, sam, sgd, take_step

BATCH = MLP.batch(HEAD_AND_TAIL)


def test_a_step_is_new_then_open_then_done_then_dead() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    step = optimizer.passes(BATCH[1])
    lives = [step.life]
    with step:
        for p in step:
            lives.append(step.life)
            p.backward(MLP.loss(model(BATCH[0][p.rows]), BATCH[1][p.rows]))
    lives.append(step.life)
    optimizer.step()
    assert [*dict.fromkeys(lives), step.life] == ["new", "open", "done", "dead"]
    assert Passes is Step


def test_a_step_that_waits_is_dropped_by_zero_grad_alone() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    step = make_passes(optimizer, model, MLP.loss, BATCH)
    with pytest.raises(PassError, match=r"would drop finished passes that wait for step\(\): .*accumulate=True"):
        optimizer.passes(BATCH[1])
    assert step.life == "done"
    optimizer.zero_grad()
    assert step.life == "dead"
    with pytest.raises(PassError, match="no finished passes to apply"):
        optimizer.step()


def test_a_step_whose_combine_fails_is_dead_and_nothing_is_left_of_it() -> None:
    class Failing(ImbSAM):
        def combine(self, parts: Parts) -> Combined | None:
            raise ValueError("of one's own")

    model = BATCH_NORM.model()
    optimizer = Failing(sgd(model.parameters()), torch.tensor([False, False, False, True, True]), model=model)
    before = contents(model)
    with pytest.raises(ValueError, match="of one's own"):
        take_step(optimizer, model, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))
    assert identical(contents(model), before)
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(PassError, match="no finished passes to apply"):
        optimizer.step()


def test_a_method_whose_gradients_reach_nothing_combines_nothing() -> None:
    model = MLP.model()
    for name in ("gsam", "looksam"):
        optimizer = create(name, model)
        with optimizer.passes(BATCH[1]) as passes:
            for p in passes:
                p.backward(torch.zeros(len(p.rows), dtype=torch.float64, requires_grad=True) * 1)
        assert all(p.grad is None for p in model.parameters())


class Recording(SharpnessAware):
    """A method that keeps every gradient apart."""

    keeps_ascents = True

    def terms(self, targets: Tensor) -> list[Term]:
        mean = torch.full((len(targets),), 1 / len(targets), dtype=torch.float64)
        return [Term(mean), Term(mean, ascent=mean, apart=True)]

    def combine(self, parts: Parts) -> Combined | None:
        self.found = {name: name in parts for name in ("step", "ascent 1", "descent 1", "ascent 0", "descent 0")}
        self.losses = dict(parts.losses)
        self.shapes = [len(parts.gradient(name)) for name in ("step", "ascent 1", "descent 1")]
        return None


def test_parts_go_by_their_names() -> None:
    model = MLP.model()
    optimizer = Recording(sgd(model.parameters()), rho=0.5, model=model)
    loss = take_step(optimizer, model, MLP.loss, BATCH)
    assert [name for name, there in optimizer.found.items() if there] == ["step", "ascent 1", "descent 1"]
    assert optimizer.shapes == [4, 4, 4]
    torch.testing.assert_close(optimizer.losses["step"], loss, atol=1e-12, rtol=0)
    assert optimizer.losses["descent 1"] > loss


def test_bind_tells_of_a_wrapped_model_and_keeps_state_and_memory() -> None:
    model = BATCH_NORM.model()
    optimizer = create("friendly-sam", model)
    take_step(optimizer, model, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))
    memory, state = optimizer.memory, contents(optimizer)
    wrapped = nn.Sequential(model)
    optimizer.bind(wrapped)
    assert optimizer.model is wrapped
    assert optimizer.memory is memory
    assert identical(contents(optimizer), state)
    take_step(optimizer, wrapped, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))


def test_bind_sees_a_batch_norm_that_was_put_in_later() -> None:
    model, twin = MLP.model(), MLP.model()
    late, early = nn.BatchNorm1d(8, dtype=torch.float64), nn.BatchNorm1d(8, dtype=torch.float64)
    optimizer = imbsam(MLP, model, sgd([*model.parameters(), *late.parameters()]))
    model.insert(1, late)
    optimizer.bind(model)
    twin.insert(1, early)
    params = [*twin[0].parameters(), *twin[3].parameters(), *early.parameters()]
    other = imbsam(MLP, twin, sgd(params))
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def test_bind_refuses_a_model_of_other_parameters_and_open_passes() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    with pytest.raises(OptionError, match="has none of the optimizer's parameters"):
        optimizer.bind(MLP.model())
    assert optimizer.model is model
    with optimizer.passes(BATCH[1]), pytest.raises(PassError, match=r"bind\(\) inside open passes"):
        optimizer.bind(model)


def test_a_scaler_is_recognised_by_itself_and_not_by_a_private_method(monkeypatch: pytest.MonkeyPatch) -> None:
    def renamed(self, optimizer, found, *args, **kwargs):
        return optimizer.step(*args, **kwargs)

    monkeypatch.setattr(torch.amp.GradScaler, "_maybe_opt_step", renamed)
    model = MLP.model()
    optimizer, scaler = sam(MLP, model), torch.amp.GradScaler("cpu")
    closure = mean_closure(model, MLP.loss, BATCH, scaler.scale)
    closure()
    with pytest.raises(PassError, match=r"loss_scale=scaler\.get_scale"):
        scaler.step(optimizer, closure)


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_without_the_fused_operators_a_step_is_the_same(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    model, twin = case.model(), case.model()
    take_step(imbsam(case, model), model, case.loss, case.batch(HEAD_AND_TAIL))
    for name in ("mul_", "add_", "copy_", "norm"):
        monkeypatch.delattr(torch, f"_foreach_{name}")
    optimizer = imbsam(case, twin, sgd(twin.parameters(), foreach=False))
    take_step(optimizer, twin, case.loss, case.batch(HEAD_AND_TAIL))
    torch.testing.assert_close(contents(twin), contents(model), atol=1e-12, rtol=0)


def test_without_the_kernels_of_batch_norm_a_step_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    model, twin = BATCH_NORM.model(), BATCH_NORM.model()
    assert _has_kernels()
    take_step(imbsam(BATCH_NORM, model, context_rows=1), model, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))
    monkeypatch.setattr("imbsam.optim._batchnorm._has_kernels", lambda: False)
    take_step(imbsam(BATCH_NORM, twin, context_rows=1), twin, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))
    torch.testing.assert_close(contents(twin), contents(model), atol=1e-12, rtol=0)
