"""What all losses have in common, and their formulas, through the door the engine uses."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from imbsam import losses
from imbsam.errors import OptionError, PriorsError
from imbsam.priors import ClassPriors
from losses import written_out

COUNTS = [500, 120, 40, 9, 1]
CASES = [
    ("cross-entropy", {}, lambda z, y: written_out.cross_entropy(z, y)),
    ("cross-entropy", {"label_smoothing": 0.1}, lambda z, y: written_out.smoothed_cross_entropy(z, y, 0.1)),
    ("focal", {}, lambda z, y: written_out.focal(z, y, 2)),
    ("focal", {"gamma": 0.5}, lambda z, y: written_out.focal(z, y, 0.5)),
    ("class-balanced", {}, lambda z, y: written_out.class_balanced(z, y, COUNTS, 0.9999)),
    ("class-balanced", {"beta": 0.9}, lambda z, y: written_out.class_balanced(z, y, COUNTS, 0.9)),
    ("ldam", {}, lambda z, y: written_out.ldam(z, y, COUNTS, 0.5, 30)),
    ("ldam", {"max_margin": 0.3, "scale": 10}, lambda z, y: written_out.ldam(z, y, COUNTS, 0.3, 10)),
    ("balanced-softmax", {}, lambda z, y: written_out.balanced_softmax(z, y, COUNTS)),
    ("logit-adjustment", {}, lambda z, y: written_out.logit_adjustment(z, y, COUNTS, 1)),
    ("logit-adjustment", {"tau": 1.5}, lambda z, y: written_out.logit_adjustment(z, y, COUNTS, 1.5)),
    ("vs", {}, lambda z, y: written_out.vector_scaling(z, y, COUNTS, 0.3, 1)),
    ("vs", {"gamma": 0.05, "tau": 0.75}, lambda z, y: written_out.vector_scaling(z, y, COUNTS, 0.05, 0.75)),
]
WITH_COUNTS = ["class-balanced", "ldam", "balanced-softmax", "logit-adjustment", "vs"]


def test_every_loss_has_a_written_out_case():
    assert {name for name, _, _ in CASES} == set(losses.LOSSES)


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_losses_equal_the_formula_written_out(name, options, formula, priors, logits, targets):
    found = losses.build(name, priors, options=options)(logits, targets)
    expected = [formula(z, y) for z, y in zip(logits.tolist(), targets.tolist(), strict=True)]
    # Constants per class are float32.
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.double), rtol=1e-6, atol=1e-6)


FORMULAS = {
    "cross-entropy": lambda z, y, counts: written_out.cross_entropy(z, y),
    "focal": lambda z, y, counts: written_out.focal(z, y, 2),
    "class-balanced": lambda z, y, counts: written_out.class_balanced(z, y, counts, 0.9999),
    "ldam": lambda z, y, counts: written_out.ldam(z, y, counts, 0.5, 30),
    "balanced-softmax": written_out.balanced_softmax,
    "logit-adjustment": lambda z, y, counts: written_out.logit_adjustment(z, y, counts, 1),
    "vs": lambda z, y, counts: written_out.vector_scaling(z, y, counts, 0.3, 1),
}


@st.composite
def batches(draw):
    """Counts of two to six classes, and the logits and targets of up to five rows."""
    counts = draw(st.lists(st.integers(1, 10**6), min_size=2, max_size=6))
    row = st.lists(st.floats(-40, 40), min_size=len(counts), max_size=len(counts))
    rows = draw(st.lists(st.tuples(row, st.integers(0, len(counts) - 1)), min_size=1, max_size=5))
    return counts, [z for z, _ in rows], [y for _, y in rows]


@pytest.mark.parametrize("name", losses.LOSSES)
@settings(max_examples=60)
@given(batch=batches())
def test_whatever_the_counts_and_logits_a_row_has_its_formulas_loss_whoever_is_beside_it(name, batch):
    counts, logits, targets = batch
    criterion = losses.build(name, ClassPriors.from_counts(counts))
    z, y = torch.tensor(logits, dtype=torch.double, requires_grad=True), torch.tensor(targets)
    found = criterion(z, y)
    expected = [FORMULAS[name](*row, counts) for row in zip(logits, targets, strict=True)]
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.double), rtol=1e-5, atol=1e-4)
    assert bool((found >= 0).all())
    torch.testing.assert_close(torch.cat([criterion(z[k : k + 1], y[k : k + 1]) for k in range(len(y))]), found)
    found.sum().backward()
    assert bool(z.grad.isfinite().all())


@pytest.mark.parametrize(("name", "options", "formula"), CASES)
def test_gradients_are_those_of_finite_differences(name, options, formula, priors, logits, targets):
    criterion = losses.build(name, priors, options=options)
    inputs = (logits / 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: criterion(z, targets), (inputs,))


@pytest.mark.parametrize("name", losses.LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_losses_are_one_a_sample_in_at_least_float32(name, dtype, priors, logits, targets):
    criterion = losses.build(name, priors)
    low = logits.to(dtype)
    found = criterion(low, targets)
    assert found.shape == targets.shape
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(found.double(), criterion(low.double(), targets), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_an_empty_batch_gives_no_losses(name, priors):
    none = torch.empty(0, priors.num_classes, requires_grad=True)
    found = losses.build(name, priors)(none, torch.empty(0, dtype=torch.long))
    found.sum().backward()
    assert found.shape == (0,)


@pytest.mark.parametrize("name", losses.LOSSES)
def test_huge_logits_give_finite_losses_and_gradients(name, priors):
    logits = torch.tensor([[1e4, 0, 0, 0, -1e4], [-1e4, 0, 0, 0, 1e4]], requires_grad=True)
    found = losses.build(name, priors)(logits, torch.tensor([0, 0]))
    found.sum().backward()
    assert found.isfinite().all()
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize("name", losses.LOSSES)
def test_a_loss_moves_with_to_and_adds_nothing_to_parameters_or_checkpoints(name, priors):
    criterion = losses.build(name, priors).to("meta")
    assert all(buffer.device.type == "meta" for buffer in criterion.buffers())
    assert not list(criterion.parameters())
    assert not criterion.state_dict()


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_a_class_without_samples_is_named(name):
    with pytest.raises(PriorsError, match=r"class 1, 3 has none \(2 of 4 classes\)"):
        losses.build(name, ClassPriors.from_counts([5, 0, 2, 0]))


@pytest.mark.parametrize("name", sorted(set(losses.LOSSES) - set(WITH_COUNTS)))
def test_losses_without_counts_take_classes_without_samples(name):
    criterion = losses.build(name, ClassPriors.from_counts([5, 0, 2]))
    assert criterion(torch.zeros(1, 3), torch.tensor([1])).isfinite().all()


@pytest.mark.parametrize("name", WITH_COUNTS)
def test_logits_of_another_number_of_classes_are_refused(name, priors, targets):
    with pytest.raises(PriorsError, match=r"\(12, 1\) do not fit priors of 5 classes"):
        losses.build(name, priors)(torch.zeros(12, 1), targets)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cross-entropy", {"label_smoothing": 1.0}),
        ("cross-entropy", {"label_smoothing": -0.1}),
        ("focal", {"gamma": -1e-9}),
        ("focal", {"gamma": float("inf")}),
        ("focal", {"gamma": "2"}),
        ("focal", {"gamma": True}),
        ("class-balanced", {"beta": 1.0}),
        ("class-balanced", {"beta": -0.1}),
        ("ldam", {"max_margin": -0.5}),
        ("ldam", {"scale": 0}),
        ("logit-adjustment", {"tau": float("nan")}),
        ("vs", {"gamma": -0.3}),
        ("vs", {"tau": float("inf")}),
    ],
)
def test_an_option_out_of_range_is_named_with_its_value(name, options, priors):
    ((option, value),) = options.items()
    with pytest.raises(OptionError, match=f"^{option} must be a number .* got {value!r}"):
        losses.build(name, priors, options=options)


def test_an_unknown_loss_lists_the_known_ones(priors):
    with pytest.raises(OptionError, match="no loss 'crossentropy'; choose one of cross-entropy, focal"):
        losses.build("crossentropy", priors)


def test_an_unknown_option_lists_the_known_ones(priors):
    with pytest.raises(OptionError, match="vs has no option 'beta'; its options are gamma, tau"):
        losses.build("vs", priors, options={"beta": 0.9})
    with pytest.raises(OptionError, match="balanced-softmax has no option 'tau'; it has no options"):
        losses.build("balanced-softmax", priors, options={"tau": 1.0})


def test_default_options_build_the_same_loss(priors, logits, targets):
    for name in losses.LOSSES:
        spelled = losses.build(name, priors, options=losses.default_options(name))
        assert torch.equal(spelled(logits, targets), losses.build(name, priors)(logits, targets))


def test_only_ldam_needs_a_cosine_classifier():
    assert [name for name in losses.LOSSES if losses.needs_cosine_classifier(name)] == ["ldam"]


def test_every_loss_is_a_module(priors):
    assert all(isinstance(losses.build(name, priors), nn.Module) for name in losses.LOSSES)


def test_only_cosines_are_scaled_to_be_logits():
    assert {name: losses.output_scale(name) for name in losses.LOSSES if name != "ldam"} == {
        name: 1.0 for name in losses.LOSSES if name != "ldam"
    }
    assert losses.output_scale("ldam") == losses.default_options("ldam")["scale"]
    assert losses.output_scale("ldam", {"scale": 5.0}) == 5.0
