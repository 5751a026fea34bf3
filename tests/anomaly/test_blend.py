"""The default detector: networks on halves of the rows and a forest, judged by rows that they were not trained on."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.tree import DecisionTreeClassifier

from anomaly.rows import blob_and_ring
from imbsam.anomaly import Settings, blending, fit, label_forest
from imbsam.anomaly.blending import RHOS, fit_blend, held_out
from imbsam.anomaly.labels import ANOMALY, kinds_of
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.training import Scaled, Subset
from imbsam.anomaly.trees import ClassifyingTrees
from imbsam.data.seeding import generator
from imbsam.errors import OptionError

TABLE = blob_and_ring()
X, KINDS = torch.from_numpy(TABLE.X), kinds_of(TABLE.known, 300)
LABELLED = int((KINDS == ANOMALY).sum())
ROWS = Subset(X, torch.arange(len(X)), KINDS)


def settings(**options):
    return Settings(**{"objective": "blend", "steps": 20, "contamination": 0.1, "precision": "double", **options})


@pytest.fixture(scope="module")
def fitted():
    return fit_blend(ROWS, settings(), seed=3, leave_out=True)


@given(st.integers(0, 10**6), st.integers(8, 60), st.integers(1, 9), st.integers(2, 6), st.booleans())
def test_every_row_is_kept_from_some_networks(seed, others, anomalies, networks, leave_out):
    kinds = torch.tensor([ANOMALY] * anomalies + [0] * others)[torch.randperm(others + anomalies)]
    held = held_out(kinds, networks, leave_out=leave_out, seed=seed)
    usual, labelled = held[:, kinds != ANOMALY], held[:, kinds == ANOMALY]
    for first in range(0, networks - 1, 2):
        assert torch.equal(usual[first], ~usual[first + 1])
        assert abs(int(usual[first].sum()) - int(usual[first + 1].sum())) <= 1
    assert labelled.sum(dim=0).tolist() == [int(leave_out)] * anomalies


def test_of_a_handful_of_rows_every_network_sees_all():
    kinds = torch.tensor([ANOMALY, 0, 0, 0])
    assert not held_out(kinds, 4, leave_out=False, seed=0).any()


def test_the_score_is_a_weighted_sum_of_standardised_parts(fitted):
    blend, rows = fitted.blend, fitted.scaling(X, torch.float64)
    strange = (blend.isolation(rows) - blend.strangeness[0]) / blend.strangeness[1]
    seen = torch.cat([rows, strange[:, None]], dim=1)
    with torch.no_grad():
        networks = [(net(seen) - blend.mean[k]) / blend.spread[k] for k, net in enumerate(blend.networks)]
    forest = (blend.forest(rows)[:, 1] - blend.mean[-2]) / blend.spread[-2]
    isolation = (strange - blend.mean[-1]) / blend.spread[-1]
    expected = torch.stack(networks).mean(dim=0) + LABELLED / 20 * forest + 0.25 * isolation
    torch.testing.assert_close(blend.score(rows).detach(), expected)


@pytest.mark.parametrize(("labelled", "weight"), [(1, 0.25), (5, 0.25), (10, 0.5), (20, 1.0), (300, 1.0)])
def test_the_forest_weighs_more_the_more_labels_there_are(labelled, weight):
    blend = create_objective("blend", (3,), draw=generator(0))
    blend.weigh(labelled)
    assert blend.weights.tolist() == [weight, 0.25]
    fixed = create_objective("blend", (3,), draw=generator(0), forest_weight=0.75, isolation_weight=0.0)
    fixed.weigh(labelled)
    assert fixed.weights.tolist() == [0.75, 0.0]


def test_training_rows_are_scored_and_standardised_by_parts_that_did_not_see_them(fitted):
    blend, rows = fitted.blend, fitted.scaling(X, torch.float64)
    held = held_out(KINDS, 4, leave_out=True, seed=3)
    z = blend.standardised(blend.parts(rows)).detach()
    for number in range(4):
        usable = held[number] & (KINDS != ANOMALY)
        assert float(z[usable, number].mean()) == pytest.approx(0, abs=1e-9)
        assert float(z[usable, number].std(correction=0)) == pytest.approx(1)
    assert fitted.honest.all()


def test_a_row_is_scored_by_the_networks_that_did_not_see_it():
    options = settings(objective_options={"forest_weight": 0.0, "isolation_weight": 0.0})
    fitted = fit_blend(ROWS, options, seed=3, leave_out=True)
    held = held_out(KINDS, 4, leave_out=True, seed=3)
    z = fitted.blend.standardised(fitted.blend.parts(fitted.scaling(X, torch.float64))).detach()
    for row in range(len(X)):
        assert float(fitted.scores[row]) == pytest.approx(float(z[row, :4][held[:, row]].mean()))


def test_a_labelled_anomaly_is_scored_lower_by_those_that_did_not_see_it(fitted):
    inside = fitted.blend.score(fitted.scaling(X, torch.float64)).detach()
    labelled = KINDS == ANOMALY
    assert float(fitted.scores[labelled].mean()) < float(inside[labelled].mean())


def test_the_out_of_bag_scores_are_those_of_trees_grown_on_other_rows(monkeypatch):
    grown = []

    class Kept(DecisionTreeClassifier):
        def fit(self, rows, target, sample_weight):
            grown.append((self, np.array(rows)))
            assert sample_weight[target == 1].sum() == pytest.approx(sample_weight[target == 0].sum())
            return super().fit(rows, target, sample_weight)

    monkeypatch.setattr(label_forest, "DecisionTreeClassifier", Kept)
    scaled = Scaled(ROWS, fit_blend(ROWS, settings(steps=1), seed=0, leave_out=False).scaling, settings())
    grown.clear()
    found = label_forest.grow(ClassifyingTrees(15, label_forest.DEPTH, 2), scaled, 7)
    every = scaled.take(torch.arange(len(X))).float().numpy()
    for row in range(len(X)):
        honest = [
            tree.predict_proba(every[row : row + 1])[0, 1]
            for tree, seen in grown
            if not (seen == every[row]).all(axis=1).any()
        ]
        if honest:
            assert float(found[row]) == pytest.approx(np.mean(honest), abs=1e-6)


def test_networks_take_turns_in_rho_unless_one_is_asked_for(monkeypatch):
    asked = []

    def kept(ensemble, scaling, rows, of, seed):
        lengths = [share * of.rho for share in ensemble.ascent(0.0).shares]
        asked.extend(zip(lengths, ensemble._own.sum(dim=1).tolist(), strict=True))

    monkeypatch.setattr(blending, "fitted", kept)
    fit_blend(ROWS, settings(), seed=0, leave_out=False)
    assert [rho for rho, _ in asked] == pytest.approx([RHOS[0]] * 2 + [RHOS[1]] * 2)
    half = int((KINDS != ANOMALY).sum()) / 2
    for _, rows in asked:
        assert rows - int((KINDS == ANOMALY).sum()) in (math.floor(half), math.ceil(half))
    asked.clear()
    fit_blend(ROWS, settings(rho=0.7), seed=0, leave_out=False)
    assert [rho for rho, _ in asked] == pytest.approx([0.7] * 4)
    asked.clear()
    fit_blend(ROWS, settings(rho=0.0), seed=0, leave_out=False)
    assert [rho for rho, _ in asked] == [0.0] * 4


def test_a_rho_that_is_no_length_is_left_to_its_method(monkeypatch):
    asked = []
    monkeypatch.setattr(blending, "fitted", lambda network, scaling, rows, of, seed: asked.append(of.rho))
    fit_blend(ROWS, settings(method="asam"), seed=0, leave_out=False)
    fit_blend(ROWS, settings(method="gsam"), seed=0, leave_out=False)
    assert asked == [None] * 4 + [RHOS[0]] * 2 + [RHOS[1]] * 2


@pytest.mark.parametrize(
    ("options", "kinds"),
    [({}, ["Ensemble"]), ({"method": "gsam"}, ["DevNet"] * 4), ({"base": "muon"}, ["DevNet"] * 4)],
)
def test_networks_are_trained_together_where_a_step_keeps_them_apart(monkeypatch, options, kinds):
    found, train = [], blending.fitted
    monkeypatch.setattr(blending, "fitted", lambda o, *a, **k: found.append(type(o).__name__) or train(o, *a, **k))
    scores = fit(X, KINDS, settings(steps=3, **options), seed=0).score(X)
    assert found == kinds
    assert scores.isfinite().all()


def test_it_is_the_default_for_tables_and_an_honest_threshold_goes_with_it():
    detector = fit(X, KINDS, Settings(steps=20), seed=0)
    assert detector.objective == "blend"
    assert 0 < detector.threshold.recall <= 1
    assert detector.threshold.anomalies == int((KINDS == ANOMALY).sum())
    assert detector.training_scores.shape == (len(X),)
    share = fit(X, KINDS, Settings(steps=20, contamination=0.2), seed=0)
    called = share.training_scores > share.threshold.value
    assert float(called.double().mean()) == pytest.approx(0.2, abs=0.01)


def test_a_seed_gives_the_same_bits_and_another_one_others():
    one, again, other = (fit(X, KINDS, settings(), seed=seed).score(X) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("rows", [2, 3, 5, 9])
def test_a_few_rows_are_enough(rows):
    detector = fit(X[:rows], torch.tensor([ANOMALY] + [0] * (rows - 1)), settings(), seed=0)
    assert detector.score(X).isfinite().all()


def test_options_of_the_blend():
    options = {"networks": 2, "forest_weight": 0.0, "isolation_weight": 0.0}
    found = fit(X, KINDS, settings(objective_options=options), seed=0).members[0].objective
    assert len(found.networks) == 2
    rows = X.double()
    z = found.standardised(found.parts(rows))
    torch.testing.assert_close(found.score(rows), z[:, :2].mean(dim=1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": 0}, "networks must be a whole number of at least 1"),
        ({"forest_trees": 1.5}, "forest_trees must be a whole number"),
        ({"forest_weight": -1.0}, "forest_weight must be finite and at least 0"),
        ({"isolation_weight": math.inf}, "isolation_weight must be finite"),
        ({"trees": 3}, "blend has no option 'trees'"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(OptionError, match=message):
        create_objective("blend", (3,), draw=generator(0), **options)


def test_it_is_not_for_images():
    with pytest.raises(OptionError, match="blend is for tables"):
        create_objective("blend", (1, 8, 8), draw=generator(0))
