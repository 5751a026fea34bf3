"""A classifier made anew: against numpy, and what a cut network is."""

import numpy as np
import pytest
import torch
from torch import nn

from imbsam.config import Options
from imbsam.errors import ModelError
from imbsam.models import CosineClassifier
from imbsam.priors import ClassPriors
from imbsam.training.evaluation import posterior_of
from imbsam.training.retraining import TAUS, Cut, best_tau, normalise, reset, spread, tau_normalised
from imbsam.training.second_stage import SecondStage


def net(last=None):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 4), nn.ReLU(), last or nn.Linear(4, 3))


@pytest.mark.parametrize("tau", [0.0, 0.7, 2.0])
def test_tau_normalisation_is_that_of_the_paper(tau):
    weight = torch.randn(5, 7, dtype=torch.float64)
    weight[2] = 0
    rows = weight.numpy()
    expected = np.array([row / np.sqrt((row**2).sum()) ** tau if row.any() else row for row in rows])
    np.testing.assert_allclose(tau_normalised(weight, tau).numpy(), expected, rtol=1e-12)


def test_the_best_tau_is_that_of_a_search_in_numpy():
    draw = np.random.default_rng(3)
    weight = draw.normal(size=(4, 6)) * np.array([8.0, 3.0, 1.0, 0.4])[:, None]
    targets = draw.choice(4, size=300, p=[0.7, 0.2, 0.07, 0.03])
    features = np.eye(4)[targets] @ draw.normal(size=(4, 6)) + draw.normal(size=(300, 6))
    scores = []
    for tau in np.arange(21) / 10:
        chosen = (features @ (weight / np.linalg.norm(weight, axis=1, keepdims=True) ** tau).T).argmax(axis=1)
        scores.append(np.mean([(chosen[targets == c] == c).mean() for c in range(4)]))
    found = best_tau(*map(torch.from_numpy, (features, targets, weight)))
    assert found == TAUS[int(np.argmax(scores))]
    # The example tells the ends apart.
    assert 0 < found < 2 or scores[0] != scores[-1]


def test_classes_without_a_row_do_not_count():
    features, weight = torch.eye(3), torch.eye(3)
    assert best_tau(features[:2], torch.tensor([0, 1]), weight) == 0


def test_normalising_a_classifier_leaves_out_its_bias():
    model = net()
    before = model[3].weight.detach().clone()
    normalise(Cut(model, "ours", 3), 1.0)
    torch.testing.assert_close(model[3].weight.detach(), before / before.norm(dim=1, keepdim=True))
    assert not model[3].bias.any()


def test_a_cosine_classifier_has_no_lengths():
    with pytest.raises(ModelError, match="no effect on a cosine classifier"):
        normalise(Cut(net(CosineClassifier(4, 3)), "ours", 3), 1.0)


@pytest.mark.parametrize("last", [None, CosineClassifier(4, 3)])
def test_features_are_what_the_last_layer_gets(last):
    model = net(last)
    cut, x = Cut(model, "ours", 3), torch.randn(5, 6)
    cut.check(x)
    assert torch.equal(cut.features(x), model[:3](x))
    assert not model.training
    assert [name for name, weight in model.named_parameters() if weight.requires_grad] == [
        f"3.{name}" for name, _ in model[3].named_parameters()
    ]


class Softened(nn.Sequential):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class Tokens(nn.Sequential):
    def forward(self, x):
        return super().forward(x.view(len(x), 2, 3)).mean(dim=1)


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (nn.Sequential(nn.Linear(6, 3), nn.Linear(3, 3)), "not exactly one linear or cosine layer of 3 outputs"),
        (nn.Sequential(nn.Linear(6, 4)), "not exactly one linear or cosine layer of 3 outputs"),
        (Softened(nn.Linear(6, 3)), "does not give the outputs"),
        (Tokens(nn.Linear(3, 3)), "does not get one feature vector for each image"),
        (nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 3))), "has parametrized weights"),
    ],
)
def test_a_model_without_such_a_last_layer_is_one_clear_error(model, told):
    with pytest.raises(ModelError, match=told) as caught:
        Cut(model, "ours", 3).check(torch.randn(4, 6))
    assert "ours" in str(caught.value)


@pytest.mark.parametrize("layer", [nn.Linear(4, 3), nn.Linear(4, 3, bias=False), CosineClassifier(4, 3)])
def test_a_classifier_begins_anew_by_the_seed_alone(layer):
    made = []
    for seed, other in ((1, 7), (1, 8), (2, 7)):
        torch.manual_seed(other)
        state = torch.get_rng_state()
        reset(layer, seed)
        assert torch.equal(torch.get_rng_state(), state)
        made.append(layer.weight.detach().clone())
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_the_spread_is_about_the_mean_of_a_row():
    z = torch.tensor([[1.0, 3.0], [10.0, 10.0]])
    assert spread(z) == pytest.approx(np.sqrt((1 + 1 + 0 + 0) / 4))
    assert spread(3 * z + 5) == pytest.approx(3 * spread(z))


@pytest.mark.parametrize("loss", ["cross-entropy", "logit-adjustment"])
def test_outputs_then_stand_for_balanced_classes_whatever_the_first_loss_was(loss):
    priors = ClassPriors.from_counts([90, 9, 1])
    stage = SecondStage("first", "crt", 10, 0.1, None)
    z = torch.randn(20, 3, dtype=torch.float64)
    log_pi = torch.tensor([0.9, 0.09, 0.01], dtype=torch.float64).log()

    def posterior(**decision):
        options = Options().updated({"loss": loss, "epochs": 1, **decision})
        return posterior_of(options, priors, ("a", "b", "c"), epoch=1, second=stage)

    usual = posterior()
    torch.testing.assert_close(usual.log_training(z), (z + log_pi).log_softmax(dim=1))
    assert torch.equal(usual.scores(z).argmax(dim=1), z.argmax(dim=1))
    for name in ("balanced", "loss"):
        torch.testing.assert_close(posterior(class_prior=name).log_probabilities(z), z.log_softmax(dim=1))


def test_the_scale_of_a_second_stage_is_of_its_outputs():
    priors = ClassPriors.from_counts([8, 2])
    z = torch.randn(4, 2, dtype=torch.float64)
    options = Options().updated({"loss": "ldam", "epochs": 1, "class_prior": "balanced"})
    stage = SecondStage("first", "smoothed", 20, 5e-4, None, scale=2.0)
    found = posterior_of(options, priors, ("a", "b"), epoch=1, second=stage)
    torch.testing.assert_close(found.log_probabilities(z), (60 * z).log_softmax(dim=1))
