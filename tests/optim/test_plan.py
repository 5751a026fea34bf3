"""The plan of a step: what is forwarded, what is weighed, what is counted."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from cases import BATCH_NORM, CASES, COUPLED, HEAD_AND_TAIL, INDEPENDENT, NO_TAIL, ONLY_TAIL, TAIL, Case
from imbsam.optim import create
from imbsam.optim._plan import STEP, Need, PlannedPass, ascent_of, plan
from imbsam.optim._terms import Term
from imbsam.priors import ClassPriors
from optim.loops import Backwards, Forwards, imbsam, sam, take_step

BIG = HEAD_AND_TAIL.repeat(5)
TAIL_ROWS = int(TAIL[BIG].sum())


def cost(case: Case, method: object, targets: Tensor, **options: object) -> tuple[list[int], int]:
    """The rows of each forward of one step, and its number of backwards."""
    model = case.model()
    forwards, backwards = Forwards(model), Backwards(list(model.parameters())[-1])
    take_step(method(case, model, **options), model, case.loss, case.batch(targets))
    return forwards.rows, backwards.count


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("options", [{}, {"batch_statistics": "batch"}, {"tail_weight": 2.0}], ids=str)
def test_without_a_tail_row_imbsam_costs_one_pass(case: Case, options: dict[str, object]) -> None:
    assert cost(case, imbsam, NO_TAIL, **options) == ([6], 1)


@pytest.mark.parametrize("method", [sam, imbsam])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rho_zero_costs_one_pass(case: Case, method: object) -> None:
    assert cost(case, method, HEAD_AND_TAIL, rho=0.0) == ([7], 1)


@pytest.mark.parametrize("case", INDEPENDENT, ids=str)
def test_imbsam_forwards_each_head_row_once_and_each_tail_row_twice(case: Case) -> None:
    rows, backwards = cost(case, imbsam, BIG)
    assert sorted(rows) == [TAIL_ROWS, TAIL_ROWS, len(BIG) - TAIL_ROWS]
    assert backwards == 3


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sam_forwards_every_row_twice(case: Case) -> None:
    assert cost(case, sam, BIG) == ([len(BIG)] * 2, 2)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_imbsam_on_tail_rows_alone_costs_what_sam_does(case: Case) -> None:
    assert cost(case, imbsam, ONLY_TAIL) == ([5, 5], 2)


@pytest.mark.parametrize("case", COUPLED, ids=str)
def test_the_batch_policy_costs_two_forwards_and_three_backwards(case: Case) -> None:
    assert cost(case, imbsam, BIG, batch_statistics="batch") == ([len(BIG)] * 2, 3)


@pytest.mark.parametrize("context_rows", [1, 4, 8])
@pytest.mark.parametrize("case", COUPLED, ids=str)
def test_the_context_policy_forwards_the_batch_once_and_the_tail_twice_in_context(
    case: Case, context_rows: int
) -> None:
    assert cost(case, imbsam, BIG, context_rows=context_rows) == ([len(BIG)] + [TAIL_ROWS + context_rows] * 2, 3)


def test_context_as_large_as_the_batch_is_the_batch_policy() -> None:
    assert cost(BATCH_NORM, imbsam, BIG, context_rows=1000) == ([len(BIG)] * 2, 3)


@st.composite
def methods(draw: st.DrawFn) -> list[Term]:
    """One to three terms over a batch, with and without directions; together they weigh each row 1/B."""
    size = draw(st.integers(1, 12))
    shares = torch.tensor(
        draw(
            st.lists(st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=3, max_size=3), min_size=size, max_size=size)
        ),
        dtype=torch.float64,
    )
    shares[shares.sum(1) == 0, 0] = 1.0
    shares = shares / shares.sum(1, keepdim=True) / size
    perturbed = draw(st.lists(st.booleans(), min_size=3, max_size=3))
    return [Term(shares[:, k], shares[:, k] if perturbed[k] else None) for k in range(3)]


WHOLE = ("plain", "sam", "asam", "gsam", "friendly-sam", "looksam", "imbsam", "cc-sam", "focal-sam", "sse-sam")
"""Methods whose step, without its perturbations, is that of the mean loss."""


@settings(max_examples=40)
@given(
    targets=st.lists(st.integers(0, 4), min_size=1, max_size=12),
    counts=st.lists(st.integers(1, 500), min_size=5, max_size=5),
    tail=st.lists(st.booleans(), min_size=5, max_size=5).filter(any),
    steps=st.sampled_from([0, 8]),
)
@pytest.mark.parametrize("name", WHOLE)
def test_a_partition_gives_every_row_its_share_of_the_mean(
    name: str, targets: list[int], counts: list[int], tail: list[bool], steps: int
) -> None:
    priors = ClassPriors.from_counts(counts)
    optimizer = create(name, nn.Linear(2, 5), priors=priors, tail=torch.tensor(tail), total_steps=10)
    optimizer.steps = steps
    rows = len(targets)
    found = torch.stack([term.descent for term in optimizer.terms(torch.tensor(targets))])
    assert bool((found >= 0).all())
    torch.testing.assert_close(found.sum(0), torch.full((rows,), 1 / rows, dtype=torch.float64), atol=1e-12, rtol=0)


def needs_of(terms: list[Term]) -> Need:
    return Need(
        tuple(t.ascent is not None and bool(t.ascent.any()) for t in terms),
        tuple(bool(t.descent.any()) for t in terms),
    )


def spread(planned: PlannedPass, weights: Tensor, size: int) -> Tensor:
    rows = torch.arange(size) if planned.rows is None else planned.rows
    return torch.zeros(size, dtype=torch.float64).index_add(0, rows, weights.double())


@settings(max_examples=150)
@given(
    terms=methods(),
    coupled=st.booleans(),
    statistics=st.sampled_from(["batch", "context"]),
    context_rows=st.integers(1, 5),
    row_multiple=st.sampled_from([1, 1, 2, 4]),
    share=st.booleans(),
)
def test_a_plan_computes_its_terms_and_nothing_else(
    terms: list[Term], coupled: bool, statistics: str, context_rows: int, row_multiple: int, share: bool
) -> None:
    size = len(terms[0].descent)
    passes = plan(
        terms,
        needs_of(terms),
        coupled=coupled,
        statistics=statistics,
        context_rows=context_rows,
        row_multiple=row_multiple,
        share=share,
    )
    total = torch.zeros(size, dtype=torch.float64)
    counted = torch.zeros(size, dtype=torch.float64)
    climbed: set[int] = set()
    for planned in passes:
        rows = torch.arange(size) if planned.rows is None else planned.rows
        assert len(rows) == len(rows.unique()), "rows appear once"
        if planned.own is not None:
            weighed = torch.stack([use.weights for use in planned.uses]).any(0)
            assert weighed[: planned.own].all(), "rows with a weight come first"
            assert not weighed[planned.own :].any()
        assert len(rows)
        assert len(rows) == size or len(rows) % row_multiple == 0
        if planned.term is not None:
            assert planned.term in climbed, "an ascent stands before its descent"
            assert planned.counted is None
        for use in planned.uses:
            assert use.weights.shape == rows.shape
            here = spread(planned, use.weights, size)
            if use.gradient == STEP:
                total += here
            else:
                assert planned.term is None, "a direction is taken at the weights themselves"
                (term,) = [k for k in range(len(terms)) if use.gradient == ascent_of(k)]
                assert torch.equal(here, terms[term].ascent)
                climbed.add(term)
        if planned.counted is not None:
            counted += spread(planned, planned.counted, size)
    torch.testing.assert_close(total, torch.full((size,), 1 / size, dtype=torch.float64), atol=1e-15, rtol=0)
    assert counted.tolist() == [1 / size] * size, "each row enters the loss once"
    assert climbed == {k for k, needed in enumerate(needs_of(terms).perturbed) if needed}
    if not share:
        assert all(len(planned.uses) == 1 for planned in passes)
    if coupled:
        assert passes[0].rows is None or len(passes[0].rows) == size, "the first pass may move running statistics"
        assert passes[0].term is None


@settings(max_examples=100)
@given(terms=methods())
def test_rows_that_do_not_see_each_other_are_forwarded_only_with_a_weight(terms: list[Term]) -> None:
    for planned in plan(terms, needs_of(terms), coupled=False, statistics="context", context_rows=3):
        assert torch.stack([use.weights.bool() for use in planned.uses]).any(0).all()


@pytest.mark.parametrize("rows", range(1, 10))
def test_a_direction_shares_the_forward_of_the_base_where_that_is_cheaper(rows: int) -> None:
    base = torch.full((9,), 1 / 9, dtype=torch.float64)
    ascent = base * (torch.arange(9) < rows)
    terms = [Term(base), Term(ascent, ascent)]
    first, *_ = plan(terms, needs_of(terms), coupled=False, statistics="context", context_rows=3)
    # Of its own it costs a forward and a backward of its rows, 3; sharing, one more backward of the base's, 2.
    assert (len(first.uses) == 2) == (3 * rows > 2 * 9)


@settings(max_examples=100)
@given(size=st.integers(2, 60), marked=st.sets(st.integers(0, 59), min_size=1), context_rows=st.integers(1, 20))
def test_context_rows_are_as_many_as_asked_for(size: int, marked: set[int], context_rows: int) -> None:
    in_tail = torch.tensor([k in marked for k in range(size)]).double()
    terms = [Term((1 - in_tail) / size), Term(in_tail / size, in_tail / size)]
    passes = plan(terms, needs_of(terms), coupled=True, statistics="context", context_rows=context_rows)
    tail = int(in_tail.sum())
    if 0 < tail < size:
        rows = passes[-1].rows
        assert (size if rows is None else len(rows)) == min(size, tail + context_rows)


def test_a_rank_without_a_row_of_a_term_makes_its_passes_all_the_same() -> None:
    head_only = torch.full((4,), 0.25, dtype=torch.float64)
    nothing = torch.zeros(4, dtype=torch.float64)
    everywhere = Need((False, True), (True, True))
    for coupled in (False, True):
        here = plan(
            [Term(head_only), Term(nothing, nothing)],
            everywhere,
            coupled=coupled,
            statistics="context",
            context_rows=2,
            share=False,
        )
        there = plan(
            [Term(nothing), Term(head_only, head_only)],
            everywhere,
            coupled=coupled,
            statistics="context",
            context_rows=2,
            share=False,
        )
        assert [(p.term, [u.gradient for u in p.uses]) for p in here] == [
            (p.term, [u.gradient for u in p.uses]) for p in there
        ]


@pytest.mark.parametrize("name", ["imbsam", "focal-sam", "sse-sam", "sam-drw"])
def test_the_work_does_not_grow_with_the_number_of_classes(name: str) -> None:
    found = []
    for classes in (5, 10_000):
        model = nn.Linear(6, classes)
        priors = ClassPriors(torch.full((classes,), 10))
        optimizer = create(name, model, priors=priors, tail=torch.arange(classes) % 5 == 3, lr=0.1)
        x, y = torch.randn(40, 6), torch.arange(40) % 5
        rows = []
        with optimizer.passes(y) as passes:
            for p in passes:
                rows.append((len(p.rows), p.backwards))
                p.backward(nn.functional.cross_entropy(model(x[p.rows]), y[p.rows], reduction="none"))
        found.append(rows)
    assert found[0] == found[1]
