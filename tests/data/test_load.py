import json

import pandas as pd
import pytest
import torch

from imbsam.data import load, load_like, spec_of
from imbsam.errors import DataError, DataWarning, OptionError


def counts(samples, classes):
    return torch.bincount(samples.targets, minlength=classes).tolist()


@pytest.fixture
def rare_csv(tmp_path):
    """A CSV of 40 a, 3 b, 2 c and 1 d; a sample's feature is its row number."""
    path = tmp_path / "rare.csv"
    kinds = ["a"] * 40 + ["b"] * 3 + ["c"] * 2 + ["d"]
    pd.DataFrame({"x": range(1, 47), "kind": kinds}).to_csv(path, index=False)
    return str(path)


def test_digits_are_there_without_a_download():
    dataset = load("digits")
    assert dataset.classes == tuple("0123456789")
    assert (dataset.spec.channels, dataset.spec.height, dataset.spec.width) == (1, 8, 8)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.test) == 1797
    assert dataset.train.targets.dtype == torch.int64
    assert int(dataset.train.batch(torch.arange(len(dataset.train))).max()) == 255


def test_parts_have_no_sample_in_common_and_keep_the_proportions(rare_csv):
    dataset = load(rare_csv, target="kind", validation_fraction=0.25, test_fraction=0.25)
    names = [set(part.names) for part in (dataset.train, dataset.validation, dataset.test)]
    assert sum(map(len, names)) == 46 == len(set.union(*names))
    assert counts(dataset.test, 4) == [10, 1, 0, 0]
    assert counts(dataset.validation, 4) == [8, 0, 0, 0]
    assert counts(dataset.train, 4) == [22, 2, 2, 1]


def test_classes_too_small_to_split_are_named(rare_csv):
    notes = load(rare_csv, target="kind").notes
    assert any("the test part has none of them: 'c' (2), 'd' (1)" in note for note in notes)


def test_fractions_of_zero_hold_nothing_out(rare_csv):
    dataset = load(rare_csv, target="kind", validation_fraction=0, test_fraction=0)
    assert dataset.validation is None
    assert dataset.test is None
    assert len(dataset.train) == 46


def test_data_too_small_to_split_go_on_without_the_part(tmp_path):
    pd.DataFrame({"x": [1, 2, 3, 4], "kind": list("aabb")}).to_csv(tmp_path / "t.csv", index=False)
    dataset = load(str(tmp_path / "t.csv"), target="kind")
    assert dataset.test is None
    assert any("there is no test part" in note for note in dataset.notes)


def test_the_seed_decides_the_parts():
    first, again, other = (load("digits", seed=seed).test.names for seed in (3, 3, 4))
    assert first == again != other


def test_the_long_tail_is_made_of_the_training_part_alone():
    plain, tailed = load("digits"), load("digits", imbalance=20)
    assert plain.test.names == tailed.test.names
    assert plain.validation.names == tailed.validation.names
    assert set(tailed.train.names) < set(plain.train.names)
    kept = counts(tailed.train, 10)
    assert kept == sorted(kept, reverse=True)
    assert kept[0] / kept[-1] == pytest.approx(20, rel=0.2)
    assert any("exponential long tail" in note and "20 asked for" in note for note in tailed.notes)


def test_a_tail_that_would_be_empty_keeps_one_sample_and_says_so():
    dataset = load("digits", imbalance=10000, profile="step", rare="random")
    assert sorted(counts(dataset.train, 10))[:5] == [1] * 5
    assert any("No class goes below one sample" in note for note in dataset.notes)


def test_a_validation_part_alone_leaves_no_test_part(tmp_path):
    for part, count in (("train", 20), ("val", 6)):
        frame = pd.DataFrame({"x": range(count), "kind": ["a", "b"] * (count // 2)})
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    dataset = load(str(tmp_path), target="kind")
    assert (len(dataset.train), len(dataset.validation), dataset.test) == (20, 6, None)


@pytest.fixture
def with_validation(tmp_path):
    """Tables of 40 rows to train on and 6 for validation."""
    for part, count in (("train", 40), ("val", 6)):
        frame = pd.DataFrame({"x": range(count), "kind": ["a", "b"] * (count // 2)})
        frame.to_csv(tmp_path / f"{part}.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(("fraction", "held"), [(0.1, 4), (0.0, None)])
def test_a_validation_part_may_be_the_test_and_others_are_held_out(with_validation, fraction, held):
    dataset = load(str(with_validation), target="kind", validation_is_test=True, validation_fraction=fraction)
    assert len(dataset.test) == 6
    assert (None if dataset.validation is None else len(dataset.validation)) == held
    assert len(dataset.train) == 40 - (held or 0)
    assert "the source's validation part is the test part." in dataset.notes


def test_a_validation_part_is_no_test_where_there_is_one_or_where_it_is_missing(with_validation):
    with pytest.raises(OptionError, match="has no validation part"):
        load("digits", validation_is_test=True)
    (with_validation / "test.csv").write_bytes((with_validation / "val.csv").read_bytes())
    with pytest.raises(OptionError, match="has its own test part"):
        load(str(with_validation), target="kind", validation_is_test=True)


def test_preprocess_goes_through_json_and_back():
    dataset = load("digits")
    through = json.loads(json.dumps(dataset.preprocess))
    assert spec_of(through) == dataset.spec
    assert through["classes"] == list(dataset.classes)


def test_of_the_digits_further_data_are_those_held_out():
    dataset = load("digits", seed=5, imbalance=10)
    samples, labelled = load_like("digits", dataset.preprocess)
    assert labelled
    assert samples.names == dataset.test.names


def test_reading_the_training_data_again_is_warned_of(rare_csv):
    dataset = load(rare_csv, target="kind")
    with pytest.warns(DataWarning, match="trained on"):
        samples, _ = load_like(rare_csv, dataset.preprocess)
    assert len(samples) == 46


def test_images_are_not_read_as_a_table(rare_csv, class_folders):
    with pytest.raises(DataError, match="trained on images"):
        load_like(rare_csv, load("digits").preprocess)
    with pytest.raises(DataError, match="trained on a table"):
        load_like(str(class_folders), load(rare_csv, target="kind").preprocess)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"imbalance": 0.5}, "imbalance"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"test_fraction": -0.1}, "test_fraction"),
        ({"image_size": 0}, "image_size"),
        ({"ignore": ["x"]}, "ignore"),
        ({"target": "label"}, "target"),
    ],
)
def test_an_option_that_does_not_fit_is_named(options, named):
    with pytest.raises(OptionError, match=named):
        load("digits", **options)


@pytest.mark.parametrize("options", [{"image_size": 32}, {"fit": "pad"}])
def test_a_table_has_no_options_of_images(rare_csv, options):
    with pytest.raises(OptionError, match=next(iter(options))):
        load(rare_csv, target="kind", **options)


def test_a_class_that_training_lacks_is_named(tmp_path):
    for part, kinds in (("train", "abab"), ("test", "abcd")):
        pd.DataFrame({"x": range(4), "kind": list(kinds)}).to_csv(tmp_path / f"{part}.csv", index=False)
    with pytest.raises(DataError, match="the test part has samples of 'c', 'd'"):
        load(str(tmp_path), target="kind")


def test_one_class_alone_is_refused(tmp_path):
    pd.DataFrame({"x": range(4), "kind": ["a"] * 4}).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataError, match=r"only one class \(a\)"):
        load(str(tmp_path / "t.csv"), target="kind")


SHAPES = {
    "shuffled": lambda frame: frame.iloc[::-1],
    "one class": lambda frame: frame[frame["kind"] == "01"],
    "digits alone": lambda frame: frame[frame["code"].isin(["007", "012"])],
    "no fraction": lambda frame: frame[frame["size"] % 1 == 0],
    "one row": lambda frame: frame.head(1),
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_row_means_the_same_in_every_later_file(tmp_path, shape, ending):
    frame = pd.DataFrame(
        {
            "size": [0.5 * place for place in range(24)],
            "code": ["007", "012", "A7"] * 8,
            "day": [f"2024-01-{place + 1:02}" for place in range(24)],
            "kind": ["01", "1", "007", "1"] * 6,
        }
    )
    frame.to_csv(tmp_path / "t.csv", index=False)
    dataset = load(str(tmp_path / "t.csv"), target="kind", validation_fraction=0, test_fraction=0)
    assert set(dataset.classes) == {"007", "01", "1"}
    later = SHAPES[shape](frame)
    path = tmp_path / f"later.{ending}"
    later.to_csv(path, index=False) if ending == "csv" else later.reset_index(drop=True).to_parquet(path)
    samples, labelled = load_like(str(path), json.loads(json.dumps(dataset.preprocess)))
    places = torch.from_numpy(later.index.to_numpy().copy())
    assert labelled
    assert torch.equal(samples.batch(torch.arange(len(later))), dataset.train.batch(places))
    assert torch.equal(samples.targets, dataset.train.targets[places])
