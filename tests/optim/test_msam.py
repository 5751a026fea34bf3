"""MSAM, and its ascent under ImbSAM, against a textbook loop that keeps a momentum of its own."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, NO_TAIL, ROUTED, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import GSAM, MSAM, ImbSAM, Momentum, SharpnessAware, create
from optim.family import BASE_AND_GROUPS, BASES, PRIORS, assert_follows, grouped
from optim.loops import contents, identical, make_passes, sgd, take_step

CASES = pytest.mark.parametrize("case", [MLP, ROUTED, BATCH_NORM], ids=str)


def momentum_of(base: str) -> oracles.Momentum:
    """Of the bases as the tests make them: SGD decays weights by the gradient, AdamW beside it."""
    return oracles.Momentum(0.9, 1.0, 0.01) if base == "sgd" else oracles.Momentum(0.9, 0.1, 0.0)


def moved_alone(case: Case, base: str, rhos: list[float], *, tail_alone: bool) -> object:
    """grad of the still rows at w and of the others at w - rho v / |v|; all of them, or the tail's."""
    momentum = momentum_of(base)

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        moved = mean * TAIL[y] if tail_alone else mean
        total = oracles.weighted_gradient(params, losses_of, mean - moved, coupled=case.coupled)
        with oracles.displaced(params, momentum.shift(params, rhos)):
            at_shifted = oracles.weighted_gradient(params, losses_of, moved, coupled=case.coupled)
        total = oracles.added(total, at_shifted)
        momentum.learn(params, total)
        return total

    return gradient


@BASE_AND_GROUPS
@CASES
def test_it_equals_the_textbook_loop(case: Case, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = MSAM(BASES[base][0](given), model=model)
    gradient = moved_alone(case, base, rhos, tail_alone=False)
    assert_follows(optimizer, model, case, gradient, base=base, at_the_weights=case.coupled)


@BASE_AND_GROUPS
@CASES
def test_under_imbsam_the_tail_is_moved_along_the_momentum_of_all_rows(case: Case, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = ImbSAM(BASES[base][0](given), TAIL, ascent=Momentum(), model=model, batch_statistics="batch")
    gradient = moved_alone(case, base, rhos, tail_alone=True)
    assert_follows(optimizer, model, case, gradient, base=base, at_the_weights=case.coupled)


@pytest.mark.parametrize("targets", [HEAD_AND_TAIL, NO_TAIL], ids=["mixed", "no tail"])
@pytest.mark.parametrize("name", ["msam", "imbsam"])
def test_each_row_is_forwarded_once(name: str, targets: Tensor) -> None:
    model = MLP.model()
    ascent = {"ascent": "momentum"} if name == "imbsam" else {}
    optimizer = create(name, model, base="sgd", priors=PRIORS, tail=TAIL, check_rows=False, **ascent)
    for number in range(3):
        x, y = MLP.batch(targets, number)
        with optimizer.passes(y) as passes:
            rows = []
            for p in passes:
                rows += p.rows.tolist()
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
        optimizer.step()
        assert sorted(rows) == list(range(len(y)))


def test_beside_batch_norm_a_forward_more_at_the_weights_goes_to_the_statistics() -> None:
    model = BATCH_NORM.model()
    optimizer = MSAM(sgd(model.parameters()), model=model)
    take_step(optimizer, model, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL))
    assert [each.needs_gradient for each in passes_of(optimizer, model)] == [False, True]


def passes_of(optimizer: SharpnessAware, model: nn.Module) -> list[object]:
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    seen = []
    with optimizer.passes(y) as passes:
        for p in passes:
            seen.append(p)
            p.backward(BATCH_NORM.loss(model(x[p.rows]), y[p.rows]))
    return seen


def test_the_offset_is_along_the_last_step_and_of_length_rho() -> None:
    """Of SGD without weight decay the last step was ``-lr v``."""
    model = MLP.model()
    optimizer = MSAM(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), rho=0.4, model=model)
    seen: list[Tensor] = []

    def flat() -> Tensor:
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    for number in range(3):
        x, y = MLP.batch(HEAD_AND_TAIL, number)
        before = flat()

        def closure(rows: Tensor, x: Tensor = x, y: Tensor = y, before: Tensor = before) -> Tensor:
            seen.append(flat() - before)
            return MLP.loss(model(x[rows]), y[rows])

        optimizer.step(closure, targets=y)
        last = flat() - before
        if number == 0:
            assert not seen[0].any()
            after_first = last
        if number == 1:
            torch.testing.assert_close(seen[1], 0.4 * after_first / after_first.norm(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("stop", [1, 2, 3])
def test_it_goes_on_from_a_checkpoint_bit_for_bit_and_the_checkpoint_is_of_clean_weights(base: str, stop: int) -> None:
    models = [MLP.model(torch.float32) for _ in range(2)]
    whole, resumed = (MSAM(BASES[base][0](m.parameters()), rho=0.5, model=m) for m in models)
    for number, batch in enumerate(MLP.batches(torch.float32)):
        if number == stop:
            file = io.BytesIO()
            torch.save({"model": models[0].state_dict(), "optimizer": whole.state_dict()}, file)
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            assert identical(contents(models[0]), list(saved["model"].values()))
            models[1].load_state_dict(saved["model"])
            resumed.load_state_dict(saved["optimizer"])
        before = contents(models[0])
        make_passes(whole, models[0], MLP.loss, batch)
        assert identical(before, contents(models[0]))
        whole.step()
        if number >= stop:
            take_step(resumed, models[1], MLP.loss, batch)
            assert identical(contents(models[0], whole), contents(models[1], resumed))
    assert not whole.memory


def test_several_bases_have_one_norm_over_their_momenta() -> None:
    model = MLP.model()
    first, second = list(model[0].parameters()), list(model[2].parameters())
    optimizer = MSAM([sgd(first), torch.optim.AdamW(second, lr=0.01)], rho=0.3, model=model)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    keys = ["momentum_buffer"] * len(first) + ["exp_avg"] * len(second)
    v = [optimizer.state[p][key].clone() for p, key in zip([*first, *second], keys, strict=True)]
    length = sum(float((x**2).sum()) for x in v) ** 0.5
    before = contents(model)
    x, y = MLP.batch(HEAD_AND_TAIL, 1)
    with optimizer.passes(y) as passes:
        for p in passes:
            moved = [w - b for w, b in zip(contents(model), before, strict=True)]
            torch.testing.assert_close(moved, [-0.3 * each / length for each in v], atol=1e-12, rtol=0)
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))


def test_a_base_without_a_momentum_is_refused_and_leaves_the_weights() -> None:
    for base in (torch.optim.SGD, torch.optim.Rprop):
        model = MLP.model()
        refused_in_time(MSAM(base(model.parameters(), lr=0.1), model=model), model)


def refused_in_time(optimizer: SharpnessAware, model: nn.Module) -> None:
    """In the first step, or in the second, where the base's state has shown what it keeps."""
    if not isinstance(optimizer.base, torch.optim.SGD):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    before = contents(model)
    with pytest.raises(
        OptionError, match=r"the base optimizer keeps none: give it one, for example SGD\(\.\.\., momentum=0\.9"
    ):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(before, contents(model))


def test_a_method_that_compares_with_the_ascent_s_gradient_refuses_it() -> None:
    with pytest.raises(OptionError, match="choose an ascent by gradient"):
        GSAM(sgd(MLP.model().parameters()), ascent=Momentum())


def test_a_copy_goes_along_its_own_momentum() -> None:
    model = MLP.model()
    optimizer = MSAM(sgd(model.parameters()), model=model)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    twin, other = copy.deepcopy((model, optimizer))
    for number in (1, 2):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, number))
        take_step(other, twin, MLP.loss, MLP.batch(HEAD_AND_TAIL, number))
    assert identical(contents(model, optimizer), contents(twin, other))
