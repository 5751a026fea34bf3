"""What each anomaly adds to the areas: the means are scikit-learn's areas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from imbsam.metrics.each import area_of_each, precision_at_each

# Few values, so that ties are many.
RANKED = st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({anomalous for _, anomalous in rows}) == 2
)


@given(RANKED)
def test_their_means_are_average_precision_and_the_area_under_the_roc_curve(rows):
    scores, anomalous = np.array([row[0] for row in rows], dtype=float), np.array([row[1] for row in rows])
    assert precision_at_each(scores, anomalous).mean() == pytest.approx(average_precision_score(anomalous, scores))
    assert area_of_each(scores, anomalous).mean() == pytest.approx(roc_auc_score(anomalous, scores))


def test_they_are_in_the_anomalies_order():
    scores, anomalous = np.array([1.0, 9.0, 5.0, 3.0]), np.array([True, False, True, False])
    assert precision_at_each(scores, anomalous).tolist() == [0.5, 0.5]
    assert area_of_each(scores, anomalous).tolist() == [0.0, 0.5]
