"""What the classifier takes as X: arrays, frames, categories, dates, missing values; and what it refuses."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from scipy.sparse import csr_array

from imbsam import SharpClassifier
from imbsam.errors import DataError, DataWarning, OptionError


def quick(**parameters):
    return SharpClassifier(**{"max_iter": 2, "hidden": (8,), "random_state": 0} | parameters)


def spec_of(classifier):
    """Numeric features that the network sees, and codes of each category."""
    inputs = classifier.model_.inputs
    return inputs.numeric, [embedding.num_embeddings for embedding in inputs.embeddings]


def test_the_columns_of_a_frame_are_read_by_their_types(frame):
    X, y = frame
    classifier = quick().fit(X, y)
    # Numbers: width, made, code, and the mark of a missing width. Categories: their values and the unseen one.
    assert spec_of(classifier) == (4, [4, 3])
    assert classifier.feature_names_in_.tolist() == ["width", "colour", "made", "grade", "code"]
    assert classifier.predict_proba(X).shape == (len(X), 3)


@pytest.mark.parametrize("chosen", [["colour", "grade", "code"], [1, 3, 4], [False, True, False, True, True]])
def test_categories_are_chosen_by_name_by_position_or_by_mask(frame, chosen):
    X, y = frame
    assert spec_of(quick(categorical_features=chosen).fit(X, y)) == (3, [4, 3, 4])


def test_a_category_decides_where_only_it_tells_the_classes_apart():
    y = np.repeat(["a", "b", "c"], [60, 30, 10])
    X = pd.DataFrame({"kind": np.repeat(["x", "y", "z"], [60, 30, 10])})
    assert quick(max_iter=30).fit(X, y).score(X, y) == 1.0


def test_an_array_may_have_categories_among_its_columns(rows):
    X, y = rows
    X = np.column_stack([X, np.arange(len(y)) % 5])
    numbers = quick(categorical_features=[4]).fit(X, y)
    assert spec_of(numbers) == (4, [6])
    texts = X.astype(object)
    texts[:, 4] = [f"kind {value:g}" for value in X[:, 4]]
    words = quick(categorical_features=[4]).fit(texts, y)
    assert spec_of(words) == (4, [6])
    np.testing.assert_array_equal(words.predict_proba(texts), numbers.predict_proba(X))


def test_frames_of_other_libraries_are_taken(frame):
    X, y = frame
    table = pa.Table.from_pandas(X, preserve_index=False)
    classifier = quick().fit(table, y)
    np.testing.assert_array_equal(classifier.predict_proba(table), quick().fit(X, y).predict_proba(X))


def test_lists_are_taken_as_arrays(rows):
    X, y = rows
    as_lists = quick().fit(X.tolist(), y.tolist()).predict_proba(X.tolist())
    np.testing.assert_array_equal(as_lists, quick().fit(X, y).predict_proba(X))


def test_a_unit_or_an_origin_of_a_column_changes_nothing(rows):
    X, y = rows
    moved = X * [1e6, 1e-6, 1, 2] + [0, 5, -3e3, 0]
    here, there = (quick(max_iter=5).fit(data, y).predict_proba(data) for data in (X, moved))
    np.testing.assert_allclose(here, there, atol=1e-4)


def test_missing_numbers_are_filled_and_marked(rows):
    X, y = rows
    X[y == "rare", 1] = np.nan
    classifier = quick(max_iter=100).fit(X, y)
    assert spec_of(classifier)[0] == 5
    # The mark alone tells the rare class.
    np.testing.assert_array_equal(classifier.predict(X) == "rare", y == "rare")


def test_a_number_that_is_missing_only_later_is_the_median(rows):
    X, y = rows
    classifier = quick().fit(X, y)
    missing, median = X.copy(), X.copy()
    missing[:, 2], median[:, 2] = np.nan, np.median(X[:, 2])
    np.testing.assert_array_equal(classifier.predict_proba(missing), classifier.predict_proba(median))


def test_values_that_training_did_not_have_share_a_code(frame):
    X, y = frame
    classifier = quick().fit(X, y)
    new, missing = X.assign(colour="pink"), X.assign(colour=None)
    np.testing.assert_array_equal(classifier.predict_proba(new), classifier.predict_proba(missing))


def test_a_constant_column_is_zero_to_the_network(rows):
    X, y = rows
    X = np.column_stack([X, np.full(len(y), 0.1)])
    classifier = quick().fit(X, y)
    before = classifier.predict_proba(X)
    with torch.no_grad():
        classifier.model_.hidden[0].weight[:, 4] += 100
    np.testing.assert_array_equal(classifier.predict_proba(X), before)


def test_empty_columns_are_left_out_with_a_warning(rows):
    X, y = rows
    X[:, 3] = np.nan
    with pytest.warns(DataWarning, match=r"columns without any value .*\['3'\]"):
        classifier = quick().fit(X, y)
    assert spec_of(classifier) == (3, [])
    assert classifier.n_features_in_ == 4
    assert classifier.predict(X).shape == y.shape


def test_rows_without_any_value_are_refused(rows):
    X, y = rows
    with pytest.warns(DataWarning), pytest.raises(DataError, match="every column of X is empty"):
        quick().fit(np.full_like(X, np.nan), y)


@pytest.mark.parametrize("chosen", ["auto", [0]])
def test_sparse_rows_are_refused(rows, chosen):
    X, y = rows
    with pytest.raises(TypeError, match="Sparse data was passed"):
        quick(categorical_features=chosen).fit(csr_array(X), y)


def test_infinite_values_are_refused(rows, frame):
    X, y = rows
    X[3, 1] = np.inf
    with pytest.raises(ValueError, match="Input X contains infinity"):
        quick().fit(X, y)
    X, y = frame
    X.loc[7, "width"] = np.inf
    with pytest.raises(DataError, match="row 7: column 'width' is infinite"):
        quick().fit(X, y)


def test_other_columns_are_refused_at_predict(rows, frame):
    X, y = rows
    with pytest.raises(ValueError, match="X has 3 features, but SharpClassifier is expecting 4"):
        quick().fit(X, y).predict(X[:, :3])
    X, y = frame
    classifier = quick().fit(X, y)
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(X.rename(columns={"width": "breadth"}))
    with pytest.raises(ValueError, match="same order"):
        classifier.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.predict(X.drop(columns="colour"))


def test_texts_in_a_numeric_column_are_refused(frame):
    X, y = frame
    with pytest.raises(DataError, match="row 0: column 'colour' holds 'red', which is not a number"):
        quick(categorical_features=["grade"]).fit(X.assign(colour="red"), y)
    with pytest.raises(ValueError, match="could not convert string to float"):
        quick().fit([["a", 1.0], ["b", 2.0]], [0, 1])


@pytest.mark.parametrize("chosen", [["colour", "size"], [9], [-1], [True, False]])
def test_categories_that_are_no_columns_are_refused(frame, chosen):
    with pytest.raises(OptionError, match="categorical_features"):
        quick(categorical_features=chosen).fit(*frame)


def test_cells_that_are_no_feature_are_refused(frame):
    X, y = frame
    with pytest.raises(DataError, match="column 'colour' holds list values"):
        quick().fit(X.assign(colour=[[1]] * len(X)), y)


def test_columns_of_one_name_are_refused(frame):
    X, y = frame
    with pytest.raises(DataError, match=r"several columns of X are called \['width'\]"):
        quick().fit(X.rename(columns={"colour": "width"}), y)


def test_a_frame_without_rows_is_refused(frame):
    X, y = frame
    classifier = quick().fit(X, y)
    with pytest.raises(ValueError, match="0 sample"):
        classifier.predict(X[:0])
    with pytest.raises(ValueError, match="0 sample"):
        classifier.fit(X[:0], y[:0])


def test_labels_must_be_as_many_as_the_rows(frame):
    X, y = frame
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        quick().fit(X, y[:-1])


def test_missing_labels_are_refused(frame):
    X, y = frame
    with pytest.raises(ValueError, match="y contains NaN"):
        quick().fit(X, np.where(y == "rare", np.nan, 1.0))
    with pytest.raises(ValueError, match="requires y to be passed"):
        quick().fit(X, None)


LATER = {
    "texts of numbers": {
        "width": lambda column: column.map(str, na_action="ignore"),
        "code": lambda column: column.astype(str),
    },
    "floats of whole numbers": {"code": lambda column: column.astype(float)},
    "texts of dates": {"made": lambda column: column.dt.strftime("%Y-%m-%dT%H:%M:%S")},
    "another unit": {"made": lambda column: column.astype("datetime64[s]")},
    "categories": {"colour": lambda column: column.astype("category"), "grade": lambda column: column.astype(object)},
}


@pytest.mark.parametrize("case", LATER)
def test_a_later_frame_of_other_types_means_the_same(frame, case):
    X, y = frame
    classifier = quick().fit(X, y)
    later = X.assign(**{name: change(X[name]) for name, change in LATER[case].items()})
    np.testing.assert_array_equal(classifier.predict_proba(later), classifier.predict_proba(X))


@pytest.mark.parametrize("place", [0, 5])
def test_a_row_alone_means_the_same_as_among_others(frame, place):
    X, y = frame
    classifier = quick().fit(X, y)
    together = classifier.predict_proba(X)[place : place + 1]
    np.testing.assert_allclose(classifier.predict_proba(X.iloc[place : place + 1]), together, atol=1e-6)


def test_cells_that_cannot_be_read_are_counted_in_a_warning(frame):
    X, y = frame
    classifier = quick().fit(X, y)
    later = X.assign(code=["soon", *X["code"].astype(str)[1:]])
    with pytest.warns(DataWarning, match="column 'code': 1 value is not a number, first 'soon' in row 0"):
        classifier.predict(later)


@pytest.mark.parametrize("dates", [20240105, 1.7e9, "20240105"])
def test_dates_that_come_as_numbers_are_refused(frame, dates):
    X, y = frame
    with pytest.raises(DataError, match="column 'made'"):
        quick().fit(X, y).predict(X.assign(made=dates))
