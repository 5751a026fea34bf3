"""What results, class priors and detectors show of themselves: short in text, well formed in HTML, with the numbers."""

import math
import xml.etree.ElementTree as ET

import numpy as np
import pytest
import torch

from imbsam import ClassPriors, metrics
from imbsam.anomaly import Settings, fit
from imbsam.anomaly.comparison import Plan
from imbsam.anomaly.comparison import Result as Comparison
from imbsam.anomaly.means import Difference, Mean
from imbsam.anomaly.threshold import Threshold
from imbsam.decisions import Wanted, prices
from imbsam.metrics.detection import evaluated
from imbsam.report import SharpnessStudy, summarise
from imbsam.sharpness import Ascended, Extremes, SpectralDensity, Trace
from made_records import made_metrics, made_result
from made_sharpness import made_sharpness

HOSTILE = "<b>&"
LOGITS = torch.tensor([[3.0, 0.0, 0.0], [0.0, 3.0, 0.0], [2.0, 1.0, 0.0], [0.0, 0.0, 3.0]])
MEASURED = metrics.classification(LOGITS, torch.tensor([0, 1, 1, 2]), ("many", "few", "few"))


def rows_of(html: str) -> dict[str, list[str]]:
    """Cells of each row by its heading."""
    rows = [["".join(cell.itertext()) for cell in row] for row in ET.fromstring(f"<div>{html}</div>").iter("tr")]
    return {first.replace("\u00a0", " "): [text.replace("\u00a0", " ") for text in rest] for first, *rest in rows}


def detector():
    rows = torch.from_numpy(np.random.default_rng(0).normal(size=(40, 3)))
    kinds = torch.tensor([1] * 4 + [0] * 36)
    return fit(rows, kinds, Settings("deep-sad", steps=2, members=2, contamination=0.25), seed=0)


def price():
    before = torch.eye(2).repeat(4, 1).double()
    return prices(before, before, torch.tensor([0, 1] * 4), [Wanted("recall", 1, HOSTILE, 0.9)])[0]


def comparison():
    plan = Plan(anomalies=4, others=40, folds=4, repeats=1)
    score = {"average_precision": Mean(0.5, 0.1), "auroc": Mean(0.9, 0.05)}
    difference = {name: Difference(0.0, 0.1, clear=False, needed=None) for name in score}
    return Comparison(
        plan, ("a", "b"), {"a": score, "b": score}, {"b": difference}, {"a": 1.0, "b": 2.0}, {"c": HOSTILE}
    )


def evaluation():
    scores = np.linspace(0, 1, 50)
    return evaluated(scores, scores > 0.7, 0.5)


SHOWN = {
    "priors": (lambda: ClassPriors.from_counts([500, 80, 7]), {"class 2": ["7", "1.2 %", "few-shot"]}),
    "metrics": (lambda: MEASURED, {"few-shot recall": ["75.0 %"], "class 1": ["50.0 %"]}),
    "threshold": (lambda: Threshold(1.5), {"anomaly from score": ["1.5"]}),
    "held out": (
        lambda: Threshold(1.5, 0.75, 0.125, 4, 40),
        {"anomalies found, on 4 held-out ones": ["75.0 %"], "false alarms, on 40 held-out other rows": ["12.5 %"]},
    ),
    "detector": (detector, {"objective": ["deep-sad"], "columns": ["3"], "members": ["2"]}),
    "price": (price, {"recall": ["100.0 %", "100.0 %", "40 to 100"]}),
    "comparison": (comparison, {"a": ["50.0 ± 10.0", "90.0 ± 5.0", "1.0 s"], "c": [*[f"failed: {HOSTILE}"] * 2, ""]}),
    "evaluation": (evaluation, {"recall at the threshold": ["100.0 %"], "false alarms there": ["28.6 %"]}),
    "eigenvalues": (
        lambda: Extremes(12.5, -0.25, 1e-3, 1e-4, 30, True, (torch.zeros(900), torch.zeros(900))),
        {"largest": ["12.5", "0.001"], "smallest": ["-0.25", "0.0001"]},
    ),
    "trace": (lambda: Trace(12.5, None), {"trace": ["12.5"], "standard error": ["–"]}),
    "ascent": (lambda: Ascended(0.25, 1.5, 3.0), {"rise of the loss": ["0.25"]}),
    "result": (
        lambda: made_result(HOSTILE, 3, test=made_metrics(0.8, few=0.25)),
        {"tail classes": ["1: b"], "few-shot recall": ["25.0 %"], "training samples": ["126 of 2 classes"]},
    ),
    "unscored": (lambda: made_result("sgd", 3), {"tail classes": ["1: b"]}),
    "summary": (
        lambda: summarise([made_result(label, 0, test=made_metrics(0.8, few=0.25)) for label in ("sgd", HOSTILE)]),
        {HOSTILE: ["80.0", "80.0", "80.0", "80.0", "25.0", "80.0", "80.0", "1"]},
    ),
}


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_shows_the_numbers_in_a_well_formed_table(name):
    make, expected = SHOWN[name]
    html = make()._repr_html_()
    assert HOSTILE not in html
    rows = rows_of(html)
    assert {heading: rows.get(heading) for heading in expected} == expected


@pytest.mark.parametrize("name", SHOWN)
def test_the_text_is_short(name):
    assert len(repr(SHOWN[name][0]())) < 600


def test_metrics_are_a_line_of_text():
    assert repr(MEASURED).replace("\u00a0", " ") == (
        "Metrics(4 samples: overall 75.0 %, balanced 83.3 %, many 100.0 %, few 75.0 %, macro_f1 77.8 %, "
        f"log_loss {MEASURED.log_loss:.4g})"
    )


def test_of_many_classes_the_lowest_recalls_are_shown():
    classes = torch.arange(60)
    logits = 9.0 * torch.eye(60)
    logits[40] = logits[0]
    html = metrics.classification(logits, classes, ["few"] * 60)._repr_html_()
    rows = [name for name in rows_of(html) if name.startswith("class ")]
    assert (len(rows), rows[0]) == (20, "class 40")


def test_of_many_classes_the_most_frequent_and_the_rarest_are_shown():
    rows = rows_of(ClassPriors.from_counts(range(1, 101))._repr_html_())
    assert len(rows) == 1 + 10 + 1 + 10
    assert rows["class 99"][0] == "100"
    assert rows["class 0"][0] == "1"
    assert rows["80 others"] == ["–"] * 3
    assert "class 50" not in rows


def test_the_density_of_eigenvalues_says_where_they_lie():
    density = SpectralDensity(torch.tensor([-0.5, 2.0, 12.5]), torch.ones(3) / 3)
    assert repr(density) == "SpectralDensity(3 nodes from -0.5 to 12.5)"


def test_a_sharpness_study_shows_its_groups():
    study = SharpnessStudy([made_sharpness("sgd", 0), made_sharpness("imbsam", 0)])
    assert repr(study) == "SharpnessStudy(2 runs: sgd, imbsam)"
    html = study._repr_html_()
    ET.fromstring(html)
    assert "imbsam" in html
    assert "tail" in html


def test_a_detector_says_what_it_is():
    text = repr(detector())
    assert text.startswith("Detector(deep-sad, 2 members, rows of shape (3,), threshold ")
    assert math.isfinite(float(text.rstrip(")").rpartition(" ")[2]))
