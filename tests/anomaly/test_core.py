import dataclasses

import numpy as np
import pytest
import torch

from anomaly.rows import blob_and_ring, digits
from imbsam.anomaly import OBJECTIVES, Settings, fit
from imbsam.anomaly.labels import kinds_of
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.scaling import ColumnScaling
from imbsam.anomaly.training import Subset, block_rows, make_method, trained
from imbsam.data.seeding import generator
from imbsam.errors import DataError, DataWarning, OptionError
from imbsam.optim import METHODS, ImbSAM

TABLE = blob_and_ring()
X, KINDS = torch.from_numpy(TABLE.X), kinds_of(TABLE.known, 300)

SUPERVISED = sorted(set(OBJECTIVES) - {"deep-svdd"})
OF_IMAGES = sorted(set(SUPERVISED) - {"blend"})

PICTURES = digits()
IMAGES, IMAGE_KINDS = torch.from_numpy(PICTURES.X), kinds_of(PICTURES.known, 270)


def quick(**options):
    return Settings(**{"epochs": 2, "contamination": 0.1, **options})


def rank_of_anomalies(scores, table=TABLE):
    """Share of pairs of an anomaly and a normal row that stand in the right order."""
    truth = torch.from_numpy(table.truth).bool()
    return float((scores[truth][:, None] > scores[~truth]).double().mean())


@pytest.mark.parametrize("name", SUPERVISED)
def test_every_objective_finds_the_anomalies_it_was_told_of_and_the_others(name):
    detector = fit(X, KINDS, quick(objective=name, epochs=15, lr=5e-3), seed=0)
    assert rank_of_anomalies(detector.score(X)) > 0.9


def test_deep_svdd_finds_some_without_being_told_of_any():
    detector = fit(X, KINDS, quick(objective="deep-svdd", epochs=15, lr=5e-3), seed=0)
    assert rank_of_anomalies(detector.score(X)) > 0.6


@pytest.mark.parametrize("name", OF_IMAGES)
def test_every_objective_finds_images_like_those_it_was_told_of(name):
    detector = fit(IMAGES, IMAGE_KINDS, quick(objective=name, epochs=10), seed=0)
    assert rank_of_anomalies(detector.score(IMAGES), PICTURES) > 0.95


def test_images_unlike_those_of_training_are_found_without_any_label():
    normal = IMAGES[torch.from_numpy(PICTURES.truth) == 0]
    kinds = torch.zeros(len(normal), dtype=torch.long)
    detector = fit(normal, kinds, quick(objective="deep-svdd", epochs=20), seed=0)
    assert rank_of_anomalies(detector.score(IMAGES), PICTURES) > 0.85


def test_images_of_any_dtype_are_the_same_to_a_seed():
    scores = [fit(images, IMAGE_KINDS, quick(objective="deep-sad"), seed=0).score(images)
              for images in (IMAGES, IMAGES.float(), IMAGES.double())]  # fmt: skip
    assert torch.equal(scores[0], scores[1])
    assert torch.equal(scores[0], scores[2])


def test_rows_of_another_shape_than_in_training_are_refused():
    detector = fit(IMAGES, IMAGE_KINDS, quick(), seed=0)
    with pytest.raises(DataError, match=r"rows have shape \(1, 4, 16\); the detector was fitted on \(1, 8, 8\)"):
        detector.score(IMAGES.reshape(-1, 1, 4, 16))


def test_tables_are_seen_in_double_and_images_in_single_precision_unless_asked_otherwise():
    for rows, kinds, options, expected in [
        (X, KINDS, {}, torch.float64),
        (X, KINDS, {"precision": "single"}, torch.float32),
        (IMAGES, IMAGE_KINDS, {}, torch.float32),
        (IMAGES, IMAGE_KINDS, {"precision": "double"}, torch.float64),
    ]:
        detector = fit(rows, kinds, quick(epochs=1, **options), seed=0)
        assert {p.dtype for p in detector.members[0].objective.parameters()} == {expected}
        assert detector.settings.dtype == expected


@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_a_detector(method):
    scores = fit(X, KINDS, quick(objective="bce", method=method), seed=0).score(X)
    assert scores.isfinite().all()
    assert len(scores.unique()) > 250


def test_one_step_of_the_default_method_is_the_papers_with_damping():
    """Logistic regression on the whole table as one batch: the gradients are written out in numpy."""
    settings = quick(
        objective="bce",
        objective_options={"hidden": ()},
        epochs=1,
        batch_size=300,
        anomalies_per_batch=0,
        base="sgd",
        lr=0.7,
        weight_decay=0.0,
        rho=0.5,
        scaling="none",
    )
    detector = fit(X, KINDS, settings, seed=3)
    seed = int(generator(3, 101, 0).initial_seed())
    fresh = create_objective("bce", (4,), draw=generator(seed, 0), hidden=())
    w = np.r_[fresh.network.straight.weight.detach().numpy().ravel(), fresh.network.straight.bias.detach().numpy()]
    w = w.astype(np.float64)
    rows, tail = np.c_[TABLE.X, np.ones(300)], TABLE.known == 1

    def gradient(weights, chosen):
        p = 1 / (1 + np.exp(-rows[chosen] @ weights))
        return ((p - tail[chosen])[:, None] * rows[chosen]).sum(axis=0) / 300

    g = gradient(w, tail)
    e = 0.5 * g / (np.linalg.norm(g) + 0.3)
    w = w - 0.7 * (gradient(w, ~tail) + gradient(w + e, tail))
    np.testing.assert_allclose(detector.score(X).numpy(), rows @ w, rtol=1e-9)


def test_the_labelled_anomalies_are_the_tail_and_their_ascent_is_damped():
    objective = create_objective("hsc", (4,), draw=generator(0))
    optimizer = make_method(objective, objective.counts(KINDS), quick(), 10)
    assert isinstance(optimizer, ImbSAM)
    assert optimizer.tail.tolist() == [False, True]
    assert optimizer.ascent.damping == 0.3
    assert optimizer.param_groups[0]["rho"] == objective.rho


def test_known_normal_rows_are_a_kind_of_their_own_and_no_tail():
    objective = create_objective("hsc", (4,), draw=generator(0))
    optimizer = make_method(objective, objective.counts(torch.tensor([0, 1, 2])), quick(rho=0.2), 10)
    assert optimizer.tail.tolist() == [False, True, False]
    assert optimizer.param_groups[0]["rho"] == 0.2


@pytest.mark.parametrize("name", ["prenet", "rosas"])
def test_pairs_with_a_labelled_anomaly_are_the_tail(name):
    objective = create_objective(name, (4,), draw=generator(0))
    optimizer = make_method(objective, objective.counts(KINDS), quick(), 10)
    assert optimizer.tail.tolist() == [False, True, True]


def test_options_of_the_method_reach_it():
    objective = create_objective("hsc", (4,), draw=generator(0))
    options = {"tail_weight": 2.0, "ascent": "adaptive", "ascent_options": {"eta": 0.1}}
    optimizer = make_method(objective, objective.counts(KINDS), quick(method_options=options), 10)
    assert optimizer.tail_weight == 2.0
    assert optimizer.ascent.eta == 0.1


def test_rho_zero_is_the_base_optimizer_bit_for_bit_and_another_rho_is_not():
    plain = fit(X, KINDS, quick(method="plain"), seed=0).score(X)
    assert torch.equal(fit(X, KINDS, quick(rho=0.0), seed=0).score(X), plain)
    assert not torch.equal(fit(X, KINDS, quick(rho=0.1), seed=0).score(X), plain)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "deep-sad"},
        {"objective": "rosas", "members": 2, "contamination": "auto"},
        {"objective": "bce", "method_options": {"ascent": "random"}},
    ],
)
def test_a_seed_gives_the_same_bits_and_leaves_torchs_generator_alone(options):
    before = torch.get_rng_state()
    first = fit(X, KINDS, quick(**options), seed=7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second = fit(X, KINDS, quick(**options), seed=7)
    assert torch.equal(first.score(X), second.score(X))
    assert first.threshold == second.threshold
    assert not torch.equal(fit(X, KINDS, quick(**options), seed=8).score(X), first.score(X))


def test_a_row_scores_the_same_alone_and_among_many():
    detector = fit(X, KINDS, quick(), seed=0)
    table = X.repeat(15, 1)
    scores = detector.score(table)
    torch.testing.assert_close(scores[4000:4001], detector.score(table[4000:4001]), rtol=1e-9, atol=1e-12)
    assert torch.equal(torch.cat(list(detector.score_blocks(table))), scores)
    assert detector.score(X[:0]).shape == (0,)


def test_single_precision_scores_nearly_the_same():
    double, single = (fit(X, KINDS, quick(precision=p), seed=0).score(X) for p in ("double", "single"))
    assert not torch.equal(double, single)
    torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-4)


def test_the_table_is_left_as_it_was():
    table = X.float()
    before = table.clone()
    fit(table, KINDS, quick(), seed=0)
    assert torch.equal(table, before)


@pytest.mark.parametrize("options", [{}, {"objective": "deep-sad"}, {"contamination": "auto"}, {"members": 2}])
def test_no_more_rows_than_a_block_are_scaled_at_once(monkeypatch, options):
    """Beside the table only batches and blocks of it are ever held, however long it is."""
    rows, kinds, taken = X.repeat(20, 1), KINDS.repeat(20), []
    monkeypatch.setattr("imbsam.anomaly.training.BLOCK", 2048)
    scale = ColumnScaling.__call__
    monkeypatch.setattr(ColumnScaling, "__call__", lambda self, r, dtype: taken.append(len(r)) or scale(self, r, dtype))
    detector = fit(rows, kinds, quick(epochs=1, **options), seed=0)
    assert max(taken) <= 2048
    taken.clear()
    detector.score(rows)
    members = options.get("members", 1)
    assert taken == [n for n in (2048, 2048, 1904) for _ in range(members)]


@pytest.mark.parametrize(
    ("shape", "rows"),
    [
        ((30,), 16384),
        ((1000,), 1048),
        ((2_000_000,), 1),
        ((1, 8, 8), 4096),
        ((3, 32, 32), 256),
        ((3, 224, 224), 5),
        ((1, 999, 999), 1),
    ],
)
def test_the_larger_the_rows_the_fewer_are_in_a_block(shape, rows):
    assert block_rows(shape) == rows


def test_pretraining_changes_what_is_learnt():
    with_it, without = (fit(X, KINDS, quick(objective="deep-sad", pretraining_epochs=n), seed=0) for n in (2, 0))
    assert not torch.equal(with_it.score(X), without.score(X))


def test_the_auto_encoder_learns_to_reconstruct():
    rows = Subset(X, torch.arange(300), torch.zeros(300, dtype=torch.long))

    def error(epochs):
        settings = quick(objective="feawad", pretraining_epochs=epochs, epochs=1, lr=5e-3)
        objective, scaling = trained("feawad", rows, settings, seed=0)
        with torch.no_grad():
            return float(objective(scaling(X, torch.float64))[:, 1].mean())

    assert error(30) < 0.7 * error(0)


def test_several_members_average_their_standardised_scores():
    detector = fit(X, KINDS, quick(objective="devnet", members=3), seed=0)
    parts = torch.stack([dataclasses.replace(detector, members=(m,)).score(X) for m in detector.members])
    torch.testing.assert_close(detector.score(X), parts.mean(dim=0))
    others = parts[:, KINDS != 1]
    torch.testing.assert_close(others.mean(dim=1), torch.zeros(3).double(), atol=1e-9, rtol=0)
    torch.testing.assert_close(others.std(dim=1, correction=0), torch.ones(3).double())
    assert not torch.equal(parts[0], parts[1])


def test_a_share_of_the_training_rows_is_called_anomalies():
    detector = fit(X, KINDS, quick(contamination=0.2), seed=0)
    assert int((detector.scores_of_fit(X) > detector.threshold.value).sum()) == 60


def test_calibration_rests_on_a_fifth_of_the_labels_for_each_member():
    one = fit(X, KINDS, quick(objective="devnet", contamination="auto"), seed=0).threshold
    assert (one.anomalies, one.others) == (2, 58)
    three = fit(X, KINDS, quick(objective="devnet", contamination="auto", members=3), seed=0).threshold
    assert (three.anomalies, three.others) == (6, 174)


def test_held_out_rows_are_not_trained_on_nor_scaled_by():
    settings = quick(objective="devnet", contamination="auto")
    first = fit(X, KINDS, settings, seed=0)
    changed, held = X.clone(), []
    for row in range(40):
        changed[:] = X
        changed[row] += 1000.0
        if torch.equal(fit(changed, KINDS, settings, seed=0).score(X), first.score(X)):
            held.append(row)
        if len(held) == 3:
            break
    assert 3 <= len(held) < row + 1


def test_the_calibrated_threshold_keeps_what_it_promises_on_new_rows():
    settings = Settings(epochs=10, lr=5e-3, contamination="auto", members=3)
    table, new = blob_and_ring(1000, 100, 30), blob_and_ring(1000, 100, 30, seed=1)
    detector = fit(torch.from_numpy(table.X), kinds_of(table.known, 1000), settings, seed=0)
    found = detector.score(torch.from_numpy(new.X)).numpy() > detector.threshold.value
    assert found[new.truth == 1].mean() == pytest.approx(detector.threshold.recall, abs=0.15)
    assert found[new.truth == 0].mean() <= detector.threshold.false_alarm_rate + 0.05


def test_without_labels_it_is_deep_svdd():
    detector = fit(X, torch.zeros_like(KINDS), quick(contamination="auto"), seed=0)
    assert detector.objective == "deep-svdd"
    assert int((detector.score(X) > detector.threshold.value).sum()) == 30


def labelled(number):
    """Kinds of the rows of which so many anomalies are labelled."""
    kinds = torch.zeros(300, dtype=torch.long)
    kinds[torch.from_numpy(TABLE.known).nonzero().squeeze(1)[:number]] = 1
    return kinds


@pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"prenet"}))
def test_one_labelled_anomaly_is_enough(name):
    assert fit(X, labelled(1), quick(objective=name), seed=0).objective == name


def test_two_labelled_anomalies_are_enough_for_prenet_which_learns_from_pairs():
    assert fit(X, labelled(2), quick(objective="prenet"), seed=0).objective == "prenet"


def test_one_labelled_image_is_enough():
    kinds = torch.zeros(270, dtype=torch.long)
    kinds[int(IMAGE_KINDS.argmax())] = 1
    detector = fit(IMAGES, kinds, quick(objective="bce", epochs=20), seed=0)
    assert rank_of_anomalies(detector.score(IMAGES), PICTURES) > 0.9


def test_a_single_labelled_anomaly_leaves_none_to_hold_out():
    with pytest.warns(DataWarning, match="10% of the rows are called anomalies instead"):
        detector = fit(X, labelled(1), quick(contamination="auto"), seed=0)
    assert int((detector.scores_of_fit(X) > detector.threshold.value).sum()) == 30
    assert np.isnan(detector.threshold.recall)


def test_prenet_says_why_one_labelled_anomaly_is_too_few():
    with pytest.raises(DataError, match="prenet learns from pairs of two different labelled anomalies; y has 1"):
        fit(X, labelled(1), quick(objective="prenet"), seed=0)


def test_rows_that_are_all_labelled_anomalies_are_refused():
    with pytest.raises(
        DataError, match="all 300 rows are labelled as anomalies: there are no other rows to separate them from"
    ):
        fit(X, torch.ones_like(KINDS), quick(), seed=0)


def test_rows_that_are_all_labelled_one_way_or_the_other_are_fine():
    kinds = torch.where(KINDS == 1, 1, 2)
    for name in ("hsc", "deep-sad", "prenet"):
        detector = fit(X, kinds, quick(objective=name, epochs=15, lr=5e-3), seed=0)
        assert rank_of_anomalies(detector.score(X)) > 0.9


def test_strict_refuses_rows_without_a_labelled_anomaly():
    with pytest.raises(DataError, match="no row is labelled as an anomaly, and strict=True asks for some"):
        fit(X, torch.zeros_like(KINDS), quick(strict=True), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "knn"}, "there is no objective 'knn'"),
        ({"method": "adagrad"}, "there is no method 'adagrad'"),
        ({"anomalies_per_batch": 128}, "below batch_size=128; got 128"),
        ({"scaling": "robust"}, "scaling must be"),
        ({"base": "adagrad"}, "there is no base optimizer 'adagrad'"),
        ({"objective_options": {"depth": 3}}, "blend has no option 'depth'"),
        ({"method_options": {"depth": 3}}, "imbsam has no option 'depth'"),
    ],
)
def test_an_option_that_nothing_has_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        fit(X, KINDS, quick(**options), seed=0)
