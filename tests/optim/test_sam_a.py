"""SAM-A and its form for the tail against the formula, and what becomes of them at the limits."""

import pytest
import torch
from torch import Tensor

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, NO_TAIL, ROUTED, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import SAM, SAMA, ImbSAM, TailSAMA
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped
from optim.loops import contents, identical, sgd, take_step

WEIGHTS = torch.tensor([0.2, 0.5, 1.0, 3.0, 7.5], dtype=torch.float64)
CASES = pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)


def climbing(weights: Tensor, rhos: list[float], case: Case) -> object:
    """grad of the mean loss at w + e, e along the gradient of the loss that weighs classes so."""

    def gradient(params: list[Tensor], losses_of: oracles.LossesOf, y: Tensor) -> oracles.Grads:
        mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        addend = oracles.Addend(mean, mean * weights[y], rhos)
        return oracles.family_gradient(params, losses_of, [addend], oracles.plain_direction(), coupled=case.coupled)

    return gradient


@BASE_AND_GROUPS
@CASES
def test_sam_a_equals_the_textbook_loop(case: Case, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = SAMA(BASES[base][0](given), WEIGHTS, model=model, batch_statistics="batch")
    assert_follows(optimizer, model, case, climbing(WEIGHTS, rhos, case), base=base)


@BASE_AND_GROUPS
@CASES
def test_its_form_for_the_tail_equals_the_textbook_loop(case: Case, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = TailSAMA(BASES[base][0](given), TAIL, model=model, batch_statistics="batch")
    gradient = climbing(TAIL.double(), rhos, case)
    assert_follows(optimizer, model, case, gradient, base=base, at_the_weights=case.coupled)


def test_with_all_weights_alike_it_is_sam() -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = SAMA(sgd(model.parameters()), torch.ones(5)), SAM(sgd(twin.parameters()))
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        assert identical(contents(model), contents(twin))


def test_weights_of_the_tail_alone_make_the_form_for_the_tail() -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = SAMA(sgd(model.parameters()), TAIL), TailSAMA(sgd(twin.parameters()), TAIL)
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        assert identical(contents(model), contents(twin))


def test_the_tail_s_form_forwards_head_rows_once_and_at_the_perturbed_weights() -> None:
    model = MLP.model()
    optimizer = TailSAMA(sgd(model.parameters()), TAIL, rho=0.5, model=model, check_rows=False)
    x, y = MLP.batch(HEAD_AND_TAIL)
    start, seen = model[0].weight.detach().clone(), []
    losses = torch.zeros(len(y), dtype=torch.float64)
    with optimizer.passes(y) as passes:
        for p in passes:
            found = MLP.loss(model(x[p.rows]), y[p.rows])
            p.backward(found)
            seen.append((p.rows.tolist(), torch.equal(start, model[0].weight.detach())))
            # Where a row is forwarded at the weights, it counts as it is there.
            losses[p.rows] = torch.where(losses[p.rows] == 0, found.detach(), losses[p.rows])
    tail = TAIL[y].nonzero().flatten().tolist()
    assert seen == [(tail, True), (list(range(len(y))), False)]
    torch.testing.assert_close(passes.loss, losses.mean(), atol=1e-12, rtol=0)


def test_it_differs_from_imbsam_by_what_head_rows_learn() -> None:
    """Without head rows they are the same step."""
    model, twin = MLP.model(), MLP.model()
    one, other = TailSAMA(sgd(model.parameters()), TAIL, rho=0.3), ImbSAM(sgd(twin.parameters()), TAIL, rho=0.3)
    x, y = MLP.batch(HEAD_AND_TAIL)
    for rows in (TAIL[y], torch.ones(len(y), dtype=torch.bool)):
        take_step(one, model, MLP.loss, (x[rows], y[rows]))
        take_step(other, twin, MLP.loss, (x[rows], y[rows]))
        assert identical(contents(model), contents(twin)) == bool(TAIL[y[rows]].all())


def test_without_a_tail_row_every_row_is_forwarded_once() -> None:
    model = MLP.model()
    optimizer = TailSAMA(sgd(model.parameters()), TAIL, model=model)
    assert len(optimizer.passes(NO_TAIL)) == 1


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda base: SAMA(base, torch.tensor([1.0, -1.0])), "weights must have one finite number of at least 0"),
        (lambda base: SAMA(base, torch.ones(2, 2)), "weights must have one finite number of at least 0"),
        (lambda base: TailSAMA(base, torch.ones(5)), "tail must mark the tail classes"),
    ],
)
def test_what_marks_no_classes_is_refused(make: object, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        make(sgd(MLP.model().parameters()))
