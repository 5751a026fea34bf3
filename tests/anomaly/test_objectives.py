"""Losses and scores against the formulas, written out row by row."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from anomaly.forest import strangeness
from anomaly.rows import Scaled
from imbsam.anomaly import OBJECTIVES, create_objective, objective_options
from imbsam.anomaly.networks import WithLinearPath
from imbsam.anomaly.sphere import Sphere
from imbsam.data.seeding import generator
from imbsam.errors import OptionError

ROWS, COLUMNS, IMAGE = 12, 5, (2, 6, 5)
KINDS = torch.tensor([0, 1, 2] * 4)


def objective_of(name, shape=(COLUMNS,), **options):
    objective = create_objective(name, shape, draw=generator(1), **options).double()
    rows = torch.randn(40, *shape, dtype=torch.float64, generator=generator(2))
    with torch.no_grad():
        if isinstance(objective, Sphere):
            objective(rows)  # in training mode: BatchNorm's running statistics are then no longer 0 and 1
        objective.eval()
        objective.begin(Scaled(rows, torch.arange(40) % 2), generator(3))
    return objective


def some_rows(*shape):
    return torch.randn(*(shape or (ROWS, COLUMNS)), dtype=torch.float64, generator=generator(4))


def through(layer, x):
    """One row or image through a layer in evaluation mode, by loops over its numbers."""
    match layer:
        case nn.Sequential():
            for each in layer:
                x = through(each, x)
            return x
        case WithLinearPath():
            return through(layer.straight, x) + through(layer.deep, x)
        case nn.Linear():
            weighted = [sum(w * v for w, v in zip(line, x, strict=True)) for line in layer.weight.tolist()]
            return np.array(weighted) + (layer.bias.tolist() if layer.bias is not None else 0.0)
        case nn.Conv2d():
            kernels, (_, height, width) = np.array(layer.weight.tolist()), x.shape
            reach = kernels.shape[-1] // 2
            padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach)))
            side = 2 * reach + 1
            sums = [[[(kernel * padded[:, i : i + side, j : j + side]).sum() for j in range(width)]
                     for i in range(height)] for kernel in kernels]  # fmt: skip
            return np.array(sums) + (np.reshape(layer.bias.tolist(), (-1, 1, 1)) if layer.bias is not None else 0.0)
        case nn.BatchNorm1d() | nn.BatchNorm2d():
            mean, var = (
                np.reshape(v.tolist(), (-1, *[1] * (x.ndim - 1))) for v in (layer.running_mean, layer.running_var)
            )
            return (x - mean) / np.sqrt(var + layer.eps)
        case nn.MaxPool2d():
            rows, columns = range(0, x.shape[1], 2), range(0, x.shape[2], 2)
            return np.array([[[image[i : i + 2, j : j + 2].max() for j in columns] for i in rows] for image in x])
        case nn.Upsample():
            _, height, width = x.shape
            tall, wide = layer.size
            return np.array([[[image[i * height // tall, j * width // wide] for j in range(wide)] for i in range(tall)]
                             for image in x])  # fmt: skip
        case nn.LeakyReLU():
            return np.where(x > 0, x, layer.negative_slope * x)
        case nn.ReLU():
            return np.maximum(x, 0.0)
        case nn.Sigmoid():
            return 1 / (1 + np.exp(-x))
        case nn.Flatten():
            return x.ravel()
        case nn.Unflatten():
            return x.reshape(layer.unflattened_size)
    raise AssertionError(layer)


def smooth_l1(a, b):
    return 0.5 * (a - b) ** 2 if abs(a - b) < 1 else abs(a - b) - 0.5


def length(values):
    return math.sqrt(sum(v * v for v in values))


def distance(objective, row):
    return length(through(objective.encoder, row) - objective.center.tolist()) ** 2


def deep_sad(objective, row, kind):
    d = distance(objective, row)
    loss = {0: d, 1: objective.eta * (d + 1e-6) ** -1, 2: objective.eta * (d + 1e-6)}[kind]
    return loss, d


def deep_svdd(objective, row, kind):
    return distance(objective, row), distance(objective, row)


def hsc(objective, row, kind):
    h = math.sqrt(sum(v * v for v in through(objective.network, row)) + 1) - 1
    return (-math.log(1 - math.exp(-h) + 1e-9) if kind == 1 else h), 1 - math.exp(-h)


def bce(objective, row, kind):
    (o,) = through(objective.network, row)
    p = 1 / (1 + math.exp(-o))
    return -math.log(p if kind == 1 else 1 - p), o


def focal(objective, row, kind):
    (o,) = through(objective.network, row)
    p = 1 / (1 + math.exp(-o))
    q = p if kind == 1 else 1 - p
    return -((1 - q) ** objective.gamma) * math.log(q), o


def devnet(objective, row, kind):
    if objective.forest is not None:
        mean, std = objective.strangeness.tolist()
        row = [*row, (strangeness(objective.forest, row) - mean) / std]
    (o,) = through(objective.network, row)
    mean, std = objective.reference.tolist()
    dev = (o - mean) / std
    return (max(0.0, objective.margin - dev) if kind == 1 else abs(dev)), o


def feawad(objective, row, kind):
    code = through(objective.encoder, row)
    residual = (through(objective.decoder, code) - row).ravel()
    r = length(residual)
    (o,) = through(objective.scorer, [*code, *(v / r for v in residual), r])
    margin = objective.margin
    return (max(0.0, margin - o) + max(0.0, margin - r) if kind == 1 else abs(o) + r), o


def rosas(objective, sample, kind):
    """The loss of a sample with its partner, a row of the other sort, their mixture and its share."""
    x, partner, other, mixture, shares = sample
    share = shares.ravel()[0]

    def score(values):
        hidden = through(objective.hidden, through(objective.encoder, values))
        return math.tanh(through(objective.output, [v if v > 0 else 0.01 * v for v in hidden])[0])

    mixed = score(mixture)
    target = share * (1 if kind == 2 else -1) + (1 - share) * (1 if kind else -1)
    loss = 0.5 * smooth_l1(mixed, target) + 0.5 * smooth_l1(mixed, share * score(x) + (1 - share) * score(partner))
    if kind != 1:
        return loss
    z, z1, z2 = (through(objective.encoder, values) for values in (x, partner, other))
    return loss + 0.5 * max(0.0, length(z - z2) - length(z - z1) + 2.0)


BY_ROW = {
    "deep-sad": deep_sad,
    "deep-svdd": deep_svdd,
    "hsc": hsc,
    "bce": bce,
    "focal": focal,
    "devnet": devnet,
    "feawad": feawad,
}
OPTIONS = {"deep-sad": {"eta": 2.5, "layers": (4, 3)}, "deep-svdd": {"layers": (4, 3)}, "focal": {"gamma": 1.5}}


@pytest.mark.parametrize("shape", [(COLUMNS,), IMAGE])
@pytest.mark.parametrize("name", BY_ROW)
def test_the_loss_of_each_row_or_image_and_its_score_are_those_of_the_paper(name, shape):
    objective = objective_of(name, shape, **OPTIONS.get(name, {}))
    rows = some_rows(ROWS, *shape)
    with torch.no_grad():
        samples = objective.form(rows, generator(5))
        losses, scores = objective.losses(objective(samples), KINDS), objective.score(rows)
    expected = [BY_ROW[name](objective, row, kind) for row, kind in zip(rows.numpy(), KINDS.tolist(), strict=True)]
    torch.testing.assert_close(losses, torch.tensor([loss for loss, _ in expected]).double(), rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(scores, torch.tensor([score for _, score in expected]).double(), rtol=1e-6, atol=1e-9)


def test_every_objective_is_checked_against_its_formula():
    # The blend has a formula of its score, and none of a loss: test_blend.py.
    assert {*BY_ROW, "prenet", "rosas", "blend"} == set(OBJECTIVES)


@pytest.mark.parametrize("name", sorted(set(BY_ROW) - {"deep-svdd"}))
def test_each_row_answers_for_its_own_label(name):
    objective = objective_of(name)
    outputs = objective(objective.form(some_rows(), generator(5))).detach()
    kinds = torch.zeros(ROWS, dtype=torch.long)
    before = objective.losses(outputs, kinds)
    kinds[3] = 1
    changed = objective.losses(outputs, kinds) != before
    assert changed.tolist() == [row == 3 for row in range(ROWS)]


def test_devnet_pulls_a_labelled_anomaly_up_and_an_unlabelled_row_down():
    objective = objective_of("devnet")
    outputs = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64, requires_grad=True)
    objective.losses(outputs, torch.tensor([0, 0, 1, 1])).mean().backward()
    assert outputs.grad.sign().tolist() == [1, 1, -1, -1]


def test_the_published_devnet_has_one_hidden_layer_of_twenty_and_nothing_else():
    objective = create_objective("devnet", (6,), draw=generator(0), hidden=(20,), linear=False, trees=0)
    shapes = {name: tuple(parameter.shape) for name, parameter in objective.named_parameters()}
    assert list(shapes.values()) == [(20, 6), (20,), (1, 20), (1,)]
    assert objective.forest is None


def test_devnet_sees_the_standardised_score_of_its_forest_as_a_further_column():
    rows = some_rows(40, COLUMNS)
    samples = objective_of("devnet").form(rows, generator(0))
    assert samples.shape == (40, COLUMNS + 1)
    assert torch.equal(samples[:, :COLUMNS], rows)
    objective = create_objective("devnet", (COLUMNS,), draw=generator(1)).double()
    objective.begin(Scaled(rows, torch.arange(40) % 2), generator(3))
    column = objective.form(rows, generator(0))[:, -1]
    assert float(column.mean()) == pytest.approx(0.0, abs=1e-12)
    assert float(column.std(correction=0)) == pytest.approx(1.0)


def test_devnet_compares_with_five_thousand_draws_of_a_standard_normal():
    mean, std = objective_of("devnet").reference.tolist()
    assert abs(mean) < 0.05
    assert abs(std - 1) < 0.05
    assert (mean, std) != (0.0, 1.0)


def test_the_centre_is_the_mean_image_moved_away_from_zero():
    objective = create_objective("deep-sad", (COLUMNS,), draw=generator(1), layers=(4, 6)).double().eval()
    rows = some_rows(30, COLUMNS) * 0.2
    with torch.no_grad():
        objective.begin(Scaled(rows, torch.arange(30) % 2), generator(0))
    images = [through(objective.encoder, row) for row in rows.numpy()]
    means = [sum(column) / 30 for column in zip(*images, strict=True)]
    assert any(abs(m) < 0.1 for m in means)
    expected = [m if abs(m) >= 0.1 else math.copysign(0.1, m) for m in means]
    assert objective.center.tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("columns", "widths"), [(6, [6, 32, 16, 8]), (274, [274, 128, 64, 32])])
def test_the_network_of_deep_sad_is_the_published_one(columns, widths):
    encoder = create_objective("deep-sad", (columns,), draw=generator(0)).encoder
    linears = [layer for layer in encoder if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linears] + [linears[-1].out_features] == widths
    assert all(layer.bias is None for layer in linears)
    norms = [layer for layer in encoder if isinstance(layer, nn.BatchNorm1d)]
    assert [(n.eps, n.affine) for n in norms] == [(1e-4, False)] * (len(widths) - 2)
    assert isinstance(encoder[-1], nn.Linear)


def test_the_auto_encoder_mirrors_the_encoder_and_shares_it():
    objective = create_objective("deep-sad", (6,), draw=generator(0))
    auto_encoder = objective.pretraining(generator(1))
    assert auto_encoder.encoder is objective.encoder
    linears = [layer for layer in auto_encoder.decoder.modules() if isinstance(layer, nn.Linear)]
    assert [layer.in_features for layer in linears] + [linears[-1].out_features] == [8, 16, 32, 6]
    assert isinstance(auto_encoder.decoder[-1], nn.Sigmoid)
    errors = auto_encoder.eval()(torch.rand(7, 6))
    assert errors.shape == (7,)


@pytest.mark.parametrize("shape", [(COLUMNS,), IMAGE])
def test_prenet_regresses_the_number_of_labelled_anomalies_in_a_pair(shape):
    objective = objective_of("prenet", shape)
    pairs, kinds = some_rows(ROWS, 2, *shape), torch.tensor([0, 1, 2] * 4)
    losses = objective.losses(objective(pairs), kinds)
    for (first, second), kind, loss in zip(pairs.numpy(), kinds.tolist(), losses.tolist(), strict=True):
        codes = [*through(objective.encoder, first), *through(objective.encoder, second)]
        (f,) = through(objective.relation, codes)
        assert loss == pytest.approx(abs(f - (0, 4, 8)[kind]))


@pytest.mark.parametrize("shape", [(COLUMNS,), IMAGE])
def test_a_score_of_prenet_is_the_mean_over_thirty_partners_of_each_sort(shape):
    objective = objective_of("prenet", shape)
    row = some_rows(1, *shape)
    pairs = torch.stack([row.expand(60, *shape), objective.partners], dim=1)
    with torch.no_grad():
        score, related = objective.score(row), objective(pairs)
    assert score.tolist() == pytest.approx([sum(related.tolist()) / 60])


def test_partners_of_prenet_are_thirty_labelled_anomalies_and_thirty_other_rows():
    objective = create_objective("prenet", (1,), draw=generator(0))
    rows = torch.arange(50.0)[:, None]
    kinds = (torch.arange(50) % 5 == 0).long()
    objective.begin(Scaled(rows, kinds), generator(1))
    anomalous = objective.partners.squeeze(1).long() % 5 == 0
    assert anomalous.tolist() == [True] * 30 + [False] * 30


@pytest.mark.parametrize("shape", [(COLUMNS,), IMAGE])
def test_rosas_is_half_a_triplet_loss_and_half_a_regression_of_mixtures(shape):
    objective = objective_of("rosas", shape, dimensions=6, margin=2.0)
    samples = objective.form(some_rows(ROWS, 3, *shape), generator(5))
    losses = objective.losses(objective(samples), KINDS)
    expected = [rosas(objective, sample, kind) for sample, kind in zip(samples.numpy(), KINDS.tolist(), strict=True)]
    torch.testing.assert_close(losses, torch.tensor(expected).double(), rtol=1e-4, atol=1e-9)


def test_a_mixture_of_rosas_lies_between_a_row_and_its_partner():
    rows = some_rows(ROWS, 3, COLUMNS)
    x, partner, _, mixture, shares = objective_of("rosas").form(rows, generator(5)).unbind(dim=1)
    assert torch.equal(torch.stack([x, partner], dim=1), rows[:, :2])
    torch.testing.assert_close(mixture, shares[:, :1] * x + (1 - shares[:, :1]) * partner)


def test_shares_of_mixtures_follow_the_dirichlet_law_of_one_half():
    objective = create_objective("rosas", (1,), draw=generator(0))
    share = objective.form(torch.zeros(4000, 3, 1).double(), generator(1))[:, 4, 0]
    # The arcsine law: half of it lies within the outer sin^2(pi / 8) on either side.
    outer = math.sin(math.pi / 8) ** 2
    assert float((share < outer).double().mean()) == pytest.approx(0.25, abs=0.03)
    assert float((share > 1 - outer).double().mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(("name", "shape"), [*((name, (COLUMNS,)) for name in OBJECTIVES), ("deep-sad", IMAGE)])
def test_weights_follow_from_the_generator_alone(name, shape):
    before = torch.get_rng_state()
    first = create_objective(name, shape, draw=generator(1)).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    second = create_objective(name, shape, draw=generator(1)).state_dict()
    other = create_objective(name, shape, draw=generator(2)).state_dict()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_an_option_it_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(OptionError, match="hsc has no option 'colour'; its options are hidden"):
        create_objective("hsc", (COLUMNS,), draw=generator(0), colour=1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep-sad", {"eta": 0}),
        ("devnet", {"margin": -1}),
        ("feawad", {"margin": 0}),
        ("rosas", {"margin": 0}),
        ("focal", {"gamma": -1}),
        ("hsc", {"hidden": (8, 0)}),
        ("deep-svdd", {"layers": (8, 0)}),
        ("feawad", {"layers": ()}),
    ],
)
def test_an_option_out_of_range_is_refused(name, options):
    with pytest.raises(OptionError, match="must be"):
        create_objective(name, (COLUMNS,), draw=generator(0), **options)


def test_an_unknown_objective_is_refused_with_those_there_are():
    with pytest.raises(OptionError, match="there is no objective 'knn'; there are hsc, bce"):
        objective_options("knn")
