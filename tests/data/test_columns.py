import datetime
import json
import statistics

import numpy as np
import pandas as pd
import pytest
import torch

from imbsam.data import load, load_like, spec_of
from imbsam.errors import DataError, DataWarning
from imbsam.inputs import TableSpec

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


@pytest.fixture
def table(tmp_path):
    """A function that writes a table of columns, twelve rows of two classes, and gives its path."""

    def write(file="table.csv", /, **columns):
        frame = pd.DataFrame({"size": np.arange(12.0), "kind": ["a", "b"] * 6} | columns)
        path = tmp_path / file
        if file.endswith(".parquet"):
            frame.to_parquet(path)
        else:
            frame.to_csv(path, index=False)
        return str(path)

    return write


def features(samples):
    return samples.batch(torch.arange(len(samples)))


def test_numbers_are_standardised_by_the_training_rows_alone(table):
    dataset = load(table(size=[1.0, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048]), target="kind")
    train = [2.0 ** (int(name) - 1) for name in dataset.train.names]
    mean, deviation = statistics.fmean(train), statistics.pstdev(train)
    for part in (dataset.train, dataset.validation, dataset.test):
        written_out = [(2.0 ** (int(name) - 1) - mean) / deviation for name in part.names]
        assert features(part)[:, 0].tolist() == pytest.approx(written_out, rel=1e-5)


def test_missing_numbers_are_filled_by_the_median_and_marked(table):
    sizes = [1.0, None, 3, 4, 5, None, 7, 8, 9, 10, 11, 40]
    dataset = load(table(size=sizes), target="kind", **WHOLE)
    known = [size for size in sizes if size is not None]
    median = statistics.median(known)
    filled = [median if size is None else size for size in sizes]
    mean, deviation = statistics.fmean(filled), statistics.pstdev(filled)
    assert dataset.spec.numeric == 2
    assert features(dataset.train)[:, 0].tolist() == pytest.approx([(x - mean) / deviation for x in filled], abs=1e-5)
    assert features(dataset.train)[:, 1].tolist() == [float(size is None) for size in sizes]
    assert any("'size' is missing in 2 of 12" in note and "median 7.5" in note for note in dataset.notes)


def test_texts_truth_values_and_categories_become_codes(table):
    colours = ["red", "blue", "green", "red"] * 3
    path = table("t.parquet", colour=colours, flag=[True, False] * 6, level=pd.Categorical(["z", "x", "y"] * 4))
    dataset = load(path, target="kind", **WHOLE)
    assert dataset.spec.cardinalities == (4, 3, 4)
    codes = features(dataset.train)[:, 1:].int()
    assert codes[:4, 0].tolist() == [3, 1, 2, 3]
    assert codes[:4, 1].tolist() == [2, 1, 2, 1]
    assert codes[:4, 2].tolist() == [3, 1, 2, 3]


def test_missing_categories_have_a_code_of_their_own(table):
    dataset = load(table(colour=["red", None, "blue"] * 4), target="kind", **WHOLE)
    assert dataset.spec.cardinalities == (4,)
    assert features(dataset.train)[:3, 1].tolist() == [2, 3, 1]
    assert any("'colour' is missing in 4 of 12" in note for note in dataset.notes)


def test_dates_become_days(table):
    days = [datetime.date(2024, 1, 1) + datetime.timedelta(days=i**2) for i in range(12)]
    for column in (days, pd.to_datetime(days), pd.to_datetime(days).tz_localize("Europe/Berlin")):
        dataset = load(table("t.parquet", day=column), target="kind", ignore=["size"], **WHOLE)
        squares = [float(i**2) for i in range(12)]
        mean, deviation = statistics.fmean(squares), statistics.pstdev(squares)
        written_out = [(x - mean) / deviation for x in squares]
        assert features(dataset.train)[:, 0].tolist() == pytest.approx(written_out, abs=1e-3)


def test_a_later_csv_may_write_the_dates_of_a_parquet_as_text(table):
    days = pd.date_range("2024-01-01", periods=12)
    dataset = load(table("t.parquet", day=days), target="kind", **WHOLE)
    samples, _ = load_like(table("later.csv", day=days), dataset.preprocess)
    assert torch.equal(features(samples), features(dataset.train))


def test_huge_numbers_stay_finite(table):
    dataset = load(table(size=[1e300 * i for i in range(12)]), target="kind", **WHOLE)
    assert float(features(dataset.train).abs().max()) < 3


def test_ignored_columns_are_left_out(table):
    dataset = load(table(row_id=range(12)), target="kind", ignore=["row_id"])
    assert dataset.spec.numeric == 1
    assert any("row_id" in note for note in dataset.notes)


def test_a_text_column_that_names_its_rows_is_pointed_out(table):
    names = [f"row {i}" for i in range(200)]
    path = table(size=range(200), kind=["a", "b"] * 100, name=names)
    assert any("--ignore name" in note for note in load(path, target="kind").notes)


def test_a_saved_row_number_is_pointed_out(table):
    notes = load(table(**{"Unnamed: 0": range(12)}), target="kind").notes
    assert any("--ignore 'Unnamed: 0'" in note for note in notes)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"same": 1.0}, r"same in every row: same.*--ignore same"),
        ({"same word": "x"}, r"--ignore 'same word'"),
        ({"empty": np.nan}, r"empty in every row: empty.*--ignore empty"),
        ({"size": [1.0, 2, np.inf, *range(9)]}, r"row 3: column 'size' is infinite"),
        ({"size": [1.0, 2, 3, -np.inf, *range(8)]}, r"row 4: column 'size' is infinite"),
    ],
)
def test_a_column_that_cannot_be_used_is_named(table, columns, message):
    with pytest.raises(DataError, match=message):
        load(table(**columns), target="kind")


def test_infinity_is_found_in_the_held_out_rows_too(table, tmp_path):
    table("train.csv")
    table("test.csv", size=[*range(11), np.inf])
    with pytest.raises(DataError, match=r"test\.csv row 12: column 'size'|row 12: column 'size'"):
        load(str(tmp_path), target="kind")


def test_a_column_of_lists_is_named(table):
    with pytest.raises(DataError, match=r"column 'many' holds list values.*--ignore many"):
        load(table("t.parquet", many=[[i, i] for i in range(12)]), target="kind")


def test_an_unknown_column_to_ignore_is_named(table):
    with pytest.raises(DataError, match=r"--ignore names colour.*size"):
        load(table(), target="kind", ignore=["colour"])


def test_a_table_without_features_is_refused(table):
    with pytest.raises(DataError, match="no feature column"):
        load(table(), target="kind", ignore=["size"])


def test_further_rows_are_read_by_the_numbers_of_training(table):
    colours = ["red", None, "blue"] * 4
    dataset = load(table(size=[1.0, None, *range(10)], colour=colours), target="kind", **WHOLE)
    preprocess = json.loads(json.dumps(dataset.preprocess))
    path = table("later.csv", size=[1.0, None, *range(10)], colour=colours)
    samples, labelled = load_like(path, preprocess)
    assert labelled
    assert torch.equal(features(samples), features(dataset.train))
    assert torch.equal(samples.targets, dataset.train.targets)
    assert spec_of(preprocess) == dataset.spec


def test_unseen_categories_and_missing_values_in_further_rows_are_told(table):
    dataset = load(table(colour=["red", "blue"] * 6), target="kind", **WHOLE)
    path = table("later.csv", colour=["red", "pink"] * 6, size=[None, *range(11)])
    with pytest.warns(DataWarning) as told:
        samples, _ = load_like(path, dataset.preprocess)
    assert features(samples)[:2, 1].tolist() == [2, 0]
    assert float(features(samples)[0, 0]) == pytest.approx(0, abs=1e-6)
    assert any("'colour': 6 values" in str(warning.message) for warning in told)
    assert any("'size': 1 missing" in str(warning.message) for warning in told)


@pytest.mark.parametrize("columns", [{}, {"kind": [None, None]}])
def test_further_rows_without_the_target_are_unlabelled(table, tmp_path, columns):
    dataset = load(table(), target="kind", **WHOLE)
    pd.DataFrame({"size": [1.0, 2.0]} | columns).to_csv(tmp_path / "later.csv", index=False)
    samples, labelled = load_like(str(tmp_path / "later.csv"), dataset.preprocess)
    assert not labelled
    assert samples.targets.tolist() == [-1, -1]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"size": "two"}, r"row 1: column 'size' holds 'two', which is not a number, and none of its 12"),
        ({"size": [1e60, *range(11)]}, r"row 1: column 'size' holds 1e\+60"),
        ({"kind": ["a", "c"] * 6}, r"'c' is not among the classes of training: a, b"),
    ],
)
def test_a_further_row_that_does_not_fit_is_named(table, columns, message):
    dataset = load(table(), target="kind", **WHOLE)
    with pytest.raises(DataError, match=message):
        load_like(table("later.csv", **columns), dataset.preprocess)


def test_cells_that_cannot_be_read_are_counted_and_missing(table):
    dataset = load(table(), target="kind", **WHOLE)
    later = table("later.csv", size=["1", "two", "three", *"456789012"])
    with pytest.warns(DataWarning) as warned:
        samples, _ = load_like(later, dataset.preprocess)
    said = "\n".join(str(warning.message) for warning in warned)
    assert "column 'size': 2 values are not a number, first 'two' in row 2; read as missing" in said
    assert features(samples)[1, 0] == features(samples)[2, 0]


def test_a_missing_column_of_further_rows_is_named(table, tmp_path):
    dataset = load(table(), target="kind", **WHOLE)
    pd.DataFrame({"weight": [1.0, 2.0]}).to_csv(tmp_path / "later.csv", index=False)
    with pytest.raises(DataError, match="lacks columns of the training data: size"):
        load_like(str(tmp_path / "later.csv"), dataset.preprocess)


def test_an_additional_column_of_further_rows_is_ignored_and_told(table):
    dataset = load(table(), target="kind", **WHOLE)
    with pytest.warns(DataWarning, match="ignored: weight"):
        load_like(table("later.csv", weight=range(12)), dataset.preprocess)


def test_text_dates_of_a_csv_become_days(tmp_path):
    path = tmp_path / "visits.csv"
    days = pd.date_range("2024-01-01", periods=60).strftime("%Y-%m-%d").tolist()
    days[7] = ""
    pd.DataFrame({"day": days, "size": range(60), "kind": ["a", "b"] * 30}).to_csv(path, index=False)
    dataset = load(str(path), target="kind", validation_fraction=0, test_fraction=0)
    assert dataset.spec == TableSpec(3, ())  # size, day, and where the day is missing
    assert any("holds dates" in note for note in dataset.notes)
    names = [column["name"] for column in dataset.preprocess["numeric"]]
    column = dataset.train.batch(torch.arange(60))[:, names.index("day")].double()
    gaps = column[20:].diff()
    assert torch.allclose(gaps, gaps[0].expand_as(gaps), atol=1e-6)


def test_a_text_column_with_one_impossible_date_stays_text(tmp_path):
    path = tmp_path / "visits.csv"
    days = ["2024-01-01", "2024-02-30"] * 30
    pd.DataFrame({"day": days, "size": range(60), "kind": ["a", "b", "b"] * 20}).to_csv(path, index=False)
    dataset = load(str(path), target="kind", validation_fraction=0, test_fraction=0)
    assert dataset.spec == TableSpec(1, (3,))


def test_dates_of_any_century_are_read(tmp_path):
    days = ["0024-12-28", "1500-06-01", "2024-05-01", "9999-12-31"] * 5
    pd.DataFrame({"made": days, "kind": ["a", "b"] * 10}).to_csv(tmp_path / "old.csv", index=False)
    column = load(str(tmp_path / "old.csv"), target="kind", validation_fraction=0, test_fraction=0).train.values[:, 0]
    numbers = np.array([datetime.date.fromisoformat(day).toordinal() for day in days], dtype=np.float64)
    np.testing.assert_allclose(column, (numbers - numbers.mean()) / numbers.std(), rtol=1e-6)


@pytest.mark.parametrize("count", [1, 2])
def test_what_training_did_not_have_is_counted_in_good_english(table, count):
    dataset = load(table(colour=["red", "blue"] * 6), target="kind", **WHOLE)
    path = table(
        "later.csv", colour=["pink"] * count + ["red"] * (12 - count), size=[None] * count + [1] * (12 - count)
    )
    with pytest.warns(DataWarning) as told:
        load_like(path, dataset.preprocess)
    said = "\n".join(str(warning.message) for warning in told)
    filled, unseen = [("1 missing value was", "1 value does"), ("2 missing values were", "2 values do")][count - 1]
    assert f"column 'size': {filled} filled by the median; training had none." in said
    assert f"column 'colour': {unseen} not occur in training; all such values share one code." in said


def words_of(path, words):
    """A table of a column of words, four rows of each of 12 numbers."""
    pd.DataFrame({"word": words, "size": np.arange(len(words)) % 12, "kind": ["a", "b"] * (len(words) // 2)}).to_csv(
        path, index=False
    )
    return str(path)


def test_the_most_frequent_texts_are_told_apart_whatever_the_order_of_rows(tmp_path):
    often = [f"w{place}" for place in range(998)] * 4
    rare = [f"r{place}" for place in range(10)]
    words = [*often, *rare]
    dataset = load(words_of(tmp_path / "t.csv", words), target="kind", **WHOLE)
    assert dataset.spec.cardinalities == (1001,)
    assert any("'word' has more than 1000 different texts; the 1000 most" in note for note in dataset.notes)
    codes = dict(zip(words, features(dataset.train)[:, 1].tolist(), strict=True))
    assert [word for word in rare if codes[word]] == ["r0", "r1"]
    assert len({codes[word] for word in often}) == 998
    mixed = np.random.default_rng(0).permutation(words)
    again = load(words_of(tmp_path / "m.csv", mixed), target="kind", **WHOLE)
    assert again.preprocess["categorical"] == dataset.preprocess["categorical"]


@pytest.mark.parametrize("count", [1002, 30_000])
def test_a_column_of_different_words_is_refused(tmp_path, count):
    path = words_of(tmp_path / "t.csv", [f"row {place}" for place in range(count)])
    with pytest.raises(DataError, match=rf"'word' has {count} different texts in {count} .*--ignore word"):
        load(path, target="kind", **WHOLE)
    assert load(path, target="kind", ignore=["word"], **WHOLE).spec.cardinalities == ()


@pytest.mark.parametrize(
    "written", [["TRUE", "FALSE"], ["True", "False"], ["true", "false"], ["1", "0"], ["1.0", "0.0"], [True, False]]
)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_true_and_false_are_one_however_a_file_writes_them(table, ending, written):
    flags = [True, False, False, True] * 3
    dataset = load(table(f"t.{ending}", flag=flags), target="kind", **WHOLE)
    later = [written[0] if flag else written[1] for flag in flags]
    samples, _ = load_like(table(f"later.{ending}", flag=later), dataset.preprocess)
    assert torch.equal(features(samples), features(dataset.train))


def test_a_column_of_0_and_1_takes_true_and_false_later(table):
    dataset = load(table(flag=[1, 0, 0, 1] * 3), target="kind", **WHOLE)
    samples, _ = load_like(table("later.csv", flag=["TRUE", "no", "false", "yes"] * 3), dataset.preprocess)
    assert torch.equal(features(samples), features(dataset.train))


@pytest.mark.parametrize("later", [["001"] * 12, ["001", "1"] * 6, ["2", "001"] * 6])
def test_a_code_is_the_same_whatever_stands_beside_it(table, later):
    dataset = load(table(code=["001", "002"] * 6), target="kind", ignore=["size"], **WHOLE)
    code = {"001": 1.0, "1": 0.0, "2": 0.0}
    path = table("later.csv", code=later)
    if len(set(later)) > 1:
        with pytest.warns(DataWarning, match="'code'"):
            samples, _ = load_like(path, dataset.preprocess)
    else:
        samples, _ = load_like(path, dataset.preprocess)
    assert features(samples)[:, 0].tolist() == [code[word] for word in later]


def test_a_run_that_did_not_store_what_its_columns_are_is_told(table):
    dataset = load(table(), target="kind", **WHOLE)
    before = {name: value for name, value in dataset.preprocess.items() if name != "schema"}
    with pytest.raises(DataError, match="another version of imbsam wrote this"):
        load_like(table("later.csv"), before)
