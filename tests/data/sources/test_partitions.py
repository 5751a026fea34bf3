"""Tables in folders that are named column=value."""

import pandas as pd
import pytest
import torch

from imbsam.anomaly.sources import read_further, read_training
from imbsam.anomaly.words import LabelWords
from imbsam.data import load, load_like
from imbsam.data.sources import open_tables
from imbsam.data.sources.raw import NOTHING_ASKED
from imbsam.errors import DataError

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


@pytest.fixture
def divided(tmp_path):
    """A function that writes 24 rows, divided by year and shop, as CSV or Parquet, and gives the folder."""

    def written(ending):
        for number in range(24):
            year, shop = 2020 + number % 3, ["001", "A b"][number % 2]
            folder = tmp_path / "t" / f"year={year}" / f"shop={shop.replace(' ', '%20')}"
            folder.mkdir(parents=True, exist_ok=True)
            frame = pd.DataFrame({"size": [float(number)], "kind": ["usual" if number % 4 else "rare"]})
            name = folder / f"part-{number}{ending}"
            frame.to_parquet(name) if ending == ".parquet" else frame.to_csv(name, index=False)
        return tmp_path / "t"

    return written


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_names_of_folders_are_columns(divided, ending):
    dataset = load(str(divided(ending)), target="kind", **WHOLE)
    assert [column["name"] for column in dataset.preprocess["numeric"]] == ["size", "year"]
    assert [(column["name"], column["values"]) for column in dataset.preprocess["categorical"]] == [
        ("shop", ["001", "A b"])
    ]
    assert dataset.train.names[0] == f"year=2020/shop=001/part-0{ending} row 1"


def test_a_divided_table_is_read_as_the_same_table_in_one_file(divided, tmp_path):
    folder = divided(".csv")
    dataset = load(str(folder), target="kind", **WHOLE)
    table, _ = open_tables(str(folder), NOTHING_ASKED).whole(["size", "kind", "year", "shop"])
    table.to_pandas().to_csv(tmp_path / "one.csv", index=False)
    samples, _ = load_like(str(tmp_path / "one.csv"), dataset.preprocess)
    every = torch.arange(24)
    assert torch.equal(samples.batch(every), dataset.train.batch(every))


def test_a_detector_reads_a_divided_table(divided):
    words = LabelWords(anomaly="rare", unlabelled="usual")
    block, preprocess, _ = read_training(str(divided(".parquet")), "kind", words)
    assert block.counts == (18, 6, 0)
    further = list(read_further(str(divided(".parquet")), preprocess, words, notes=[]))
    assert torch.equal(torch.cat([each.rows for each in further]), block.rows)


def test_a_missing_value_in_a_folders_name_is_missing(tmp_path):
    for value, size in (("__HIVE_DEFAULT_PARTITION__", 1), ("7", 2), ("9", 3)):
        (tmp_path / "t" / f"year={value}").mkdir(parents=True)
        pd.DataFrame({"size": [size] * 2, "kind": ["a", "b"]}).to_csv(tmp_path / "t" / f"year={value}" / "p.csv")
    dataset = load(str(tmp_path / "t"), target="kind", ignore=["Unnamed: 0"], **WHOLE)
    year = next(column for column in dataset.preprocess["numeric"] if column["name"] == "year")
    assert (year["median"], year["indicator"]) == (8.0, True)


def test_what_does_not_belong_into_a_divided_table_is_named(divided):
    folder = divided(".csv")
    (folder / "year=2020" / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"files that are not tables: year=2020/notes\.md"):
        load(str(folder), target="kind")
    (folder / "year=2020" / "notes.md").unlink()
    (folder / "year=2020" / "old").mkdir()
    with pytest.raises(DataError, match=r"old: folders beside it are named column=value, this is not"):
        load(str(folder), target="kind")


def test_a_link_that_leads_back_is_named(divided):
    folder = divided(".csv")
    (folder / "year=2023").symlink_to(folder, target_is_directory=True)
    with pytest.raises(DataError, match="year=2023: this link leads back"):
        load(str(folder), target="kind")


def test_files_divided_by_different_columns_are_refused(divided):
    folder = divided(".csv")
    (folder / "year=2024").mkdir()
    (folder / "year=2024" / "p.csv").write_text("size,kind\n1,rare\n")
    with pytest.raises(DataError, match=r"divided by \['year'\]"):
        load(str(folder), target="kind")
