import pytest
import torch
from torch import nn

from imbsam.errors import DataError, ModelError, NonFiniteError, OptionError
from imbsam.sharpness import LossSurface, Rows, extreme_eigenvalues, line, random_direction, sam_sharpness

CRITERION = nn.CrossEntropyLoss(reduction="none")


def test_the_loss_of_a_part_is_the_mean_over_its_rows_in_the_data(case, part):
    point = case.weights() + 0.1
    assert case.surface().loss(part) == pytest.approx(float(case.loss(part)), abs=1e-12)
    assert case.surface().loss(part, point) == pytest.approx(float(case.loss(part, point)), abs=1e-12)


def test_the_gradient_is_that_of_the_oracle(case, part):
    point = case.weights() - 0.05
    loss, gradient = case.surface().gradient(part, point)
    assert loss == pytest.approx(float(case.loss(part, point)), abs=1e-12)
    torch.testing.assert_close(gradient, case.gradient(part, point), rtol=1e-10, atol=1e-12)


def test_one_pass_over_the_rows_gives_the_loss_of_every_class_and_group(case, part):
    surface = case.surface()
    losses = surface.class_losses()
    assert case.model.rows == len(case.rows.targets) == surface.forwarded
    assert float(surface.mean_loss(losses, part)) == pytest.approx(float(case.loss(part)), abs=1e-12)


def snapshot(model):
    return (
        {name: t.clone() for name, t in model.state_dict().items()},
        [m.training for m in model.modules()],
        [id(p) for p in model.parameters()],
        [p.grad for p in model.parameters()],
    )


def measure_all(surface):
    extreme_eigenvalues(surface, steps=3)
    sam_sharpness(surface, steps=2)
    line(surface, random_direction(surface), [-1, 1])


def same(before, after):
    assert all(torch.equal(before[0][name], tensor) for name, tensor in after[0].items())
    assert before[1:] == after[1:]


def test_weights_buffers_modes_and_random_numbers_are_those_from_before(case):
    case.model.inner[2].eval()
    before, state = snapshot(case.model), torch.get_rng_state()
    measure_all(case.surface(dtype=None))
    same(before, snapshot(case.model))
    assert torch.equal(state, torch.get_rng_state())


def test_they_are_also_when_the_loss_raises_half_way(case):
    calls = []

    def criterion(logits, targets):
        calls.append(len(targets))
        if len(calls) == 4:
            raise RuntimeError("out of paper")
        return CRITERION(logits, targets)

    before = snapshot(case.model)
    with pytest.raises(RuntimeError, match="out of paper"):
        measure_all(LossSurface(case.model, criterion, case.rows, batch_size=5))
    same(before, snapshot(case.model))


def test_frozen_weights_are_no_directions_of_the_surface(case):
    case.model.inner[0].weight.requires_grad_(False)
    surface = case.surface()
    assert len(surface.weights) == len(case.weights()) - 15
    assert surface.loss([0]) == pytest.approx(float(case.loss([0])), abs=1e-12)


def test_a_tied_weight_counts_once():
    first, last = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    last.weight = first.weight
    surface = LossSurface(nn.Sequential(first, nn.Tanh(), last), CRITERION, Rows.draw(torch.eye(3), torch.arange(3)))
    assert len(surface.weights) == 9
    _, gradient = surface.gradient([0, 1, 2])
    CRITERION(last(torch.tanh(first(torch.eye(3)))), torch.arange(3)).mean().backward()
    torch.testing.assert_close(gradient.view(3, 3), first.weight.grad)


def test_the_batch_size_does_not_matter(case, part):
    one, many = case.surface(batch_size=1), case.surface(batch_size=1000)
    torch.testing.assert_close(one.gradient(part)[1], many.gradient(part)[1], rtol=0, atol=1e-14)


def test_a_batch_norm_that_looks_at_its_batch_is_refused(case):
    case.model.inner[1] = nn.BatchNorm1d(5, track_running_stats=False)
    with pytest.raises(ModelError, match=r"inner\.1 is a BatchNorm without running statistics"):
        case.surface()


def test_a_model_without_trainable_weights_is_refused(case):
    case.model.requires_grad_(False)
    with pytest.raises(ModelError, match="no trainable weight"):
        case.surface()


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"dtype": torch.int64}])
def test_options_that_cannot_be_are_refused(case, options):
    with pytest.raises(OptionError):
        case.surface(**options)


def test_a_criterion_that_averages_is_told_what_to_do(case):
    with pytest.raises(OptionError, match='reduction="none"'):
        LossSurface(case.model, nn.CrossEntropyLoss(), case.rows).loss([0])


def test_a_class_without_rows_and_one_that_is_not_there_are_named(case):
    rows = Rows.draw(case.inputs, case.targets, num_classes=6)
    surface = LossSurface(case.model, CRITERION, rows)
    assert surface.classes == [0, 1, 2, 3]
    assert surface.class_losses().isnan().tolist() == [False] * 4 + [True] * 2
    with pytest.raises(DataError, match="no row of the classes 5"):
        surface.gradient([5])
    with pytest.raises(OptionError, match="class 6 is outside the 6 classes"):
        surface.gradient([6])


def test_a_loss_that_is_not_finite_names_its_class(case):
    case.inputs[case.rows.indices[case.rows.targets == 2]] = torch.inf
    with pytest.raises(NonFiniteError, match=r"loss of 4 of 4 classes is not finite \(class 2\)"):
        case.surface().gradient([0, 1, 2, 3])
    assert case.surface().gradient([0, 1])[0] > 0
