import math

import pytest
import torch
from sklearn import metrics as sklearn_metrics

from imbsam.errors import DataError, NonFiniteError
from imbsam.metrics import MAX_CONFUSION_CLASSES, classification, worst_confusions

GROUPS = ("many", "many", "medium", "few", "few")


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(3)
    targets = torch.randint(0, 5, (400,), generator=generator)
    logits = torch.randn(400, 5, generator=generator)
    logits[torch.arange(400), targets] += torch.tensor([2.5, 2.0, 1.0, 0.5, 0.0])[targets]
    return logits, targets


def test_figures_equal_those_of_scikit_learn(batch):
    logits, targets = batch
    found = classification(logits, targets, GROUPS)
    predicted = logits.argmax(dim=1)
    probabilities = logits.double().softmax(dim=1).numpy()
    recall = sklearn_metrics.recall_score(targets, predicted, average=None)
    assert found.samples == 400
    assert found.overall == pytest.approx(sklearn_metrics.accuracy_score(targets, predicted), abs=1e-15)
    assert found.balanced == pytest.approx(sklearn_metrics.balanced_accuracy_score(targets, predicted), abs=1e-15)
    assert found.macro_f1 == pytest.approx(sklearn_metrics.f1_score(targets, predicted, average="macro"), abs=1e-15)
    assert found.log_loss == pytest.approx(sklearn_metrics.log_loss(targets, probabilities), abs=1e-12)
    assert found.confusion == tuple(map(tuple, sklearn_metrics.confusion_matrix(targets, predicted).tolist()))
    assert found.per_class == pytest.approx(tuple(recall), abs=1e-15)
    assert found.many == pytest.approx((recall[0] + recall[1]) / 2, abs=1e-15)
    assert found.medium == pytest.approx(recall[2], abs=1e-15)
    assert found.few == pytest.approx((recall[3] + recall[4]) / 2, abs=1e-15)


def test_six_samples_counted_by_hand():
    # True 0 0 0 1 1 2, predicted 0 0 1 1 0 1; class 3 has no sample.
    predicted = torch.tensor([0, 0, 1, 1, 0, 1])
    logits = torch.nn.functional.one_hot(predicted, 4).double()
    found = classification(logits, torch.tensor([0, 0, 0, 1, 1, 2]), ("many", "many", "few", "few"))
    assert found.overall == pytest.approx(3 / 6)
    assert found.per_class == pytest.approx((2 / 3, 1 / 2, 0.0, None))
    assert found.balanced == pytest.approx((2 / 3 + 1 / 2 + 0) / 3)
    assert (found.many, found.medium, found.few) == (pytest.approx(7 / 12), None, 0.0)
    # F1: class 0 has precision and recall 2/3; class 1 precision 1/3, recall 1/2; class 2 neither.
    assert found.macro_f1 == pytest.approx((2 / 3 + 2 / 5 + 0) / 3)
    assert found.confusion == ((2, 1, 0, 0), (1, 1, 0, 0), (0, 1, 0, 0), (0, 0, 0, 0))
    confidence = math.e / (math.e + 3)
    assert found.log_loss == pytest.approx((-3 * math.log(confidence) + 3 * math.log(math.e + 3)) / 6)
    assert found.ece == pytest.approx(abs(confidence - 1 / 2))


def test_calibration_error_equals_the_bins_written_out(batch):
    logits, targets = batch
    bins = [[] for _ in range(15)]
    for row, target in zip(logits.double().softmax(dim=1).tolist(), targets.tolist(), strict=True):
        confidence = max(row)
        (number,) = [m for m in range(15) if m / 15 < confidence <= (m + 1) / 15]
        bins[number].append((confidence, row.index(confidence) == target))
    expected = 0.0
    for held in filter(None, bins):
        accuracy = sum(right for _, right in held) / len(held)
        expected += len(held) / 400 * abs(accuracy - sum(confidence for confidence, _ in held) / len(held))
    assert classification(logits, targets, GROUPS).ece == pytest.approx(expected, abs=1e-12)


def test_a_confidence_of_1_shares_the_last_bin_with_those_just_below():
    # Right at 0.97 and wrong at 1: apart, the two gaps would not make up for each other.
    logits = torch.tensor([[math.log(0.97), math.log(0.03)], [1000.0, 0.0]]).double()
    assert classification(logits, torch.tensor([0, 1]), ("many", "few")).ece == pytest.approx((1 - 0.03) / 2)


def test_a_sure_and_right_model_is_perfect_in_everything():
    targets = torch.tensor([0, 1, 2, 3, 4])
    found = classification(100 * torch.eye(5), targets, GROUPS)
    assert (found.overall, found.balanced, found.macro_f1) == (1, 1, 1)
    assert (found.many, found.medium, found.few) == (1, 1, 1)
    assert found.log_loss == pytest.approx(0, abs=1e-12)
    assert found.ece == pytest.approx(0, abs=1e-12)


def test_a_sure_and_wrong_model_has_the_full_calibration_error():
    found = classification(100 * torch.eye(5), torch.tensor([1, 2, 3, 4, 0]), GROUPS)
    assert (found.overall, found.balanced, found.macro_f1, found.ece) == (0, 0, 0, pytest.approx(1))


def test_classes_without_samples_are_none_and_do_not_count():
    found = classification(torch.eye(5)[:2], torch.tensor([0, 1]), GROUPS)
    assert found.per_class == (1, 1, None, None, None)
    assert (found.many, found.medium, found.few) == (1, None, None)
    assert found.balanced == 1


def test_one_class_alone_is_measured_without_complaint():
    found = classification(torch.zeros(3, 1), torch.zeros(3), ("many",))
    assert (found.overall, found.macro_f1, found.confusion) == (1, 1, ((3,),))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_logits_of_any_precision_that_require_gradients_are_taken(dtype, batch):
    logits, targets = batch
    rounded = logits.to(dtype).requires_grad_()
    assert classification(rounded, targets.int(), GROUPS) == classification(rounded.double(), targets, GROUPS)


def test_a_class_without_samples_has_no_recall_and_a_row_of_zeros(batch):
    logits, targets = batch
    found = classification(logits, targets.clamp(max=3), GROUPS)
    assert len(found.confusion) == len(found.per_class) == 5
    assert (found.per_class[4], sum(found.confusion[4])) == (None, 0)


def test_confusion_is_left_out_where_it_would_be_huge():
    classes = MAX_CONFUSION_CLASSES + 1
    found = classification(torch.zeros(2, classes), torch.tensor([0, 1000]), ["few"] * classes)
    assert found.confusion is None
    assert found.few == 0.5


def test_logits_that_are_not_finite_are_an_error_that_names_the_sample():
    logits = torch.zeros(3, 2)
    logits[1, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="the loss of sample 1 is nan"):
        classification(logits, torch.tensor([0, 1, 0]), ("many", "few"))


def test_a_class_masked_with_minus_infinity_is_no_error():
    logits = torch.tensor([[0.0, 1.0, -math.inf], [2.0, 1.0, -math.inf]])
    assert classification(logits, torch.tensor([1, 0]), ("many", "many", "few")).overall == 1


@pytest.mark.parametrize(
    ("logits", "targets", "groups", "message"),
    [
        (torch.zeros(0, 2), torch.zeros(0), ("many", "few"), r"N > 0; got \(0, 2\) and \(0,\)"),
        (torch.zeros(2), torch.zeros(2), ("many", "few"), r"got \(2,\) and \(2,\)"),
        (torch.zeros(3, 2), torch.zeros(2), ("many", "few"), r"got \(3, 2\) and \(2,\)"),
        (torch.zeros(2, 2), torch.tensor([0, 2]), ("many", "few"), "target 2 is outside the 2 classes"),
        (torch.zeros(2, 2), torch.tensor([0, -1]), ("many", "few"), "target -1 is outside the 2 classes"),
        (torch.zeros(2, 2), torch.zeros(2), ("many",), "for each of the 2 classes; got 1 names: many"),
        (torch.zeros(2, 2), torch.zeros(2), ("many", "tail"), "one of many, medium, few .* got 2 names: many, tail"),
    ],
)
def test_inputs_that_do_not_fit_are_named(logits, targets, groups, message):
    with pytest.raises(DataError, match=message):
        classification(logits, targets, groups)


def test_the_worst_confusions_are_of_rare_classes_with_more_frequent_ones():
    confusion = [[5, 5, 0], [2, 8, 0], [1, 3, 6]]
    found = worst_confusions(confusion, [100, 20, 3], limit=2)
    assert [(pair.true, pair.predicted, pair.taken, pair.samples) for pair in found] == [(2, 1, 3, 10), (1, 0, 2, 10)]
    assert found[0].share == 0.3


def test_classes_of_equal_count_are_not_confusions_of_the_rare():
    assert worst_confusions([[1, 9], [9, 1]], [7, 7], limit=5) == []


def test_tail_recall_is_the_mean_over_the_tail_classes_that_are_there():
    logits = torch.eye(4)[torch.tensor([0, 1, 0, 2, 0])]
    found = classification(logits, torch.tensor([0, 1, 1, 2, 2]), ("many",) * 4, tail=[False, True, True, True])
    assert found.tail == pytest.approx((0.5 + 0.5) / 2)
    assert classification(logits, torch.tensor([0, 1, 1, 2, 2]), ("many",) * 4).tail is None
    nobody = classification(logits, torch.tensor([0, 1, 1, 2, 2]), ("many",) * 4, tail=torch.zeros(4, dtype=torch.bool))
    assert nobody.tail is None
