"""What the classifier learns, remembers, repeats and refuses."""

import inspect
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.metrics import recall_score
from sklearn.model_selection import GridSearchCV, cross_val_predict, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from torch.nn.functional import cross_entropy

from imbsam import SharpClassifier
from imbsam.decisions import UNCALIBRATED
from imbsam.errors import DataError, DataWarning, NonFiniteError, OptionError, PriorsWarning
from imbsam.losses import LOSSES
from imbsam.optim import ASCENTS, METHODS
from imbsam.optim.bases import BASES

SIZE = {"hidden": (8,), "random_state": 0}


def quick(method="imbsam", **parameters):
    return SharpClassifier(method, **{"max_iter": 3} | SIZE | parameters)


def weights(classifier):
    return torch.cat([value.flatten() for value in classifier.model_.state_dict().values()])


def long_tailed_digits(seed):
    """Training digits whose five rarest classes, drawn by the seed, have 6 samples; test digits as they are."""
    X, y = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(X, y, test_size=0.5, stratify=y, random_state=seed)
    rare = np.random.default_rng(seed).permutation(10)[:5]
    kept = np.concatenate([np.flatnonzero(train_y == c)[: 6 if c in rare else 60] for c in range(10)])
    return train_x[kept], train_y[kept], test_x, test_y, rare


def test_the_rare_digits_are_known_better_than_by_plain_training():
    recall = {"plain": [], "imbsam": []}
    for seed in range(2):
        train_x, train_y, test_x, test_y, rare = long_tailed_digits(seed)
        for method, found in recall.items():
            classifier = SharpClassifier(method, rho=0.2, hidden=(64,), max_iter=40, random_state=seed)
            classifier.fit(train_x, train_y)
            assert method == "plain" or set(classifier.tail_) == set(rare)
            found.append(recall_score(test_y, classifier.predict(test_x), labels=rare, average="macro"))
    assert np.mean(recall["imbsam"]) > np.mean(recall["plain"])
    assert np.mean(recall["imbsam"]) > 0.7


@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns(method, rows):
    X, y = rows
    classifier = quick(method, max_iter=20).fit(X, y)
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]
    assert classifier.score(X, y) > 0.75


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(loss, rows):
    X, y = rows
    classifier = quick(loss=loss, max_iter=20).fit(X, y)
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]
    assert recall_score(y, classifier.predict(X), average="macro") > 0.5  # by chance 1 / 3


@pytest.mark.parametrize("ascent", ASCENTS)
def test_every_ascent_learns(ascent, rows):
    X, y = rows
    assert quick("imbsam", ascent=ascent, max_iter=20).fit(X, y).score(X, y) > 0.75


@pytest.mark.parametrize("base", BASES)
def test_every_base_optimizer_learns(base, rows):
    X, y = rows
    classifier = quick(base=base, max_iter=20).fit(X, y)
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]


def standardised(X):
    return torch.from_numpy(((X - X.mean(0)) / X.std(0)).astype(np.float32)).double()


@pytest.mark.parametrize("method", ["plain", "imbsam"])
def test_a_step_is_that_of_the_formula(method, rows):
    """One whole-batch SGD step of a linear model: w - lr (grad L_head(w) + grad L_tail(w + e) + decay w)."""
    X, y = rows
    step = {"lr": 0.3, "momentum": 0.0, "weight_decay": 0.01, "schedule": "constant", "clip_norm": None}
    step |= {"loss": "cross-entropy", "batch_size": 999, "max_iter": 1, "warm_start": True}
    classifier = quick(method, **SIZE | {"hidden": ()}, **step, rho=0.5)
    classifier.fit(X, y)
    before = [p.detach().double() for p in classifier.model_.parameters()]
    after = [p.detach().double() for p in classifier.fit(X, y).model_.parameters()]

    targets = torch.from_numpy(np.searchsorted(classifier.classes_, y))
    tail = torch.from_numpy(y == "rare")

    def gradient(chosen, weight, bias):
        leaves = weight.clone().requires_grad_(), bias.clone().requires_grad_()
        losses = cross_entropy(standardised(X) @ leaves[0].T + leaves[1], targets, reduction="none")
        return torch.autograd.grad(losses[chosen].sum() / len(y), leaves)

    at = before
    if method == "imbsam":
        slope = gradient(tail, *before)
        length = sum(g.pow(2).sum() for g in slope).sqrt()
        at = [p + 0.5 * g / length for p, g in zip(before, slope, strict=True)]
    head, rare = gradient(~tail, *before), gradient(tail, *at)
    for p, new, h, r in zip(before, after, head, rare, strict=True):
        torch.testing.assert_close(new, p - 0.3 * (h + r + 0.01 * p), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("names", [[0, 1, 2], [-5, 7, 30], ["a", "b", "c"], [0.0, 1.0, 2.0]])
def test_labels_come_back_as_they_were_given(rows, names):
    X, y = rows
    labels = np.array(names)[np.unique(y, return_inverse=True)[1]]
    classifier = quick().fit(X, labels)
    assert classifier.classes_.tolist() == names
    assert classifier.predict(X).dtype == labels.dtype
    assert classifier.tail_.tolist() == [names[1]]  # "rare" is second in the alphabet


@pytest.mark.parametrize("dtype", ["str", "category", "object"])
def test_labels_may_be_a_column_of_a_frame(rows, dtype):
    X, y = rows
    classifier = quick().fit(X, pd.Series(y, dtype=dtype))
    assert classifier.classes_.tolist() == ["common", "rare", "rarer"]
    np.testing.assert_array_equal(classifier.predict(X), quick().fit(X, y).predict(X))


def test_truth_values_are_labels(rows):
    X, y = rows
    assert quick().fit(X, y == "rare").classes_.tolist() == [False, True]


def test_probabilities_decisions_and_predictions_say_the_same(rows):
    X, y = rows
    classifier = quick(max_iter=10, class_prior="training").fit(X, y)
    decisions, probabilities = classifier.decision_function(X), classifier.predict_proba(X)
    exponentials = np.exp(decisions)
    np.testing.assert_allclose(probabilities, exponentials / exponentials.sum(1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(np.log(probabilities), classifier.predict_log_proba(X), rtol=1e-9)
    np.testing.assert_array_equal(classifier.classes_[decisions.argmax(1)], classifier.predict(X))


def test_the_decision_between_two_classes_is_one_number(rows):
    X, y = rows
    classifier = quick(class_prior="balanced").fit(X, y == "rare")
    decisions = classifier.decision_function(X)
    assert decisions.shape == y.shape
    np.testing.assert_allclose(classifier.predict_proba(X)[:, 1], 1 / (1 + np.exp(-decisions)), rtol=1e-12)
    np.testing.assert_array_equal(classifier.predict(X), decisions > 0)


def test_cosines_are_scaled_to_logits_as_in_training(rows):
    X, y = rows
    for scale, options in ((30.0, None), (7.0, {"scale": 7.0})):
        classifier = quick(loss="ldam", loss_options=options, max_iter=5, class_prior="loss").fit(X, y)
        decisions = classifier.decision_function(X)
        assert scale / 2 < np.abs(decisions).max() <= scale * (1 + 1e-6)


@pytest.mark.parametrize("loss", ["cross-entropy", "logit-adjustment"])
def test_probabilities_under_each_prior_are_bayes_rule_on_the_outputs(rows, loss):
    X, y = rows
    shares = np.unique(y, return_counts=True)[1] / len(y)
    classifier = quick(loss=loss, class_prior="loss", max_iter=10).fit(X, y)
    outputs = np.exp(classifier.decision_function(X))
    likelihood = outputs / shares if loss == "cross-entropy" else outputs
    for asked, prior in (
        ("training", shares),
        (None, shares),
        ("balanced", np.ones(3)),
        ([8, 1, 1], np.array([8, 1, 1])),
        ({"rare": 1, "common": 7, "rarer": 2}, np.array([7, 1, 2])),
    ):
        joint = likelihood * prior
        classifier.decide(asked)
        np.testing.assert_allclose(classifier.predict_proba(X), joint / joint.sum(1, keepdims=True), rtol=1e-6)
        decided = likelihood if asked is None else joint
        np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[decided.argmax(1)])


def test_a_class_prior_given_to_fit_is_the_one_decided_later(rows):
    for asked in ("balanced", "loss", [1, 2, 3]):
        at_once, later = (quick(class_prior=prior).fit(*rows) for prior in (asked, None))
        np.testing.assert_array_equal(at_once.predict_proba(rows[0]), later.decide(asked).predict_proba(rows[0]))


def test_the_outputs_are_taken_as_they_come_at_once_and_later(rows):
    """Under the class prior of the loss nothing is calibrated, whenever it is asked for."""
    held_out = {"early_stopping": True, "validation_fraction": 0.3}
    later = quick(**held_out).fit(*rows)
    assert later.posterior_.calibration != UNCALIBRATED
    at_once = quick(class_prior="loss", **held_out).fit(*rows)
    np.testing.assert_array_equal(later.decide("loss").predict_proba(rows[0]), at_once.predict_proba(rows[0]))
    assert later.posterior_.calibration == UNCALIBRATED


def test_a_cost_makes_decisions_of_least_expected_cost(rows):
    X, y = rows
    classifier = quick(cost={"rare": 4.0}, max_iter=10).fit(X, y)
    expected = classifier.predict_proba(X) * np.array([1.0, 4.0, 1.0])
    np.testing.assert_array_equal(classifier.predict(X), classifier.classes_[expected.argmax(1)])


def test_what_is_wanted_is_reached_on_the_rows_held_out_and_priced(rows):
    X, y = rows
    classifier = quick(at_least={"recall": {"rare": 1.0}}, validation_fraction=0.3).fit(X, y)
    (price,) = classifier.prices_
    assert price.recall.hits == price.recall.rows > 0
    assert price.recall_before.rows == price.recall.rows
    assert "rare, at least recall 1: on the held-out rows recall 100.0 %" in str(price)
    assert (classifier.predict(X) == "rare").sum() >= (classifier.decide().predict(X) == "rare").sum()
    assert classifier.prices_ == ()


def test_thresholds_are_found_on_rows_that_are_given_later(rows):
    X, y = rows
    classifier = quick().fit(X, y)
    with pytest.raises(OptionError, match=r"none were held out: give decide\(\) rows X and y"):
        classifier.decide(at_least={"recall": {"rare": 0.9}})
    classifier.decide(at_least={"recall": {"rare": 1.0}}, X=X, y=y)
    assert (classifier.predict(X)[y == "rare"] == "rare").all()
    with pytest.raises(OptionError, match="a label that was not in fit"):
        classifier.decide(at_least={"recall": {"rare": 1.0}}, X=X[:3], y=["rare", "other", "rare"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"class_prior": "uniform"}, "class_prior is one of training, balanced, loss, or a frequency for each class"),
        ({"class_prior": [1, 2]}, "class_prior must be 3 frequencies"),
        ({"class_prior": {"common": 1, "rare": 1}}, "the class 'rarer' has no frequency"),
        ({"class_prior": {"common": 1, "rare": 1, "rarer": 1, "none": 1}}, "there is no class 'none'"),
        ({"class_prior": [1, 0, 1]}, "the frequency of 'rare' must be above 0"),
        ({"class_prior": [1, np.nan, 1]}, "the frequency of 'rare' must be above 0"),
        ({"cost": {"rare": 0}}, "cost of 'rare' must be above 0"),
        ({"cost": {"none": 2}}, "cost: there is no class 'none'"),
        ({"at_least": {"f1": {"rare": 0.5}}}, "at_least has recall and precision"),
        ({"at_least": {"recall": {"rare": 1.5}}}, r"recall of 'rare' must lie in \(0, 1\]"),
        ({"at_least": {"recall": {"none": 0.5}}}, "at_least: there is no class 'none'"),
    ],
)
def test_decisions_that_cannot_be_are_refused_before_training_and_later(rows, parameters, message, monkeypatch):
    fitted = quick().fit(*rows)
    with pytest.raises(OptionError, match=message):
        fitted.decide(**parameters)
    assert fitted.class_prior is fitted.cost is fitted.at_least is None
    monkeypatch.setattr("imbsam.estimators.classifier.train", lambda *_, **__: pytest.fail("it was trained"))
    with pytest.raises(OptionError, match=message):
        quick(**parameters).fit(*rows)


def test_deferred_weights_change_only_the_epochs_after_their_start(rows):
    X, y = rows
    schedule = {"schedule": "constant", "max_iter": 4}
    never, late = (quick(reweight_from=start, **schedule).fit(X, y).loss_curve_ for start in (None, 0.5))
    assert never[:2] == late[:2]
    assert never[2] != late[2]


def test_the_class_counts_are_known(rows):
    X, y = rows
    classifier = quick().fit(X, y)
    assert classifier.priors_.counts.tolist() == [90, 6, 30]


@pytest.mark.parametrize(
    ("rule", "tail"),
    [
        ("auto", ["rare"]),
        ("fewer-than=40", ["rare", "rarer"]),
        ("rarest-classes=0.5", ["rare", "rarer"]),
        ("rarest-samples=0.1", ["rare"]),
        ("classes=rarer", ["rarer"]),
    ],
)
def test_the_tail_follows_its_rule(rows, rule, tail):
    assert quick(tail=rule, max_iter=1).fit(*rows).tail_.tolist() == tail


def test_a_rule_that_marks_no_class_warns_but_auto_on_equal_classes_does_not(rows):
    X, y = rows
    with pytest.warns(PriorsWarning, match="marks no class"):
        quick(tail="fewer-than=2").fit(X, y)
    equal = np.arange(len(y)) % 3
    assert quick().fit(X, equal).tail_.tolist() == [0, 1, 2]


@pytest.mark.parametrize("rule", ["fewest", "fewer-than=few", "classes=common,odd"])
def test_a_tail_rule_that_cannot_be_read_is_refused(rows, rule):
    with pytest.raises(OptionError, match=re.escape(rule)):
        quick(tail=rule).fit(*rows)


def test_a_method_that_never_sets_in_is_plain(rows):
    plain = quick("plain", max_iter=3, random_state=0).fit(*rows)
    never, early = (quick("sam", sharp_from=share, max_iter=3, random_state=0).fit(*rows) for share in (1.0, 0.5))
    assert torch.equal(weights(never), weights(plain))
    assert not torch.equal(weights(early), weights(plain))


def test_the_perturbation_can_be_confined_to_parameters(rows):
    whole, biases = (quick("sam", perturb=part, max_iter=3, random_state=0).fit(*rows) for part in ("all", ["*bias"]))
    assert not torch.equal(weights(whole), weights(biases))
    with pytest.raises(OptionError, match="nowhere"):
        quick("sam", perturb="nowhere", max_iter=1).fit(*rows)


@pytest.mark.parametrize(("option", "value"), [("sharp_from", 0.5), ("perturb", "norms")])
def test_a_plain_method_has_no_perturbation_to_choose(rows, option, value):
    with pytest.raises(OptionError, match=f"plain perturbs nothing.*{option}"):
        quick("plain", max_iter=1, **{option: value}).fit(*rows)


@pytest.mark.parametrize("ascent", [None, "random", "stochastic"])
def test_one_seed_gives_the_same_weights_bit_for_bit(rows, ascent):
    options = {"beta": 0.5} if ascent == "stochastic" else None
    first, second = (quick(ascent=ascent, ascent_options=options).fit(*rows) for _ in range(2))
    other = quick(ascent=ascent, ascent_options=options, random_state=1).fit(*rows)
    assert torch.equal(weights(first), weights(second))
    assert first.loss_curve_ == second.loss_curve_
    assert not torch.equal(weights(first), weights(other))


def test_a_random_state_that_is_an_object_goes_on(rows):
    state = np.random.RandomState(0)
    first, second = (quick(random_state=state).fit(*rows) for _ in range(2))
    again = quick(random_state=np.random.RandomState(0)).fit(*rows)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(second))


def test_the_global_random_state_of_torch_and_its_threads_stay(rows):
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    quick(ascent="random", early_stopping=True).fit(*rows).predict(rows[0])
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


def test_the_global_random_state_of_torch_is_not_read(rows):
    first = quick(ascent="random").fit(*rows)
    torch.manual_seed(99)
    assert torch.equal(weights(first), weights(quick(ascent="random").fit(*rows)))


def test_fits_in_threads_equal_fits_alone(rows):
    alone = [quick(ascent="random", random_state=seed).fit(*rows) for seed in range(4)]
    jobs = [joblib.delayed(quick(ascent="random", random_state=seed).fit)(*rows) for seed in range(4)]
    together = joblib.Parallel(n_jobs=4, prefer="threads")(jobs)
    assert all(torch.equal(weights(a), weights(b)) for a, b in zip(alone, together, strict=True))


def test_a_pickled_classifier_predicts_the_same(frame, tmp_path):
    X, y = frame
    classifier = quick(loss="ldam", class_prior=[3, 2, 1]).fit(X, y)
    joblib.dump(classifier, tmp_path / "classifier.joblib")
    for copy in (pickle.loads(pickle.dumps(classifier)), joblib.load(tmp_path / "classifier.joblib")):
        np.testing.assert_array_equal(copy.predict_proba(X), classifier.predict_proba(X))


def test_a_clone_has_the_parameters_and_nothing_learnt(rows):
    classifier = quick(loss_options={"tau": 0.5}, categorical_features=[]).fit(*rows)
    copy = clone(classifier)
    assert copy.get_params() == classifier.get_params()
    assert not hasattr(copy, "model_")
    assert torch.equal(weights(copy.fit(*rows)), weights(classifier))


def test_unfitted_use_is_refused(rows):
    for method in ("predict", "predict_proba", "predict_log_proba", "decision_function"):
        with pytest.raises(NotFittedError):
            getattr(quick(), method)(rows[0])


def test_a_warm_start_goes_on_as_if_it_had_never_stopped(rows):
    steady = {"schedule": "constant", "momentum": 0.0}
    whole = quick(max_iter=6, **steady).fit(*rows)
    parts = quick(max_iter=3, warm_start=True, **steady).fit(*rows).fit(*rows)
    assert torch.equal(weights(whole), weights(parts))
    assert parts.loss_curve_ == whole.loss_curve_
    assert parts.n_iter_ == parts.best_iter_ == 6


def test_without_a_warm_start_a_fit_begins_anew(rows):
    classifier = quick().fit(*rows)
    first = weights(classifier)
    assert torch.equal(weights(classifier.fit(*rows)), first)
    assert classifier.n_iter_ == len(classifier.loss_curve_) == 3


def test_a_warm_start_reads_the_columns_as_the_first_fit_did(rows):
    X, y = rows
    classifier = quick(lr=1e-12, warm_start=True).fit(X, y)
    before = classifier.predict_proba(X)
    np.testing.assert_allclose(classifier.fit(10 * X + 3, y).predict_proba(X), before, atol=1e-6)


def test_a_warm_start_refuses_another_problem(rows, frame):
    X, y = rows
    classifier = quick(warm_start=True).fit(X, y)
    before = weights(classifier)
    with pytest.raises(DataError, match="continues with the classes"):
        classifier.fit(X[y != "rare"], y[y != "rare"])
    with pytest.raises(ValueError, match="X has 3 features"):
        classifier.fit(X[:, :3], y)
    with pytest.raises(OptionError, match=r"hidden=\(8,\)"):
        classifier.set_params(hidden=(9,)).fit(X, y)
    with pytest.raises(OptionError, match="continues with the network"):
        classifier.set_params(hidden=(8,), loss="ldam").fit(X, y)
    assert torch.equal(weights(classifier), before)


def test_early_stopping_keeps_the_weights_of_the_best_epoch(rows):
    X, y = rows
    flipped = y.copy()
    flipped[::3] = np.random.default_rng(2).permutation(flipped[::3])
    steady = {"schedule": "constant", "early_stopping": True, "validation_fraction": 0.3, "lr": 0.3}
    stopped = quick(max_iter=9, n_iter_no_change=3, **steady).fit(X, flipped)
    scores = stopped.validation_scores_
    assert 1 <= stopped.best_iter_ < stopped.n_iter_
    assert stopped.best_validation_score_ == max(scores) == scores[stopped.best_iter_ - 1]
    short = quick(max_iter=stopped.best_iter_, n_iter_no_change=9, **steady).fit(X, flipped)
    assert torch.equal(weights(stopped), weights(short))


def test_training_stops_once_the_score_no_longer_rises(rows):
    classifier = quick(max_iter=50, early_stopping=True, n_iter_no_change=4).fit(*rows)
    scores = classifier.validation_scores_
    assert classifier.n_iter_ == len(scores) < 50
    assert max(scores[-4:]) <= max(scores[:-4]) == scores[-5]


def test_rows_are_held_out_of_every_class_that_can_spare_one(rows):
    X, y = rows
    classifier = quick(early_stopping=True, validation_fraction=0.2).fit(X, y)
    assert classifier.priors_.counts.tolist() == [72, 5, 24]
    assert quick().fit(X, y).validation_scores_ is None


def test_with_nothing_to_hold_out_training_runs_to_the_end():
    X, y = np.eye(4), np.array([0, 0, 1, 1])
    with pytest.warns(DataWarning, match="no row to hold out"):
        classifier = quick(early_stopping=True, max_iter=4).fit(X, y)
    assert classifier.n_iter_ == 4
    assert classifier.best_validation_score_ is None


def test_fewer_rows_than_a_batch_and_a_class_of_one_are_learnt():
    X = np.array([[0.0], [0.1], [0.2], [5.0]])
    y = np.array(["no", "no", "no", "yes"])
    classifier = quick(max_iter=60).fit(X, y)
    assert classifier.predict(X).tolist() == y.tolist()


def test_two_rows_are_enough():
    assert quick(max_iter=30).fit([[0.0], [1.0]], [0, 1]).predict([[0.0], [1.0]]).tolist() == [0, 1]


def test_one_class_is_refused(rows):
    with pytest.raises(DataError, match="at least 2 classes; y has 1 class: only"):
        quick().fit(rows[0], ["only"] * len(rows[1]))


def test_fractions_are_no_classes(rows):
    with pytest.raises(ValueError, match="Unknown label type"):
        quick().fit(rows[0], rows[0][:, 0])


def test_it_works_in_a_pipeline_under_a_grid_search(rows):
    pipeline = make_pipeline(MinMaxScaler(), quick())
    grid = {"sharpclassifier__method": ["plain", "imbsam"], "sharpclassifier__rho": [0.05, 0.2]}
    search = GridSearchCV(pipeline, grid, cv=2, scoring="balanced_accuracy", error_score="raise").fit(*rows)
    assert set(search.best_params_) == set(grid)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_it_works_in_a_search_over_processes(rows):
    alone, over = (
        GridSearchCV(quick(), {"rho": [0.1, 0.3]}, cv=2, n_jobs=jobs).fit(*rows).cv_results_["mean_test_score"]
        for jobs in (1, 2)
    )
    np.testing.assert_array_equal(alone, over)


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_it_works_in_cross_validation(rows, method):
    X, y = rows
    assert len(cross_val_predict(quick(), X, y, cv=3, method=method)) == len(y)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
def test_it_works_under_calibration(frame, method):
    X, y = frame
    calibrated = CalibratedClassifierCV(quick(max_iter=10), method=method, cv=3).fit(X, y)
    probabilities = calibrated.predict_proba(X)
    np.testing.assert_allclose(probabilities.sum(1), 1)
    assert (calibrated.predict(X) == y).mean() > 0.75


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("method", "adam"),
        ("rho", -0.1),
        ("tail", 20),
        ("method_options", "alpha=1"),
        ("ascent", "up"),
        ("loss", "hinge"),
        ("reweight_from", 1.5),
        ("class_prior", 3),
        ("cost", 3.0),
        ("at_least", 0.9),
        ("hidden", 8),
        ("base", "lion"),
        ("lr", 0),
        ("momentum", 1.0),
        ("weight_decay", -1),
        ("schedule", "linear"),
        ("clip_norm", 0.0),
        ("max_iter", 0),
        ("batch_size", 0),
        ("sampler", "random"),
        ("categorical_features", "colour"),
        ("early_stopping", "auto"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("warm_start", "yes"),
        ("random_state", "seed"),
        ("device", 0),
        ("verbose", 3),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_fit_and_only_there(rows, name, value):
    classifier = SharpClassifier(**{name: value})
    with pytest.raises(ValueError, match=f"'{name}' parameter of SharpClassifier must be"):
        classifier.fit(*rows)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"method_options": {"alpha": 1.0}}, "imbsam has no 'alpha'"),
        ({"method_options": {"rho": 1.0}}, "imbsam has no 'rho'"),
        ({"ascent": "gradient", "ascent_options": {"push": 1.0}}, "the ascent gradient has no option 'push'"),
        ({"loss_options": {"gamma": 1.0}}, "the loss logit-adjustment has no option 'gamma'"),
        ({"method": "plain", "ascent": "random"}, "plain has its own ascent"),
        ({"hidden": (8, 0)}, "hidden must be"),
        ({"hidden": (8.5,)}, "hidden must be whole numbers"),
        ({"device": "abacus"}, "abacus cannot be used"),
    ],
)
def test_options_that_do_not_fit_are_refused(rows, parameters, message):
    with pytest.raises(OptionError, match=message):
        quick(**parameters).fit(*rows)


def test_options_of_method_ascent_and_loss_arrive(rows):
    plain = weights(quick().fit(*rows))
    for options in (
        {"method_options": {"tail_weight": 2.0}},
        {"ascent": "gradient", "ascent_options": {"damping": 5.0}},
        {"loss_options": {"tau": 0.2}},
        {"rho": 1.0},
        {"sampler": "balanced"},
        {"batch_size": 16},
        {"weight_decay": 0.5},
        {"clip_norm": 1e-3},
    ):
        assert not torch.equal(weights(quick(**options).fit(*rows)), plain), options


def test_a_loss_that_runs_away_says_what_to_do(rows):
    with pytest.raises(NonFiniteError, match="Lower lr, or limit the gradient by clip_norm"):
        quick(lr=1e30, clip_norm=None).fit(*rows)


def test_verbose_prints_a_line_an_epoch(rows, capsys):
    quick(verbose=True, early_stopping=True).fit(*rows)
    assert re.fullmatch(r"(epoch \d: loss \d\.\d{4}, validation \d\.\d{4}\n){3}", capsys.readouterr().out)


def test_the_docstring_names_every_parameter_and_attribute(rows):
    text = inspect.getdoc(SharpClassifier)
    arguments = re.findall(r"^    (\w+): ", text[text.index("Args:") : text.index("Attributes:")], flags=re.MULTILINE)
    assert arguments == list(inspect.signature(SharpClassifier).parameters)
    attributes = re.findall(r"^    (\w+_): ", text, flags=re.MULTILINE)
    learnt = {name for name in vars(quick().fit(*rows)) if name.endswith("_") and not name.startswith("_")}
    assert set(attributes) == learnt | {"feature_names_in_"}


def test_the_example_in_the_docstring_runs():
    import doctest

    from imbsam.estimators import classifier

    assert doctest.testmod(classifier).failed == 0
    assert doctest.testmod(classifier).attempted >= 5
