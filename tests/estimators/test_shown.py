"""What estimators show in a notebook: scikit-learn's diagram and, once fitted, what came of the fit."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from sklearn import config_context

from imbsam import BlendClassifier, SharpClassifier
from imbsam.anomaly import AnomalyDetector


def fitted_rows(estimator) -> dict[str, list[str]]:
    """Cells of our tables, which stand below the diagram, by the heading of their row."""
    html = estimator._repr_html_()
    _, found, tables = html.partition("<table style=")
    assert found
    tree = ET.fromstring(f"<div>{found}{tables}</div>")
    rows = [["".join(cell.itertext()).replace("\u00a0", " ") for cell in row] for row in tree.iter("tr")]
    return {first: rest for first, *rest in rows}


@pytest.mark.parametrize("make", [SharpClassifier, BlendClassifier, AnomalyDetector])
def test_before_the_fit_there_is_the_diagram_alone(make):
    html = make(random_state=3)._repr_html_()
    assert "sk-estimator" in html
    assert "random_state" in html
    assert "<caption" not in html


def test_a_network_shows_its_layers_tail_and_epochs(rows):
    shown = fitted_rows(SharpClassifier(max_iter=3, hidden=(8, 6), random_state=0).fit(*rows))
    assert shown["classes"] == ["3: common, rare, rarer"]
    assert shown["training rows"] == ["126, imbalance factor 15"]
    assert shown["tail classes"] == ["rare"]
    assert shown["network"] == [f"4 → 8 → 6 → 3 units, {4 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3} weights"]
    assert shown["training"][0].startswith("imbsam, 3 epochs, last loss ")
    assert shown["decisions"] == ["as if all classes were equally frequent"]
    assert "weights of epoch" not in shown


def test_a_network_that_reads_categories_shows_the_layers_that_follow_them(frame):
    classifier = SharpClassifier(max_iter=2, hidden=(8,), random_state=0).fit(*frame)
    widths, _, weights = fitted_rows(classifier)["network"][0].partition(" units, ")
    first = classifier.model_.inputs.out_features
    assert widths == f"{first} → 8 → 3"
    assert weights == f"{sum(p.numel() for p in classifier.model_.parameters())} weights"


def test_early_stopping_and_a_wanted_recall_are_shown(rows):
    classifier = SharpClassifier(
        max_iter=4, early_stopping=True, at_least={"recall": {"rarer": 0.9}}, random_state=0
    ).fit(*rows)
    shown = fitted_rows(classifier)
    assert shown["weights of epoch"] == [str(classifier.best_iter_)]
    score = classifier.best_validation_score_
    assert shown["balanced accuracy, held-out rows"] == [f"{100 * score:.1f} %"]
    (price,) = classifier.prices_
    assert shown["recall"][1] == f"{100 * price.recall.hits / price.recall.rows:.1f} %"
    assert shown["decisions"][0].endswith("with thresholds found on held-out rows")


@pytest.mark.parametrize(
    ("how", "told", "decided"),
    [
        ({"class_prior": "balanced"}, "under the balanced class frequencies", "under the balanced class frequencies"),
        ({"class_prior": [1, 1, 2]}, "under the given class frequencies", "under the given class frequencies"),
        ({"cost": {"rare": 9.0}}, "under the training class frequencies", "by least expected cost"),
    ],
)
def test_what_was_decided_after_the_fit_is_shown(rows, how, told, decided):
    shown = fitted_rows(SharpClassifier(max_iter=1, random_state=0).fit(*rows).decide(**how))
    assert (shown["probabilities"], shown["decisions"]) == ([told], [decided])


def test_a_blend_shows_its_members_with_weight_and_score(rows):
    blend = BlendClassifier(("forest", "logistic"), folds=2, random_state=0).fit(*rows)
    shown = fitted_rows(blend)
    assert shown["members"] == ["forest, logistic"]
    for name in blend.members_:
        assert shown[name] == [f"{100 * share[name]:.1f} %" for share in (blend.weights_, blend.scores_)]
    assert shown["blend"] == ["–", f"{100 * blend.scores_['blend']:.1f} %"]


def test_labels_are_escaped_and_many_are_cut(rows):
    X, _ = rows
    labels = np.array([f"<b>{number % 12:02}" for number in range(len(X))])
    classifier = SharpClassifier(max_iter=1, random_state=0).fit(X, labels)
    html = classifier._repr_html_().partition("<table style=")[2]
    assert "<b>" not in html
    assert fitted_rows(classifier)["classes"][0].endswith("<b>09, ...")


def test_a_detector_shows_what_to_expect_of_its_threshold(rows):
    X, y = rows
    detector = AnomalyDetector("deep-sad", steps=2, random_state=0).fit(X, (y == "rare").astype(int))
    shown = fitted_rows(detector)
    assert shown["objective"] == ["deep-sad"]
    assert shown["columns"] == ["4"]
    threshold = detector.detector_.threshold
    assert shown[f"anomalies found, on {threshold.anomalies} held-out ones"] == [f"{100 * detector.recall_:.1f} %"]


def test_text_is_asked_for_as_of_any_estimator(rows):
    with config_context(display="text"):
        assert not hasattr(SharpClassifier(), "_repr_html_")
    assert repr(SharpClassifier(max_iter=1).fit(*rows)) == "SharpClassifier(max_iter=1)"
