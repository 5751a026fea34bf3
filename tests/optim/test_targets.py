"""Targets: classes of any type, soft targets and several labels; what is neither is refused in words."""

from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import oracles
from cases import BATCH_NORM, BATCHES, CLASSES, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import METHODS, SharpnessAware, TargetBins, Term, WeightedSAM
from imbsam.optim._targets import checked_targets
from optim.family import AWAY, COUNTS, made
from optim.loops import (
    Backwards,
    Forwards,
    assert_gradients_close,
    contents,
    gradients,
    identical,
    rows_closure,
    sam,
    sgd,
)

GO_BY_CLASSES = tuple(name for name, method in METHODS.items() if method.kind.class_aware)
BLIND = tuple(name for name in METHODS if name not in GO_BY_CLASSES)
ONE_HOT = F.one_hot(HEAD_AND_TAIL, CLASSES)

SOFT = torch.tensor(
    [
        [0.7, 0.0, 0.0, 0.3, 0.0],
        [1.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.25, 0.75],
        [0.1, 0.2, 0.3, 0.15, 0.25],
        [0.0, 0.5, 0.5, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 1.0],
        [0.4, 0.0, 0.0, 0.0, 0.6],
    ],
    dtype=torch.float64,
)
LABELS = torch.tensor(
    [
        [1.0, 1.0, 0.0, 1.0, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 1.0],
        [0.8, 0.0, 0.0, 0.3, 0.6],
        [1.0, 1.0, 1.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 0.4, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0],
    ],
    dtype=torch.float64,
)


def mixed_loss(logits: Tensor, memberships: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, memberships, reduction="none").sum(1)


def inputs(case: Case, rows: int) -> Tensor:
    return case.inputs(torch.arange(rows) % CLASSES, torch.Generator().manual_seed(5))


# Row by row, as the documentation has it; nothing of it is the library's.

Rows = Sequence[Sequence[float]]


def is_soft(row: Sequence[float]) -> bool:
    return abs(sum(row) - 1) <= 0.01


def share(row: Sequence[float], values: Sequence[float]) -> float:
    """The mean of the classes' values by a soft row; by the label that has most of it in any other row."""
    each = [m * v for m, v in zip(row, values, strict=True)]
    return sum(each) / sum(row) if is_soft(row) else max(each)


def by_row(memberships: Rows, values: Sequence[float]) -> Tensor:
    return torch.tensor([share(row, values) for row in memberships], dtype=torch.float64)


def parts_of_classes(memberships: Rows) -> list[list[float]]:
    return [[m / sum(row) if sum(row) else 0.0 for m in row] for row in memberships]


def imbsam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    tail, n = by_row(memberships, TAIL.double().tolist()), len(memberships)
    return [oracles.Addend((1 - tail) / n), oracles.Addend(tail / n, tail / n, [rho])]


def sse_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    tail, n = by_row(memberships, TAIL.double().tolist()), len(memberships)
    head = 1 - tail
    return [oracles.Addend(head / n, head / n, [0.1]), oracles.Addend(tail / n, tail / n, [rho])]


def focal_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    total, n = sum(COUNTS), len(memberships)
    focal = by_row(memberships, [0.7 * (1 - count / total) ** 2.0 for count in COUNTS])
    return [oracles.Addend((1 - focal) / n), oracles.Addend(focal / n, focal / n, [rho])]


def tail_sam_a(memberships: Rows, rho: float) -> list[oracles.Addend]:
    tail, n = by_row(memberships, TAIL.double().tolist()), len(memberships)
    return [oracles.Addend(torch.ones_like(tail) / n, tail / n, [rho])]


def sam_a(memberships: Rows, rho: float) -> list[oracles.Addend]:
    mean = sum(COUNTS) / len(COUNTS)
    (addend,) = weighted([mean / count for count in COUNTS])(memberships, rho)
    return [oracles.Addend(torch.ones_like(addend.descent) / len(memberships), addend.descent, [rho])]


def weighted(weights: Sequence[float]) -> Callable[[Rows, float], list[oracles.Addend]]:
    def addends(memberships: Rows, rho: float) -> list[oracles.Addend]:
        each = [
            sum(m * v for m, v in zip(row, weights, strict=True)) / sum(row) if sum(row) else 1.0 for row in memberships
        ]
        rows = torch.tensor(each, dtype=torch.float64) / len(memberships)
        return [oracles.Addend(rows, rows, [rho])]

    return addends


def cc_sam(memberships: Rows, rho: float) -> list[oracles.Addend]:
    n, flat = len(memberships), by_row(memberships, [0.3] * CLASSES)
    addends = [oracles.Addend((1 - flat) / n)]
    parts = torch.tensor(parts_of_classes(memberships), dtype=torch.float64)
    for c, count in enumerate(COUNTS):
        if parts[:, c].sum() > 0:
            mean = parts[:, c] / parts[:, c].sum()
            addends.append(oracles.Addend(flat * parts[:, c] / n, mean, [rho * max(1, count - 1) ** -0.25]))
    return addends


def class_balanced(beta: float = 0.9999) -> list[float]:
    each = [(1 - beta) / (1 - beta**count) for count in COUNTS]
    return [v * len(COUNTS) / sum(each) for v in each]


def inverse_roots() -> list[float]:
    each = [count**-0.5 for count in COUNTS]
    mean = sum(v * count for v, count in zip(each, COUNTS, strict=True)) / sum(COUNTS)
    return [v / mean for v in each]


ADDENDS: dict[str, tuple[Callable[[Rows, float], list[oracles.Addend]], dict[str, object]]] = {
    "imbsam": (imbsam, {}),
    "sse-sam": (sse_sam, {"head_rho": 0.1}),
    "focal-sam": (focal_sam, {"gamma": 2.0, "strength": 0.7}),
    "cc-sam": (cc_sam, {"flat": 0.3}),
    "sam-a": (sam_a, {}),
    "tail-sam-a": (tail_sam_a, {}),
    "sam-drw": (weighted(class_balanced()), {}),
    "balanced-sam": (weighted(inverse_roots()), {}),
}


def test_every_method_that_goes_by_classes_has_its_loop_here() -> None:
    assert set(ADDENDS) == set(GO_BY_CLASSES)


@pytest.mark.parametrize("memberships", [SOFT, LABELS, torch.cat([SOFT, LABELS])], ids=["soft", "labels", "both"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
@pytest.mark.parametrize("name", GO_BY_CLASSES)
def test_shares_of_rows_follow_the_textbook_loop(name: str, case: Case, memberships: Tensor) -> None:
    addends_of, options = ADDENDS[name]
    model, twin = case.model(), case.model()
    x, rho = inputs(case, len(memberships)), 0.3
    optimizer = made(name, model, rho=rho, batch_statistics="batch", **options)
    params = list(twin.parameters())
    addends = [
        oracles.Addend(a.descent, a.ascent, list(a.rhos) * len(params)) for a in addends_of(memberships.tolist(), rho)
    ]
    direction = oracles.plain_direction()
    if name == "cc-sam":
        direction = oracles.class_conditional_direction(per_tensor=True)
    expected = oracles.family_gradient(
        params,
        lambda rows: mixed_loss(twin(x[rows]), memberships[rows]),
        addends,
        direction,
        coupled=case.coupled,
    )
    loss = optimizer.step(lambda rows: mixed_loss(model(x[rows]), memberships[rows]), targets=memberships)
    assert loss is not None
    assert_gradients_close(gradients(model), expected)
    if name in AWAY and not case.coupled:
        return
    twin.load_state_dict(case.model().state_dict())
    torch.testing.assert_close(loss, mixed_loss(twin(x), memberships).mean().detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.uint8, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
@pytest.mark.parametrize("name", GO_BY_CLASSES)
def test_rows_of_one_class_are_that_class_bit_for_bit(name: str, targets: Tensor, dtype: torch.dtype) -> None:
    model, twin = MLP.model(), MLP.model()
    x, y = MLP.batch(targets)
    terms: list[Sequence[Term]] = []
    for net, given_targets in ((model, F.one_hot(y, CLASSES).to(dtype)), (twin, y)):
        optimizer = made(name, net)
        terms.append(optimizer.terms(checked_targets(given_targets, optimizer)))
        optimizer.step(rows_closure(net, MLP.loss, x, y), targets=given_targets)
    for one, other in zip(*terms, strict=True):
        assert torch.equal(one.descent, other.descent)
        assert (one.ascent is None) == (other.ascent is None)
        assert one.ascent is None or other.ascent is None or torch.equal(one.ascent, other.ascent)
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("tail_weight", [1.0, 3.0])
def test_the_weights_of_classes_are_those_of_the_formula_bit_for_bit(tail_weight: float) -> None:
    head, tail = made("imbsam", MLP.model(), tail_weight=tail_weight).terms(HEAD_AND_TAIL)
    in_tail = TAIL[HEAD_AND_TAIL].double()
    assert torch.equal(head.descent, (1 - in_tail) / 7)
    assert torch.equal(tail.descent, in_tail * (tail_weight / 7))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.int32], ids=str)
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)], ids=["(B,)", "(B, 1)"])
def test_whole_numbers_are_classes(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    optimizer = made("imbsam", MLP.model())
    found = checked_targets(HEAD_AND_TAIL.to(dtype).reshape(shape), optimizer)
    assert found.dtype == torch.long
    assert torch.equal(found, HEAD_AND_TAIL)
    assert torch.equal(checked_targets((HEAD_AND_TAIL > 2).reshape(shape), optimizer), (HEAD_AND_TAIL > 2).long())


@settings(max_examples=60)
@given(
    rows=st.lists(st.lists(st.integers(0, 5), min_size=5, max_size=5), min_size=1, max_size=8),
    soft=st.lists(st.booleans(), min_size=8, max_size=8),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
@pytest.mark.parametrize("name", ["imbsam", "sse-sam", "focal-sam", "cc-sam"])
def test_every_row_keeps_its_share_of_the_mean(
    name: str, rows: list[list[int]], soft: list[bool], dtype: torch.dtype
) -> None:
    memberships = torch.tensor(rows).double() / 5
    total = memberships.sum(1, keepdim=True)
    shares = torch.where((total > 0) & torch.tensor(soft)[: len(rows), None], memberships / total, memberships)
    optimizer = made(name, MLP.model())
    terms = optimizer.terms(checked_targets(shares.to(dtype), optimizer))
    found = torch.stack([term.descent for term in terms])
    assert bool((found >= 0).all())
    torch.testing.assert_close(
        found.sum(0), torch.full((len(rows),), 1 / len(rows), dtype=torch.float64), atol=1e-12, rtol=0
    )


def test_half_precision_is_near_enough_to_shares() -> None:
    shares = torch.tensor([[0.3, 0.2, 0.1, 0.3, 0.1]] * 4)
    for dtype in (torch.float16, torch.bfloat16):
        rounded = shares.to(dtype)
        optimizer = made("imbsam", MLP.model())
        _, tail = optimizer.terms(checked_targets(rounded, optimizer))
        expected = rounded.double()[:, 3:].sum(1) / rounded.double().sum(1) / 4
        torch.testing.assert_close(tail.descent, expected, atol=1e-12, rtol=0)


def rows_forwarded(name: str, targets: Tensor, **options: object) -> tuple[list[int], int]:
    model = MLP.model()
    forwards, backwards = Forwards(model), Backwards(list(model.parameters())[-1])
    x, labels = inputs(MLP, len(targets)), torch.zeros(len(targets), CLASSES, dtype=torch.float64)
    made(name, model, **options).step(lambda rows: mixed_loss(model(x[rows]), labels[rows]), targets=targets)
    return forwards.rows, backwards.count


def test_a_row_between_head_and_tail_is_forwarded_for_both_and_no_other_row_is() -> None:
    head, tail, between = ONE_HOT[[0]].double(), ONE_HOT[[1]].double(), SOFT[[0]]
    mostly_apart = torch.cat([head] * 6 + [between] + [tail] * 4)
    assert rows_forwarded("imbsam", mostly_apart) == ([5, 5, 7], 3)
    assert rows_forwarded("imbsam", torch.cat([between] * 8)) == ([8, 8], 3)
    # Shared, the first forward has all eleven rows and spares the nine between one more.
    assert rows_forwarded("imbsam", torch.cat([head, tail] + [between] * 9)) == ([11, 10], 3)
    only_head = torch.tensor([[0.5, 0.5, 0.0, 0.0, 0.0]]).repeat(4, 1)
    assert rows_forwarded("imbsam", only_head) == ([4], 1)
    only_tail = torch.tensor([[0.0, 0.0, 0.0, 0.3, 0.7]]).repeat(4, 1)
    assert rows_forwarded("imbsam", only_tail) == ([4, 4], 2)


@pytest.mark.parametrize("name", ["imbsam", "focal-sam", "sse-sam", "sam-drw"])
def test_without_a_radius_soft_targets_make_the_mean_of_the_batch(name: str) -> None:
    options = {"head_rho": 0.0} if name == "sse-sam" else {"start": 10} if name == "sam-drw" else {}
    optimizer = made(name, MLP.model(), rho=0.0, **options)
    total = sum(term.descent for term in optimizer.terms(SOFT))
    assert torch.equal(total, torch.full((7,), 1 / 7, dtype=torch.float64))


ANYTHING = {
    "floats": torch.linspace(-1, 1, 6),
    "two columns": torch.full((6, 2), 0.3),
    "pixels": torch.zeros(6, 4, 4, dtype=torch.uint8),
    "ignored": torch.full((6,), -100),
    "truth": torch.tensor([True, False] * 3),
    "complex": torch.zeros(6, dtype=torch.complex64),
    "NaN": torch.full((6,), torch.nan),
}


@pytest.mark.parametrize("targets", ANYTHING.values(), ids=ANYTHING)
@pytest.mark.parametrize("name", BLIND)
def test_methods_without_classes_take_whatever_has_an_entry_for_each_row(name: str, targets: Tensor) -> None:
    made_of: list[list[Tensor]] = []
    for given_targets in (targets, torch.zeros(6, dtype=torch.long)):
        model = MLP.model()
        x, y = inputs(MLP, 6), torch.arange(6) % CLASSES
        torch.manual_seed(0)
        optimizer = made(name, model)
        optimizer.step(rows_closure(model, MLP.loss, x, y), targets=given_targets)
        made_of.append(contents(model))
    assert identical(*made_of)


def test_a_method_of_ones_own_without_classes_still_sees_integers() -> None:
    class Looks(SharpnessAware):
        def terms(self, targets: Tensor) -> list[Term]:
            self.seen = targets
            return [Term(torch.full((len(targets),), 1 / len(targets), dtype=torch.float64))]

    optimizer = Looks(sgd(MLP.model().parameters()))
    optimizer.passes(torch.tensor([3, -100, 1]))
    assert torch.equal(optimizer.seen, torch.tensor([3, -100, 1]))
    optimizer.passes(torch.tensor([0.5, 2.0]))
    assert torch.equal(optimizer.seen, torch.zeros(2, dtype=torch.long))


class OneClass(SharpnessAware):
    """A method of one's own whose terms are made of classes."""

    class_aware = True

    def terms(self, targets: Tensor) -> list[Term]:
        inside = (targets == 3).double() / len(targets)
        return [Term(1 / len(targets) - inside), Term(inside, inside)]


def test_a_method_made_of_classes_gets_them_of_one_hot_rows_and_no_memberships() -> None:
    optimizer = OneClass(sgd(MLP.model().parameters()))
    assert torch.equal(checked_targets(ONE_HOT, optimizer), HEAD_AND_TAIL)
    for memberships in (SOFT, LABELS, torch.zeros(2, 5), torch.ones(2, 5)):
        with pytest.raises(OptionError, match=r"terms\(\) of OneClass are made of classes.*memberships = True"):
            optimizer.passes(memberships)


@pytest.mark.parametrize("name", ["imbsam", "sam"])
@pytest.mark.parametrize(
    ("targets", "got"),
    [([0, 1], "list"), (None, "NoneType"), (torch.tensor(1), r"shape \(\)"), (torch.zeros(0, 5), r"shape \(0, 5\)")],
    ids=str,
)
def test_targets_are_one_tensor_with_rows(name: str, targets: object, got: str) -> None:
    with pytest.raises(OptionError, match=rf"one tensor with an entry for each row.*; got .*{got}\.$"):
        made(name, MLP.model()).passes(targets)


REFUSED = {
    "regression": (torch.tensor([0.25, 1.0]), r"target 0\.25 is none.*TargetBins.*torch\.stack\(\[1 - y, y\], 1\)"),
    "NaN": (torch.tensor([torch.nan, 1.0]), "target nan is none"),
    "infinite": (torch.tensor([torch.inf, 1.0]), "target inf is none"),
    "column": (torch.tensor([[0.25], [1.0]]), r"target 0\.25 is none"),
    "complex": (torch.zeros(2, dtype=torch.complex64), "targets are torch.complex64"),
    "pixels": (torch.zeros(2, 4, 4, dtype=torch.long), r"shape \(2, 4, 4\): labels of pixels.*one_hot"),
    "tokens": (torch.tensor([[0, 1, 7], [2, 2, 2]]), "memberships, each in .0, 1., and one is 7.*one_hot"),
    "logits": (torch.tensor([[0.5, -2.5]]), r"one is -2\.5.*softmax"),
    "NaN among memberships": (torch.tensor([[0.5, torch.nan]]), "one is nan"),
    "other classes": (torch.tensor([[0.5, 0.5, 0.0]]), "memberships in 3 classes, and the optimizer has 5"),
    "ignored": (torch.tensor([0, -100]), r"target -100 is outside the 5 classes of the optimizer \(0\.\.4\); rows"),
    "unlabelled": (torch.tensor([0.0, -1.0]), r"target -1 .*one_hot\(y\.clamp\(min=0\), C\)"),
    "too many": (torch.tensor([0, 5]), r"target 5 is outside the 5 classes of the optimizer \(0\.\.4\)\.$"),
}


@pytest.mark.parametrize(("targets", "message"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("name", GO_BY_CLASSES)
def test_what_is_neither_class_nor_membership_is_refused_in_words(name: str, targets: Tensor, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        made(name, MLP.model()).passes(targets)


@settings(max_examples=60)
@given(
    wrong=st.one_of(
        st.floats(max_value=-0.02), st.floats(min_value=1.02), st.sampled_from([torch.nan, torch.inf, -torch.inf])
    ),
    place=st.integers(0, 34),
)
def test_no_number_outside_zero_and_one_is_a_membership(wrong: float, place: int) -> None:
    targets = SOFT.clone()
    targets.view(-1)[place] = wrong
    with pytest.raises(OptionError, match=r"each in \[0, 1\]"):
        made("imbsam", MLP.model()).passes(targets)


@settings(max_examples=60)
@given(st.lists(st.floats(width=32), min_size=1, max_size=6).filter(lambda ys: not all(y.is_integer() for y in ys)))
def test_no_fraction_is_a_class(targets: list[float]) -> None:
    with pytest.raises(OptionError, match="needs classes, but target"):
        made("imbsam", MLP.model()).passes(torch.tensor(targets))


def test_the_ways_out_that_the_messages_name_work() -> None:
    y = torch.tensor([0, -100, 3, -1])
    optimizer = made("imbsam", MLP.model())
    head, _ = optimizer.terms(checked_targets(F.one_hot(y.clamp(min=0), CLASSES) * (y >= 0)[:, None], optimizer))
    assert torch.equal(head.descent, torch.tensor([0.25, 0.25, 0.0, 0.25], dtype=torch.float64))
    pixels = torch.tensor([[[0, 0], [3, 4]], [[1, 1], [2, 2]]])
    shares = F.one_hot(pixels.long(), CLASSES).flatten(1, -2).double().mean(1)
    _, tail = optimizer.terms(checked_targets(shares, optimizer))
    assert torch.equal(tail.descent, torch.tensor([0.25, 0.0], dtype=torch.float64))
    ages = torch.tensor([20.0, 21.5, 30.0, 80.0])
    bins = TargetBins.from_targets(ages, bins=3)
    WeightedSAM(sgd(MLP.model().parameters()), bins.weights()).passes(bins(ages))


def test_soft_targets_may_carry_a_graph_and_stay_what_they_are() -> None:
    logits = torch.randn(7, CLASSES, requires_grad=True)
    model, targets = MLP.model(), logits.softmax(1)
    before = targets.detach().clone()
    made("imbsam", model).passes(targets)
    assert torch.equal(targets, before)
    assert sam(MLP, model).passes(targets).batch_size == 7
