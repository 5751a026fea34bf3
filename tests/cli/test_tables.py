"""How a table is written and what it holds: options and notes of train, predict, evaluate and anomaly."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.filterwarnings("always")

ROWS = 60
ANOMALY_FAST = ("--epochs", 2)
SIZES = [f"{value:.2f}" for value in np.random.default_rng(0).normal(size=ROWS)]
KINDS = ["rare" if row % 4 == 0 else "usual" for row in range(ROWS)]
KNOWN = [int(row % 4 == 0) for row in range(ROWS)]
COUNTS = [row % 7 for row in range(ROWS)]


def write(name, /, *, separator=",", encoding="utf-8", **columns):
    columns = {"size": SIZES, "count": COUNTS, "kind": KINDS} | columns
    rows = [separator.join(columns), *(separator.join(map(str, row)) for row in zip(*columns.values(), strict=True))]
    Path(name).write_bytes("\n".join(rows).encode(encoding))
    return name


def predictions(path):
    with Path(path).open(newline="") as file:
        return [list(row.values()) for row in csv.DictReader(file)]


@pytest.fixture
def train(imbsam, quick):
    def trained(source, *more, target="kind"):
        return imbsam("train", source, "--target", target, *quick, "--epochs", 1, "--out", "run", *more)

    return trained


@pytest.fixture
def fit(imbsam):
    def fitted(source, *more):
        return imbsam("anomaly", "fit", source, "--labels", "known", *ANOMALY_FAST, "--out", "det", *more)

    return fitted


GERMAN = {"size": [size.replace(".", ",") for size in SIZES], "größe": COUNTS[::-1]}
WRITTEN = {
    "told": ({"separator": ";"}, GERMAN, ("--separator", "semicolon", "--decimal", ",")),
    "odd": ({"separator": "~"}, GERMAN, ("--separator", "~", "--decimal", ",")),
    "cp1252": ({"separator": ";", "encoding": "cp1252"}, GERMAN, ("--encoding", "cp1252")),
    "utf-16": ({"separator": "\t", "encoding": "utf-16"}, GERMAN, ()),
}


def test_predictions_and_scores_do_not_depend_on_how_the_file_is_written(imbsam, train, fit):
    plain = {"größe": COUNTS[::-1], "known": KNOWN}
    write("plain.csv", **plain)
    assert train("plain.csv", "--ignore", "known").code == 0
    assert fit("plain.csv", "--ignore", "kind").code == 0
    assert imbsam("predict", "run", "plain.csv", "--out", "plain-p.csv").code == 0
    assert imbsam("anomaly", "score", "det", "plain.csv", "--out", "plain-s.csv").code == 0
    for written, columns, options in WRITTEN.values():
        write("other.csv", **written, **columns, known=KNOWN)
        for words, found in (
            (("predict", "run", "other.csv", "--out", "p.csv"), "p.csv"),
            (("anomaly", "score", "det", "other.csv", "--out", "s.csv"), "s.csv"),
        ):
            ran = imbsam(*words, *options)
            assert ran.code == 0, ran.err
            assert predictions(found) == predictions(f"plain-{found}")
        for words in (("evaluate", "run", "other.csv"), ("anomaly", "evaluate", "det", "other.csv")):
            ran = imbsam(*words, *options)
            assert ran.code == 0, ran.err


@pytest.mark.parametrize("case", WRITTEN)
def test_training_reads_what_is_written_otherwise(train, case):
    written, columns, options = WRITTEN[case]
    ran = train(write("t.csv", **written, **columns), *options, "--json", "--quiet")
    assert ran.code == 0, ran.err
    preprocess = json.loads(Path("run/data.json").read_text())["preprocess"]
    assert [(column["name"], column["kind"]) for column in preprocess["schema"]["columns"]] == [
        ("size", "number"),
        ("count", "number"),
        ("größe", "number"),
    ]


def test_missing_words_and_text_columns_reach_the_schema(train, fit, imbsam):
    columns = {
        "n": ["gone" if row % 9 == 0 else row for row in range(ROWS)],
        "zip": [10 + row % 5 for row in range(ROWS)],
    }
    write("t.csv", **columns, known=KNOWN)
    options = ("--missing", "gone", "--text", "zip")
    for run in (train("t.csv", *options, "--ignore", "known"), fit("t.csv", *options, "--ignore", "kind")):
        assert run.code == 0, run.err
        assert "column 'n' is missing in" in run.err
    assert imbsam("predict", "run", "t.csv", "--out", "p.csv").code == 0
    ran = imbsam("anomaly", "score", "det", "t.csv", "--out", "s.csv")
    assert ran.err == ""


@pytest.mark.parametrize("command", ["train", "fit"])
def test_a_column_in_doubt_is_named_with_the_options_that_settle_it(train, fit, command):
    write("t.csv", n=["ill", *range(1, ROWS)], known=KNOWN)
    ran = {"train": train, "fit": fit}[command]("t.csv")
    assert ran.code == 2
    assert "t.csv: column 'n' holds numbers, 98.3 % of its values, and other words, 'ill'" in ran.err
    for option in ("--missing auto ill", "--text n", "--ignore n"):
        assert option in ran.err


BAD = {
    "separator": (("--separator", ";;"), "separator must be one ASCII character"),
    "encoding": (("--encoding", "utf-99"), "encoding 'utf-99' is unknown"),
    "wrong encoding": (("--encoding", "utf-16"), "cannot be read as utf-16"),
    "decimal": (("--decimal", ","), "but the decimal mark of this file is ','"),
    "rows": ((), r"has 4 fields, the header names 3"),
}


def test_options_that_do_not_fit_the_file_are_named(train, imbsam):
    assert train(write("t.csv")).code == 0
    Path("rows.csv").write_text(Path("t.csv").read_text() + "\n1,2,rare,4")
    for case, (options, message) in BAD.items():
        source = "rows.csv" if case == "rows" else "t.csv"
        for words in (("predict", "run", source, "--out", "p.csv"), ("evaluate", "run", source)):
            ran = imbsam(*words, *options)
            assert ran.code == 2
            assert message in ran.err
        assert message in train(source, *options, "--overwrite").err
    assert not Path("p.csv").exists()


def test_rows_that_do_not_fit_are_left_out_where_it_is_asked_for_and_said(train, fit, imbsam):
    columns = {"known": KNOWN}
    write("t.csv", **columns)
    assert train("t.csv", "--ignore", "known").code == 0
    assert fit("t.csv", "--ignore", "kind").code == 0
    write("bad.csv", **columns)
    Path("bad.csv").write_text(Path("bad.csv").read_text() + "\n1,2,rare,0,5")
    note = "bad.csv: left out because they do not have 4 fields: 1 row (row 61)."
    for words in (
        ("predict", "run", "bad.csv", "--out", "p.csv"),
        ("evaluate", "run", "bad.csv"),
        ("anomaly", "score", "det", "bad.csv", "--out", "s.csv"),
        ("anomaly", "evaluate", "det", "bad.csv"),
        ("train", "bad.csv", "--target", "kind", "--ignore", "known", "--epochs", 1, "--out", "again", "--threads", 1),
        ("anomaly", "fit", "bad.csv", "--labels", "known", "--ignore", "kind", *ANOMALY_FAST, "--out", "det2"),
    ):
        ran = imbsam(*words, "--skip-bad")
        assert ran.code == 0, ran.err
        assert ran.err.replace("\n", " ").count("bad.csv: ") == 1
        assert note in ran.err.replace("\n", " "), words
    assert len(predictions("p.csv")) == len(predictions("s.csv")) == ROWS


def test_what_a_score_could_not_read_is_said_and_kept(fit, imbsam):
    assert fit(write("t.csv", known=KNOWN), "--ignore", "kind").code == 0
    write("later.csv", count=["soon", *COUNTS[1:]], known=KNOWN, more=KINDS)
    notes = [
        "later.csv: columns that training did not have were ignored: more.",
        "later.csv: column 'count': 1 value is not a number, first 'soon' in row 1; read as missing.",
    ]
    score = ("anomaly", "score", "det", "later.csv", "--out", "s.csv")
    ran = imbsam(*score)
    assert ran.code == 0
    assert all(note in ran.err for note in notes)
    assert all(note in json.loads(imbsam(*score, "--json").out)["notes"] for note in notes)
    ran = imbsam("anomaly", "evaluate", "det", "later.csv", "--out", "ev")
    assert all(note in ran.err for note in notes)
    assert all(note in json.loads(Path("ev/evaluation.json").read_text())["notes"] for note in notes)


def test_an_excel_file_is_read(train, imbsam):
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in [("size", "count", "kind"), *zip(map(float, SIZES), COUNTS, KINDS, strict=True)]:
        book.active.append(row)
    book.save("t.xlsx")
    assert train(write("t.csv")).code == 0
    for source in ("t.csv", "t.xlsx"):
        assert imbsam("predict", "run", source, "--out", f"{source}.p.csv").code == 0
    assert predictions("t.csv.p.csv") == predictions("t.xlsx.p.csv")


def test_the_column_of_labels_is_none_to_ignore(fit):
    write("t.csv", n=list(range(ROWS)), known=KNOWN)
    ran = fit("t.csv", "--ignore", "known")
    assert ran.code == 2
    assert "t.csv: --ignore names known, but the feature columns are size, count, kind, n." in ran.err
