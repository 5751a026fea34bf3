import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from imbsam.decisions import Wanted, parsed_costs, parsed_wanted, prices, wanted_weights
from imbsam.errors import OptionError

CLASSES = ["a", "b", "c"]


def drawn(seed, rows=200):
    draw = torch.Generator().manual_seed(seed)
    targets = torch.multinomial(torch.tensor([0.7, 0.2, 0.1]), rows, replacement=True, generator=draw)
    scores = torch.randn(rows, 3, generator=draw).double() + 1.2 * torch.eye(3)[targets]
    return scores, targets


def measured(scores, targets, index):
    called, true = scores.argmax(1) == index, targets == index
    hits = float((called & true).sum())
    return hits / float(true.sum()), hits / max(float(called.sum()), 1.0)


@given(st.integers(0, 10**6), st.integers(0, 2), st.floats(0.05, 1.0))
def test_a_recall_is_reached_and_no_more_than_needed(seed, index, share):
    scores, targets = drawn(seed)
    if not (targets == index).any():
        return
    weights = wanted_weights(scores, targets, [Wanted("recall", index, CLASSES[index], share)])
    assert weights.count_nonzero() <= 1
    before, after = measured(scores, targets, index)[0], measured(scores + weights, targets, index)[0]
    assert after >= share
    if before >= share:
        assert not weights.any()
    else:
        assert after - share < 1 / float((targets == index).sum()) + 1e-9


@given(st.integers(0, 10**6), st.integers(0, 2), st.floats(0.05, 1.0))
@example(524, 1, 0.25)
def test_a_precision_is_reached_or_refused(seed, index, share):
    scores, targets = drawn(seed)
    if not (targets == index).any():
        return
    wanted = [Wanted("precision", index, CLASSES[index], share)]
    others = scores.clone()
    others[:, index] = -torch.inf
    margins = others.max(1).values - scores[:, index]
    best = max(float((targets[margins <= m] == index).double().mean()) for m in margins)
    try:
        weights = wanted_weights(scores, targets, wanted)
    except OptionError:
        assert best < share
        return
    assert best >= share
    assert measured(scores + weights, targets, index)[1] >= share
    if measured(scores, targets, index)[1] >= share and measured(scores, targets, index)[0] > 0:
        assert not weights.any()


def test_two_classes_reach_theirs_together():
    scores, targets = drawn(3)
    wanted = [Wanted("recall", 2, "c", 0.8), Wanted("recall", 1, "b", 0.6)]
    moved = scores + wanted_weights(scores, targets, wanted)
    assert measured(moved, targets, 2)[0] >= 0.8
    assert measured(moved, targets, 1)[0] >= 0.6


def test_recall_and_precision_of_one_class():
    scores, targets = drawn(3)
    wanted = [Wanted("recall", 2, "c", 0.5), Wanted("precision", 2, "c", 0.3)]
    recall, precision = measured(scores + wanted_weights(scores, targets, wanted), targets, 2)
    assert recall >= 0.5
    assert precision >= 0.3


def test_what_cannot_be_reached_together_is_refused():
    scores, targets = drawn(3)
    both = [Wanted("recall", 2, "c", 1.0), Wanted("precision", 2, "c", 0.95)]
    with pytest.raises(
        OptionError, match=r"no threshold reaches this on the 200 held-out rows; the most is recall 1.00"
    ):
        wanted_weights(scores, targets, both)
    of_all = [Wanted("recall", index, name, 1.0) for index, name in enumerate(CLASSES)]
    with pytest.raises(OptionError, match="no thresholds reach all of them together"):
        wanted_weights(scores, targets, of_all)


def test_a_class_without_a_row_held_out_is_refused():
    with pytest.raises(OptionError, match=r"recall:b=0\.5: no held-out row has this class"):
        wanted_weights(torch.zeros(2, 3), torch.tensor([0, 2]), [Wanted("recall", 1, "b", 0.5)])


def test_rows_of_equal_scores_are_called_together():
    scores = torch.tensor([[0.0, 0.0], [0.0, 0.0], [1.0, 0.0]]).double()
    weights = wanted_weights(scores, torch.tensor([1, 0, 0]), [Wanted("recall", 1, "b", 1.0)])
    assert (scores + weights).argmax(1).tolist() == [1, 1, 0]


def test_the_price_counts_rows():
    before = torch.tensor([[2.0, 0], [2, 0], [2, 0], [0, 1], [1, 0]])
    after = before + torch.tensor([0.0, 1.5])
    targets = torch.tensor([0, 0, 0, 1, 1])
    (price,) = prices(before, after, targets, [Wanted("recall", 1, "b", 0.9)])
    assert (price.recall.hits, price.recall.rows) == (2, 2)
    assert (price.precision.hits, price.precision.rows) == (2, 2)
    assert (price.recall_before.hits, price.balanced_before, price.balanced) == (1, 0.75, 1.0)
    # Of 2 of 2 rows the Clopper-Pearson interval begins at (alpha / 2) ** (1 / n).
    assert price.recall.low == pytest.approx(0.025**0.5)
    text = str(price)
    assert text.startswith("b, at least recall 0.9: on the held-out rows recall 100.0 % (2 of 2; 95 % interval 16 to")
    none = prices(before - torch.tensor([0.0, 9]), after, targets, [Wanted("recall", 1, "b", 0.9)])[0]
    assert "before no row is predicted as it" in str(none)


def test_words_are_read():
    found = parsed_wanted(["recall:b=0.9", "precision:a=b=0.5"], ["a=b", "b"])
    assert found == (Wanted("recall", 1, "b", 0.9), Wanted("precision", 0, "a=b", 0.5))
    assert [str(each) for each in found] == ["recall:b=0.9", "precision:a=b=0.5"]
    assert parsed_costs(["c=10"], CLASSES).tolist() == [1, 1, 10]
    assert parsed_costs([], CLASSES) is None


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["b=0.9"], "--at-least b: give recall:CLASS=SHARE"),
        (["f1:b=0.9"], "give recall:CLASS=SHARE"),
        (["recall:b"], "give recall:CLASS=SHARE"),
        (["recall:=0.9"], "give recall:CLASS=SHARE"),
        (["recall:b=90"], r"the share must be in \(0, 1\]"),
        (["recall:b=0"], r"the share must be in \(0, 1\]"),
        (["recall:z=0.9"], "there is no class 'z'. The classes are a, b, c"),
        (["recall:b=0.9", "recall:b=0.8"], "given twice"),
    ],
)
def test_words_that_cannot_be_are_refused(words, message):
    with pytest.raises(OptionError, match=message):
        parsed_wanted(words, CLASSES)


@pytest.mark.parametrize("words", [["b=0"], ["b=-1"], ["b=inf"], ["b=nan"], ["z=2"], ["b"], ["b=x"]])
def test_costs_that_cannot_be_are_refused(words):
    with pytest.raises(OptionError, match=r"--cost|there is no class"):
        parsed_costs(words, CLASSES)
