"""ImbSAM against its formula, the published code's rule, and its two limits."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, BATCHES, CASES, COUPLED, HEAD_AND_TAIL, INDEPENDENT, MLP, NO_TAIL, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import Gradient, ImbSAM, Term
from optim.loops import (
    adamw,
    assert_gradients_close,
    contents,
    gradients,
    identical,
    imbsam,
    make_passes,
    plain_step,
    sgd,
    take_step,
)
from optim.test_sam import BASES, groups


@pytest.mark.parametrize("split", [False, True], ids=["one group", "two groups"])
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_imbsam_equals_the_textbook_loop(case: Case, base: str, split: bool) -> None:
    model, twin = case.model(), case.model()
    make, written_out = BASES[base][0], BASES[base][1]()
    given, rhos = groups(model, split)
    optimizer = ImbSAM(make(given), TAIL, model=model, batch_statistics="batch")
    params = list(twin.parameters())
    for x, y in case.batches():
        loss = case.loss(twin(x), y).mean()
        grads = oracles.imbsam_gradient(params, lambda rows, x=x, y=y: case.loss(twin(x[rows]), y[rows]), TAIL[y], rhos)
        written_out.step(params, grads)
        returned = take_step(optimizer, model, case.loss, (x, y))
        torch.testing.assert_close(returned, loss.detach(), atol=1e-12, rtol=0)
        assert_gradients_close(gradients(model), grads)
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("tail_weight", [0.5, 2.0, 7.0])
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
def test_tail_weight_and_damping_stand_where_the_formula_has_them(
    targets: Tensor, tail_weight: float, damping: float
) -> None:
    model = MLP.model()
    x, y = MLP.batch(targets)
    params = list(model.parameters())
    expected = oracles.imbsam_gradient(
        params,
        lambda rows: MLP.loss(model(x[rows]), y[rows]),
        TAIL[y],
        [0.5] * len(params),
        tail_weight=tail_weight,
        damping=damping,
    )
    optimizer = imbsam(MLP, model, rho=0.5, tail_weight=tail_weight, ascent=Gradient(damping=damping))
    passes = make_passes(optimizer, model, MLP.loss, (x, y))
    assert_gradients_close(gradients(model), expected)
    torch.testing.assert_close(passes.loss, MLP.loss(model(x), y).mean().detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_tail_weight_two_on_the_whole_batch_reproduces_the_published_code(case: Case) -> None:
    model, twin = case.model(), case.model()
    optimizer = imbsam(case, model, rho=0.05, tail_weight=2.0, batch_statistics="batch")
    params, written_out = list(twin.parameters()), oracles.SGD(0.1, 0.9, 0.01)
    for x, y in case.batches():
        grads = oracles.published_imbsam_gradient(
            params, lambda rows, x=x, y=y: case.loss(twin(x[rows]), y[rows]), TAIL[y], 0.05
        )
        written_out.step(params, grads)
        take_step(optimizer, model, case.loss, (x, y))
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


@pytest.mark.parametrize("context_rows", [1, 2, 100])
@pytest.mark.parametrize("case", COUPLED, ids=str)
def test_context_rows_normalise_the_tail_for_all_rows_left_out_and_have_no_weight(
    case: Case, context_rows: int
) -> None:
    model, twin = case.model(), case.model()
    optimizer = imbsam(case, model, rho=0.2, context_rows=context_rows)
    params, written_out = list(twin.parameters()), oracles.SGD(0.1, 0.9, 0.01)
    for x, y in case.batches():
        seen: list[Tensor] = []

        def closure(rows: Tensor, x: Tensor = x, y: Tensor = y, seen: list[Tensor] = seen) -> Tensor:
            seen.append(rows)
            return case.loss(model(x[rows]), y[rows])

        optimizer.step(closure, targets=y)
        heads = int((~TAIL[y]).sum())
        expected_context = min(context_rows, heads) if TAIL[y].any() else heads
        assert int((~TAIL[y[seen[-1]]]).sum()) == expected_context
        assert torch.isin(TAIL[y].nonzero(), seen[-1]).all()

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            in_tail = TAIL[y[rows]]
            left = (~TAIL[y]).sum() / max(1, int((~in_tail).sum()))
            with oracles.weighted_batch_norm(torch.where(in_tail, 1.0, left).double() / len(y)):
                return case.loss(twin(x[rows]), y[rows])

        rhos = [0.2] * len(params)
        written_out.step(params, oracles.imbsam_gradient(params, losses_of, TAIL[y], rhos, tail_pass=seen[-1]))
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


@pytest.mark.parametrize("statistics", ["batch", "context"])
@pytest.mark.parametrize("make", [sgd, adamw])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_without_a_tail_row_it_is_the_base_optimizer_bit_for_bit(case: Case, make: object, statistics: str) -> None:
    model, twin = case.model(torch.float32), case.model(torch.float32)
    base = make(twin.parameters())
    optimizer = imbsam(case, model, make(model.parameters()), batch_statistics=statistics)
    for seed, size in enumerate((6, 7, 11, 13)):
        batch = case.batch(NO_TAIL.repeat(3)[:size], seed, torch.float32)
        take_step(optimizer, model, case.loss, batch)
        plain_step(base, twin, case.loss, batch)
        assert identical(contents(model, optimizer), contents(twin, base))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rho_zero_is_the_base_optimizer_bit_for_bit(case: Case, dtype: torch.dtype) -> None:
    model, twin = case.model(dtype), case.model(dtype)
    base, optimizer = sgd(twin.parameters()), imbsam(case, model, rho=0.0)
    for batch in case.batches(dtype):
        take_step(optimizer, model, case.loss, batch)
        plain_step(base, twin, case.loss, batch)
        assert identical(contents(model, optimizer), contents(twin, base))


def test_batches_of_every_size_divide_as_the_mean_does() -> None:
    for size in range(1, 130):
        p, q = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(3))
        x, y = torch.randn(size, 3), torch.zeros(size, dtype=torch.long)
        ImbSAM(torch.optim.SGD([p], lr=0.1), TAIL).step(lambda rows, x=x, p=p: x[rows] @ p, targets=y)
        (x @ q).mean().backward()
        assert torch.equal(p.grad, q.grad), f"{size} rows"


@pytest.mark.parametrize("case", INDEPENDENT, ids=str)
def test_the_row_plan_equals_forwarding_everything(case: Case) -> None:
    """Shuffling the batch changes nothing: the rows a pass skips had no weight."""
    model, twin = case.model(), case.model()
    x, y = case.batch(HEAD_AND_TAIL)
    order = torch.randperm(len(y))
    take_step(imbsam(case, model), model, case.loss, (x, y))
    take_step(imbsam(case, twin), twin, case.loss, (x[order], y[order]))
    torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)


class InTheirOrder(ImbSAM):
    """The same method, with a plan made anew for every batch."""

    def ordered_terms(self, targets: Tensor) -> tuple[Sequence[Term], Tensor | None]:
        return self.terms(targets), None


@pytest.mark.parametrize("tail_weight", [1.0, 3.0])
@pytest.mark.parametrize("case", INDEPENDENT, ids=str)
def test_the_kept_plan_of_a_pattern_makes_the_same_step_bit_for_bit(case: Case, tail_weight: float) -> None:
    model, twin = case.model(), case.model()
    kept = ImbSAM(sgd(model.parameters()), TAIL, tail_weight=tail_weight)
    anew = InTheirOrder(sgd(twin.parameters()), TAIL, tail_weight=tail_weight)
    draw = torch.Generator().manual_seed(0)
    batches = [(x[order], y[order]) for x, y in case.batches() for order in (torch.randperm(len(y), generator=draw),)]
    for x, y in [*case.batches(), *batches]:
        losses = [take_step(kept, model, case.loss, (x, y)), take_step(anew, twin, case.loss, (x, y))]
        torch.testing.assert_close(losses[0], losses[1], atol=1e-12, rtol=0)
        assert identical(contents(model), contents(twin))


def test_a_plan_is_kept_for_a_number_of_tail_rows_and_not_for_an_option_that_has_changed() -> None:
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL, model=model)
    plans = optimizer._lay_out
    for rows in ([0, 2, 1, 2], [2, 0, 2, 1], [1, 2, 2, 0]):
        make_passes(optimizer, model, MLP.loss, MLP.batch(torch.tensor(rows)))
        optimizer.step()
    assert (plans.cache_info().misses, plans.cache_info().hits) == (1, 2)
    optimizer.tail_weight = 5.0
    x, y = MLP.batch(torch.tensor([0, 2, 1, 2]))
    params = list(model.parameters())
    expected = oracles.imbsam_gradient(
        params, lambda rows: MLP.loss(model(x[rows]), y[rows]), TAIL[y], [0.05] * len(params), tail_weight=5.0
    )
    make_passes(optimizer, model, MLP.loss, (x, y))
    assert_gradients_close(gradients(model), expected)


def test_terms_of_a_subclass_are_the_ones_that_are_used() -> None:
    class Still(ImbSAM):
        def terms(self, targets: Tensor) -> list[Term]:
            return [Term(torch.full((len(targets),), 1 / len(targets), dtype=torch.float64))]

    model, twin = MLP.model(), MLP.model()
    take_step(Still(sgd(model.parameters()), TAIL), model, MLP.loss, MLP.batch(BATCHES[0]))
    plain_step(sgd(twin.parameters()), twin, MLP.loss, MLP.batch(BATCHES[0]))
    assert identical(contents(model), contents(twin))


def test_a_tail_class_alone_is_perturbed() -> None:
    """A loss that is linear in w for head rows tells by its gradient that the head saw no perturbation."""
    w = torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    y = torch.tensor([0, 3])
    seen = []

    def closure(rows: Tensor) -> Tensor:
        seen.extend((int(y[r]), tuple(w.tolist())) for r in rows)
        return torch.stack([(w**2).sum() for _ in rows])

    ImbSAM(torch.optim.SGD([w], lr=0.0), TAIL, rho=0.5).step(closure, targets=y)
    at_w = (1.0, 2.0)
    assert [place for target, place in seen if target == 0] == [at_w]
    first, second = [place for target, place in seen if target == 3]
    assert first == at_w
    length = 5**0.5
    assert second == pytest.approx((1 + 0.5 / length, 2 + 0.5 * 2 / length), abs=1e-15)


def test_the_ordinary_closure_is_refused_with_the_right_call() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    before = contents(model)
    with pytest.raises(TypeError, match=r"ImbSAM needs the class.*step\(lambda rows: .*targets=y\).*reduction='none'"):
        optimizer.step(lambda: MLP.loss(model(torch.zeros(2, 6).double()), torch.tensor([0, 3])).mean())
    assert identical(before, contents(model))


@pytest.mark.parametrize(
    "tail",
    [
        torch.tensor([3, 4]),
        torch.tensor([0.0, 1.0]),
        torch.zeros(2, 2, dtype=torch.bool),
        torch.zeros(0, dtype=torch.bool),
        torch.tensor(True),
        [False, True],
        None,
    ],
    ids=str,
)
def test_a_tail_that_is_no_mask_over_classes_is_refused(tail: object) -> None:
    with pytest.raises(OptionError, match=r"bool tensor of shape \(C,\), as priors.tail\(\) returns; got"):
        ImbSAM(sgd(MLP.model().parameters()), tail)


@pytest.mark.parametrize("tail_weight", [0.0, -1.0, float("nan"), float("inf")])
def test_a_tail_weight_that_weighs_nothing_is_refused(tail_weight: float) -> None:
    with pytest.raises(OptionError, match="tail_weight must be finite and above 0"):
        ImbSAM(sgd(MLP.model().parameters()), TAIL, tail_weight=tail_weight)


@pytest.mark.parametrize("target", [-1, 5, 255])
def test_a_target_outside_the_mask_is_refused_by_name(target: int) -> None:
    optimizer = imbsam(MLP, MLP.model())
    with pytest.raises(OptionError, match=rf"target {target} is outside the 5 classes"):
        optimizer.passes(torch.tensor([0, target, 1]))


def test_the_mask_is_the_optimizers_own() -> None:
    mask = TAIL.clone()
    optimizer = ImbSAM(sgd(MLP.model().parameters()), mask)
    mask[:] = False
    assert torch.equal(optimizer.tail, TAIL)


def test_the_batch_norm_of_the_ascent_and_the_descent_see_the_same_rows() -> None:
    model = BATCH_NORM.model()
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL.repeat(3))
    seen: list[list[int]] = []

    def closure(rows: Tensor) -> Tensor:
        seen.append(rows.tolist())
        return BATCH_NORM.loss(model(x[rows]), y[rows])

    imbsam(BATCH_NORM, model, context_rows=4).step(closure, targets=y)
    whole, ascent, descent = seen
    assert whole == list(range(len(y)))
    assert ascent == descent
    assert len(ascent) == int(TAIL[y].sum()) + 4
