"""Terminals, pipes and names of every kind, in processes of their own: none costs the work."""

import csv
import json
import os
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image

QUICK = ("--epochs", "1", "--model", "resnet20", "--width", "0.25", "--threads", "1")
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
BYTES = "So\udcdf 'q' [red]x"


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str


def imbsam(folder, *words, out=subprocess.PIPE, **environment) -> Done:
    encoding = environment.get("PYTHONIOENCODING", "utf-8")
    ran = subprocess.run(
        [sys.executable, "-m", "imbsam", *words],
        cwd=folder,
        env={**os.environ, **environment},
        stdout=out,
        stderr=subprocess.PIPE,
        check=False,
    )
    assert b"Traceback" not in ran.stderr, ran.stderr.decode()
    return Done(ran.returncode, (ran.stdout or b"").decode(encoding), ran.stderr.decode(encoding))


def draw_images(folder, names, levels):
    rng = np.random.default_rng(0)
    for name, level in zip(names, levels, strict=True):
        (folder / name).mkdir(parents=True)
        for i in range(12):
            with (folder / name / f"\udcdf\n😀{i}.png").open("wb") as file:
                Image.fromarray(rng.integers(level, level + 60, (12, 12, 3), np.uint8)).save(file, "PNG")


@pytest.fixture(scope="module")
def strange(tmp_path_factory):
    """A folder with images and a run on them, all of them with names that are not UTF-8."""
    folder = tmp_path_factory.mktemp("strange")
    draw_images(folder / BYTES, ("M\udcfcller", "größe [red]", "-\x1b[31m\\"), (0, 100, 190))
    done = imbsam(folder, "train", BYTES, *QUICK, "--out", f"run{BYTES}")
    assert done.code == 0, done.err
    return folder


def texts_in(folder):
    endings = {".csv", ".json", ".jsonl", ".yaml", ".html", ".md"}
    found = {path: path.read_bytes().decode() for path in folder.rglob("*") if path.suffix in endings}
    assert found
    assert not any("\ufffd" in text for text in found.values())
    return found


def test_every_file_of_a_run_is_utf_8_and_shows_the_name_alike(strange):
    found = {path.name: text for path, text in texts_in(strange / f"run{BYTES}").items()}
    for name in ("data.json", "result.json"):
        assert r"M\xfcller" in json.loads(found[name])["classes"]
        assert "\\ud" not in found[name].replace("\\ud83d", "")
    assert r"M\xfcller" in found["report.html"]
    assert r"M\\xfcller" in found["model-card.md"]


@pytest.mark.slow
@pytest.mark.parametrize("environment", [{}, ASCII, {"PYTHONIOENCODING": "cp1252"}, {"COLUMNS": "40"}], ids=str)
def test_a_run_finds_its_data_and_classes_again_on_any_terminal(strange, tmp_path, environment):
    run, out = f"run{BYTES}", str(tmp_path / "St\udce9.csv")
    done = imbsam(strange, "predict", run, BYTES, "--out", out, "--all-probabilities", "--json", **environment)
    assert done.code == 0, done.err
    names = [each["name"] for each in json.loads(done.out)["classes"]]
    assert sorted(names) == sorted([r"M\xfcller", "größe [red]", "-\x1b[31m\\"])
    (content,) = texts_in(tmp_path).values()
    header, *rows = csv.reader(content.splitlines(keepends=True))
    assert r"M\xfcller" in header
    assert len(rows) == 36
    assert {row[0] for row in rows} >= {f"So\\xdf 'q' [red]x/M\\xfcller/\\xdf\n😀{i}.png" for i in range(12)}
    for words in (["evaluate", run, BYTES], ["evaluate", run], ["report", run]):
        done = imbsam(strange, *words, **environment)
        assert done.code == 0, done.err
    assert "is finished" in imbsam(strange, "train", "--resume", run, **environment).err


@pytest.mark.slow
def test_an_ascii_terminal_gets_plain_letters(strange, tmp_path):
    out = str(tmp_path / "cmp")
    words = ("compare", BYTES, *QUICK, "--methods", "sgd", "imbsam", "--seeds", "2", "--jobs", "1", "--out", out)
    done = imbsam(strange, *words, **ASCII)
    assert done.code == 0, done.err
    assert "mean +/- 95 % interval" in done.out
    assert "?" not in done.out
    assert len({len(line) for line in done.out.splitlines() if line.startswith(("|", "+"))}) == 1


@pytest.mark.parametrize("words", [["methods"], ["train", "--help"]])
@pytest.mark.parametrize("environment", [ASCII, {"PYTHONIOENCODING": "latin-1"}, {"COLUMNS": "40"}], ids=str)
def test_help_and_lists_print_everywhere(tmp_path, words, environment):
    done = imbsam(tmp_path, *words, **environment)
    assert (done.code, done.err) == (0, "")
    assert done.out


@pytest.mark.parametrize("words", [["methods"], ["train", "--help"], ["--version"]])
def test_an_output_that_takes_nothing_is_told_in_a_sentence(tmp_path, words):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        done = imbsam(tmp_path, *words, out=full)
    assert done.code == 2
    assert done.err.startswith("imbsam: cannot write to standard output: No space left on device.")
    assert done.err.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full"])
def test_a_run_survives_that_nobody_listens(tmp_path, closed):
    words = f"train digits --epochs 1 --threads 1 --track none --out run {closed}"
    done = subprocess.run(["bash", "-c", f"{sys.executable} -m imbsam {words}"], cwd=tmp_path, check=False)
    assert done.returncode == 0
    assert (tmp_path / "run" / "report.html").exists()


def test_without_buffers_what_is_printed_comes_at_once():
    code = (
        "import os, sys; from imbsam.cli.terminal import prepare; prepare(); "
        "print('out'); print('err', file=sys.stderr); os._exit(0)"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (ran.stdout, ran.stderr) == ("out\n", "err\n")
