"""SSE-SAM against its formula, before and after the switch."""

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, BATCHES, CASES, EMBEDDING, MLP, ROUTED, TAIL, Case
from imbsam.errors import NonFiniteError, OptionError
from imbsam.optim import SAM, SSESAM, ImbSAM
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, halves
from optim.loops import Forwards, contents, identical, plain_step, sgd, take_step


@BASE_AND_GROUPS
@pytest.mark.parametrize("switch", [None, 3, 0])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_sse_sam_equals_the_textbook_loop(case: Case, switch: int | None, base: str, groups: str) -> None:
    model = case.model()
    first, second = halves(model)
    given: list[dict[str, object]] = [{"params": first + second, "rho": 0.4, "head_rho": 0.2}]
    rhos, head_rhos = [0.4] * len(first + second), [0.2] * len(first + second)
    if groups != "one group":
        given = [
            {"params": first, "rho": 0.4, "head_rho": 0.0},
            {"params": second, "rho": 0.1, "head_rho": 0.2},
        ]
        rhos = [0.4] * len(first) + [0.1] * len(second)
        head_rhos = [0.0] * len(first) + [0.2] * len(second)
    optimizer = SSESAM(BASES[base][0](given), TAIL, switch=switch, model=model, batch_statistics="batch")
    made = []

    def gradient(params: object, losses_of: object, y: Tensor) -> oracles.Grads:
        tail = TAIL[y].double() / len(y)
        head = 1 / len(y) - tail
        flattening = switch is None or len(made) < switch
        made.append(y)
        addends = [
            oracles.Addend(head, head if flattening else None, head_rhos),
            oracles.Addend(tail, tail, rhos),
        ]
        return oracles.family_gradient(params, losses_of, addends, oracles.plain_direction(), coupled=case.coupled)

    assert_follows(optimizer, model, case, gradient, base=base)


@pytest.mark.parametrize("options", [{"head_rho": 0.0}, {"switch": 0}], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_with_the_head_left_alone_it_is_imbsam(case: Case, options: dict[str, float]) -> None:
    model, twin = case.model(), case.model()
    sse = SSESAM(sgd(model.parameters()), TAIL, rho=0.2, model=model, **options)
    imbsam = ImbSAM(sgd(twin.parameters()), TAIL, rho=0.2, model=twin)
    for batch in case.batches():
        take_step(sse, model, case.loss, batch)
        take_step(imbsam, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


def test_after_the_switch_it_goes_on_as_imbsam() -> None:
    model, twin = MLP.model(), MLP.model()
    sse = SSESAM(sgd(model.parameters()), TAIL, rho=0.2, head_rho=0.3, switch=2, model=model)
    for batch in MLP.batches()[:2]:
        take_step(sse, model, MLP.loss, batch)
    twin.load_state_dict(model.state_dict())
    imbsam = ImbSAM(sgd(twin.parameters()), TAIL, rho=0.2, model=twin)
    for p, q in zip(model.parameters(), twin.parameters(), strict=True):
        imbsam.state[q] = {"momentum_buffer": sse.state[p]["momentum_buffer"].clone()}
    for batch in MLP.batches()[2:]:
        take_step(sse, model, MLP.loss, batch)
        take_step(imbsam, twin, MLP.loss, batch)
        assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("targets", [BATCHES[1], BATCHES[3]], ids=["only head", "only tail"])
def test_on_a_batch_of_one_kind_it_is_sam_with_that_kinds_rho(targets: Tensor) -> None:
    """The published re-implementation of ImbSAM divides by zero there; its SSE-SAM divides by the batch, as here."""
    model, twin = MLP.model(), MLP.model()
    sse = SSESAM(sgd(model.parameters()), TAIL, rho=0.2, head_rho=0.3)
    sam = SAM(sgd(twin.parameters()), rho=0.2 if bool(TAIL[targets].all()) else 0.3)
    take_step(sse, model, MLP.loss, MLP.batch(targets))
    take_step(sam, twin, MLP.loss, MLP.batch(targets))
    assert identical(contents(model), contents(twin))


def test_both_rhos_zero_are_the_base_optimizer() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    sse, base = SSESAM(sgd(model.parameters()), TAIL, rho=0.0, head_rho=0.0), sgd(twin.parameters())
    forwards = Forwards(model)
    for batch in MLP.batches(torch.float32):
        take_step(sse, model, MLP.loss, batch)
        plain_step(base, twin, MLP.loss, batch)
    assert identical(contents(model, sse), contents(twin, base))
    assert len(forwards.rows) == len(BATCHES)


def test_a_refused_step_does_not_bring_the_switch_nearer() -> None:
    model = MLP.model()
    optimizer = SSESAM(sgd(model.parameters()), TAIL, switch=1)
    x, y = MLP.batch(BATCHES[0])
    with pytest.raises(NonFiniteError):
        take_step(optimizer, model, MLP.loss, (x * torch.nan, y))
    forwards = Forwards(model)
    take_step(optimizer, model, MLP.loss, (x, y))
    assert len(forwards.rows) == 4
    take_step(optimizer, model, MLP.loss, (x, y))
    assert len(forwards.rows) == 4 + 3


def test_head_rho_is_an_option_of_each_group() -> None:
    params = list(MLP.model().parameters())
    optimizer = SSESAM(sgd([{"params": params[:2], "head_rho": 0.7}, {"params": params[2:3]}]), TAIL, head_rho=0.3)
    optimizer.add_param_group({"params": params[3:]})
    assert [g["head_rho"] for g in optimizer.param_groups] == [0.7, 0.3, 0.3]
    assert [g["head_rho"] for g in optimizer.state_dict()["param_groups"]] == [0.7, 0.3, 0.3]


@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["argument", "group", "added group", "group, later"])
def test_a_head_rho_out_of_range_is_refused(value: float, where: str) -> None:
    model = MLP.model()
    params = list(model.parameters())

    def later() -> None:
        optimizer = SSESAM(sgd(params), TAIL)
        optimizer.param_groups[0]["head_rho"] = value
        optimizer.passes(BATCHES[0])

    ways = {
        "argument": lambda: SSESAM(sgd(params), TAIL, head_rho=value),
        "group": lambda: SSESAM(sgd([{"params": params, "head_rho": value}]), TAIL),
        "added group": lambda: SSESAM(sgd(params[:1]), TAIL).add_param_group({"params": params[1:], "head_rho": value}),
        "group, later": later,
    }
    with pytest.raises(OptionError, match=f"head_rho must be finite and at least 0; got {value}"):
        ways[where]()


def test_a_switch_before_the_start_is_refused() -> None:
    with pytest.raises(OptionError, match="switch must be a whole number, at least 0; got -1"):
        SSESAM(sgd(MLP.model().parameters()), TAIL, switch=-1)
