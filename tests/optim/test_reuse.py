"""The reused ascent against a textbook loop that remembers the tail's last gradients."""

import copy

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, NO_TAIL, ONE_TAIL_ROW, ROUTED, TAIL, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import GSAM, SAM, SSESAM, Gradient, ImbSAM, LookSAM, Random, Reuse
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, identical, make_passes, sgd, take_step

RHO = 0.3


class Remembering:
    """grad L_head(w) + grad L_tail(w + e), e along m; then m <- decay m + (1 - decay) grad L_tail(w + e)."""

    def __init__(self, case: Case, rhos: list[float], refresh: int, decay: float, damping: float) -> None:
        self.case, self.rhos, self.refresh, self.decay, self.damping = case, rhos, refresh, decay, damping
        self.mean: oracles.Grads | None = None
        self.steps = 0

    def __call__(self, params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        fresh = self.mean is None or (self.refresh > 0 and self.steps % self.refresh == 0)
        self.steps += 1
        everything, in_tail = torch.arange(len(y)), TAIL[y]
        head, tail = everything[~in_tail], everything[in_tail]

        def gradient_of(rows: Tensor) -> oracles.Grads:
            if self.case.coupled:
                return oracles.gradient(params, losses_of(everything)[rows].sum() / len(y))
            return oracles.gradient(params, losses_of(rows).sum() / len(y))

        total: oracles.Grads = gradient_of(head) if len(head) else [None] * len(params)
        if not len(tail):
            return total
        e = oracles.perturbation(gradient_of(tail) if fresh else self.mean, self.rhos, self.damping)
        with oracles.displaced(params, e):
            climbed = gradient_of(tail)
        self.mean = [
            old if new is None else new if old is None else self.decay * old + (1 - self.decay) * new
            for old, new in zip(self.mean or [None] * len(params), climbed, strict=True)
        ]
        return oracles.added(total, climbed)


@BASE_AND_GROUPS
@pytest.mark.parametrize(("refresh", "decay", "damping"), [(0, 0.0, 0.0), (0, 0.6, 0.2), (2, 0.0, 0.0), (3, 0.5, 0.1)])
@pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM], ids=str)
def test_it_equals_the_textbook_loop(
    case: Case, refresh: int, decay: float, damping: float, base: str, groups: str
) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, RHO, 0.1)
    ascent = Reuse(refresh, decay, damping=damping)
    optimizer = ImbSAM(BASES[base][0](given), TAIL, ascent=ascent, model=model, batch_statistics="batch")
    oracle = Remembering(case, rhos, refresh, decay, damping)
    assert_follows(optimizer, model, case, oracle, base=base, at_the_weights=case.coupled)


def rows_forwarded(optimizer: ImbSAM, case: Case, targets: Tensor) -> list[int]:
    x, y = case.batch(targets)
    rows = []
    with optimizer.passes(y) as passes:
        for p in passes:
            rows.append(len(p.rows))
            p.backward(case.loss(passes_model(optimizer)(x[p.rows]), y[p.rows]))
    optimizer.step()
    return rows


def passes_model(optimizer: ImbSAM) -> torch.nn.Module:
    assert optimizer.model is not None
    return optimizer.model


def test_each_row_is_forwarded_once() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(), model=model, check_rows=False)
    first, *later = [rows_forwarded(optimizer, MLP, t) for t in (HEAD_AND_TAIL, ONE_TAIL_ROW, NO_TAIL, HEAD_AND_TAIL)]
    assert first == [2, 2, 5]
    assert later == [[1, 10], [6], [2, 5]]


def test_beside_batch_norm_the_tail_is_forwarded_once_more_with_its_context() -> None:
    model = BATCH_NORM.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(), model=model, context_rows=2)
    assert [rows_forwarded(optimizer, BATCH_NORM, HEAD_AND_TAIL) for _ in range(2)] == [[7, 4, 4], [7, 4]]


def test_it_is_refreshed_every_few_steps() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(refresh=3), model=model)
    assert [len(rows_forwarded(optimizer, MLP, HEAD_AND_TAIL)) for _ in range(5)] == [3, 2, 2, 3, 2]


def test_a_refresh_in_every_step_is_the_plain_ascent() -> None:
    model, twin = MLP.model(), MLP.model()
    one = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(refresh=1, damping=0.2), model=model)
    other = ImbSAM(sgd(twin.parameters()), TAIL, rho=RHO, ascent=Gradient(0.2), model=twin)
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), atol=1e-14, rtol=0)


def test_what_it_remembers_outlives_steps_and_checkpoints_bit_for_bit() -> None:
    model = MLP.model()
    optimizer = SSESAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(decay=0.3), model=model)
    first, *rest = MLP.batches()
    take_step(optimizer, model, MLP.loss, first)
    twin = copy.deepcopy(model)
    resumed = SSESAM(sgd(twin.parameters()), TAIL, rho=RHO, ascent=Reuse(decay=0.3), model=twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for batch in rest:
        take_step(optimizer, model, MLP.loss, batch)
        take_step(resumed, twin, MLP.loss, batch)
    assert sorted(optimizer.memory) == ["ascent 0", "ascent 1"]
    assert identical(contents(model, optimizer), contents(twin, resumed))


def test_the_loss_scale_does_not_reach_what_it_remembers() -> None:
    memories = []
    for scale in (1.0, 1024.0):
        model = MLP.model()
        optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(damping=0.2), model=model)
        x, y = MLP.batch(HEAD_AND_TAIL)
        for _ in range(2):
            with optimizer.passes(y, loss_scale=scale) as passes:
                for p in passes:
                    p.backward(scale * MLP.loss(model(x[p.rows]), y[p.rows]))
            with torch.no_grad():
                for p in model.parameters():
                    p.grad /= scale
            optimizer.step()
        memories.append(list(optimizer.memory["ascent 1"].values()))
    torch.testing.assert_close(*memories, atol=1e-13, rtol=0)


def test_a_step_that_is_refused_teaches_nothing() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, rho=RHO, ascent=Reuse(), model=model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    take_step(optimizer, model, MLP.loss, (x, y))
    before = contents(model), [m.clone() for m in optimizer.memory["ascent 1"].values()]
    with pytest.raises(NonFiniteError):
        optimizer.step(lambda rows: MLP.loss(model(x[rows]), y[rows]) * torch.inf, targets=y)
    assert identical(before[0], contents(model))
    assert identical(before[1], list(optimizer.memory["ascent 1"].values()))


def test_the_gradient_of_the_step_does_not_share_memory_with_what_is_remembered() -> None:
    model = MLP.model()
    optimizer = SAM(sgd(model.parameters()), rho=RHO, ascent=Reuse(), model=model)
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    gradient = [p.grad.clone() for p in model.parameters()]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    optimizer.step()
    assert identical(gradient, list(optimizer.memory["ascent 0"].values()))


@pytest.mark.parametrize("ascent", [Reuse(), Random()], ids=str)
@pytest.mark.parametrize("method", [GSAM, LookSAM])
def test_a_method_that_compares_with_the_ascent_gradient_refuses_to_go_without(
    method: type[GSAM | LookSAM], ascent: Reuse | Random
) -> None:
    with pytest.raises(OptionError, match="compares the gradients before and after the perturbation"):
        method(sgd(MLP.model().parameters()), ascent=ascent)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"refresh": -1}, "refresh must be a whole number, at least 0; got -1"),
        ({"decay": 1.0}, "decay must be at least 0 and below 1; got 1.0"),
        ({"damping": -0.1}, "damping must be finite and at least 0"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Reuse(**options)
