"""Networks trained in one batch of products are those that are trained one by one."""

import pytest
import torch

from anomaly.rows import blob_and_ring
from imbsam.anomaly import Settings
from imbsam.anomaly.batches import Batching
from imbsam.anomaly.devnet import DevNet
from imbsam.anomaly.ensemble import Apart, Ensemble, can_be_trained_together
from imbsam.anomaly.labels import ANOMALY, kinds_of
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.training import make_method
from imbsam.data.seeding import generator
from imbsam.optim import Gradient, Slope, create
from imbsam.priors import ClassPriors
from imbsam.training.step import train_step

TABLE = blob_and_ring()
X, KINDS = torch.from_numpy(TABLE.X), kinds_of(TABLE.known, 300)
COUNTS = torch.bincount(KINDS, minlength=2)
TAIL = torch.tensor([False, True])
SHARES = (1.0, 0.2, 0.6)


def networks():
    """Three with weights of their own."""
    made = [create_objective("devnet", X.shape[1:], draw=generator(seed), trees=0) for seed in range(3)]
    return [each.double() for each in made]


def halves(seed=0):
    """Rows of each network: all labelled anomalies, and some two thirds of the others."""
    draw = torch.rand(3, len(X), generator=torch.Generator().manual_seed(seed))
    return (draw > 1 / 3) | (KINDS == ANOMALY)


@pytest.mark.parametrize("base", ["adam", "sgd"])
@pytest.mark.parametrize(("method", "rho"), [("imbsam", 1.5), ("sam", 0.5), ("plain", None)])
def test_a_step_of_all_is_the_step_of_each(method, rho, base):
    alone, ensemble = networks(), Ensemble(networks(), halves(), SHARES)
    settings = Settings(method=method, rho=rho, base=base, lr=0.01, weight_decay=0.1, damping=0.3)
    together = make_method(ensemble, COUNTS, settings, 5)
    options = {} if rho is None else {"ascent": Gradient(0.3)}
    each = [
        create(
            method,
            network,
            base=base,
            lr=0.01,
            weight_decay=0.1,
            priors=ClassPriors(COUNTS),
            tail=TAIL,
            **options,
            **({} if rho is None else {"rho": rho * share}),
        )
        for network, share in zip(alone, SHARES, strict=True)
    ]
    draw = torch.Generator().manual_seed(0)
    for index, kinds in list(ensemble.batches(KINDS, Batching(16, 8), draw))[:5]:
        train_step(ensemble, ensemble.losses, together, ensemble.form(X[index], draw), kinds)
        for place, (network, optimizer) in enumerate(zip(alone, each, strict=True)):
            train_step(network, network.losses, optimizer, X[index[:, place]], kinds)
    ensemble.part()
    for found, expected in zip(ensemble._networks, alone, strict=True):
        for got, wanted in zip(found.parameters(), expected.parameters(), strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("seed", range(5))
def test_every_network_draws_its_own_rows_and_all_rows_of_a_sample_are_of_a_kind(seed):
    own = halves(seed)
    ensemble = Ensemble(networks(), own, SHARES)
    seen = torch.zeros_like(own)
    for index, kinds in ensemble.batches(KINDS, Batching(16, 8), torch.Generator().manual_seed(seed)):
        assert (KINDS[index] == kinds[:, None]).all()
        assert int((kinds == ANOMALY).sum()) == 8
        for place in range(3):
            seen[place, index[:, place]] = True
    assert not (seen & ~own).any()
    usual = own & (KINDS != ANOMALY)
    fewest = int(usual.sum(dim=1).min())
    assert all(int((seen & usual)[place].sum()) >= fewest - 16 for place in range(3))


def test_without_a_gradient_nothing_is_perturbed_and_what_is_not_finite_is_noticed():
    stacked = torch.zeros(2, 3)
    grads = torch.tensor([[0.0, 0.0, 0.0], [3.0, 4.0, 0.0]])
    climbed = Apart((1.0, 0.5), 0.0).climb([Slope(2.0, [stacked], [grads], ["w"])], {})
    torch.testing.assert_close(stacked, torch.tensor([[0.0, 0.0, 0.0], [0.6, 0.8, 0.0]]))
    assert float(climbed.norm) == 5
    broken = torch.tensor([[0.0, 0.0, 0.0], [float("nan"), 4.0, 0.0]])
    assert not Apart((1.0, 0.5), 0.0).climb([Slope(2.0, [stacked], [broken], ["w"])], {}).norm.isfinite()


def test_networks_keep_their_own_reference_and_look_once_each():
    made = networks()
    Ensemble(made, halves(), SHARES).begin(None, generator(3))
    expected = DevNet(X.shape[1:], trees=0)
    expected.begin(None, generator(3))
    for network in made:
        torch.testing.assert_close(network.reference, expected.reference.double())


@pytest.mark.parametrize(
    ("options", "together"),
    [
        ({}, True),
        ({"method": "plain", "base": "sgd"}, True),
        ({"method": "gsam"}, False),
        ({"base": "muon"}, False),
        ({"anomalies_per_batch": 0}, False),
        ({"method_options": {"ascent": "rise"}}, False),
        ({"method_options": {"tail_weight": 2.0}}, True),
    ],
)
def test_only_what_keeps_networks_apart_is_trained_together(options, together):
    assert can_be_trained_together(halves(), KINDS, Settings(**options)) == together


def test_a_network_without_a_labelled_anomaly_is_trained_alone():
    own = halves()
    own[1, KINDS == ANOMALY] = False
    assert not can_be_trained_together(own, KINDS, Settings())
