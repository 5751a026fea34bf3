"""Readers of files from anybody, on files that were changed at random: they read them or raise an error of ours.

IMBSAM_FUZZ=5000 pytest tests/reliability/test_fuzz.py  tries so many of each kind (default 60), in limited memory and
time.
"""

import contextlib
import os
import pickle
import resource
import shutil
import signal
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from imbsam import data
from imbsam.anomaly import saved
from imbsam.config import Options, read_yaml
from imbsam.errors import ImbsamError
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained
from reliability import small

COUNT = int(os.environ.get("IMBSAM_FUZZ", "60"))
MEMORY = 4 * 2**30
"""Bytes that a reader may take of a file of some kilobytes, and far more than it needs."""

SECONDS = 20
"""Of the processor, for one file."""

EDIT = st.tuples(
    st.sampled_from(["set", "insert", "cut", "repeat"]),
    st.floats(0, 1, exclude_max=True),
    st.one_of(
        st.binary(min_size=1, max_size=8), st.sampled_from([b"\0", b"\xff\xff\xff\x7f", b'"', b"\n", b",", b"\x80"])
    ),
)


def edited(content: bytes, edits) -> bytes:
    for kind, share, new in edits:
        at = int(share * len(content))
        if kind == "set":
            content = content[:at] + new + content[at + len(new) :]
        elif kind == "insert":
            content = content[:at] + new + content[at:]
        elif kind == "cut":
            content = content[:at]
        else:
            content = content[:at] + content[at : at + 64] * 3 + content[at + 64 :]
    return content


def write_csv(folder):
    return small.source(folder), {"target": "kind"}


def write_parquet(folder):
    frame = pd.read_csv(small.source(folder)).iloc[:20]
    frame.to_parquet(folder / "parts.parquet")
    return folder / "parts.parquet", {"target": "kind"}


def write_npz(folder):
    np.savez_compressed(folder / "rows.npz", X=np.arange(60.0).reshape(20, 3), y=np.arange(20) % 2)
    return folder / "rows.npz", {}


def write_list(folder):
    (folder / "lists").mkdir()
    for number in range(8):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / "lists" / f"{number}.png")
    (folder / "lists" / "train.txt").write_text("".join(f"{n}.png {n % 2}\n" for n in range(8)))
    return folder / "lists" / "train.txt", {}


def write_image(folder):
    for name in ("a", "b"):
        (folder / "pets" / name).mkdir(parents=True)
        Image.effect_noise((12, 12), 50).save(folder / "pets" / name / "0.png")
        Image.effect_noise((12, 12), 50).save(folder / "pets" / name / "1.jpg")
    return folder / "pets" / "a" / "1.jpg", {}


def cifar_parts():
    pixels = np.zeros((2, 3072), np.uint8)
    part = {"data": pixels, "fine_labels": [0, 1]}
    return {"train": part, "test": part, "meta": {"fine_label_names": ["a", "b"]}}


def write_cifar(folder):
    (folder / "cifar").mkdir()
    for name, part in cifar_parts().items():
        (folder / "cifar" / name).write_bytes(pickle.dumps(part, protocol=2))
    return folder / "cifar" / "train", {}


def write_archive(folder):
    write_cifar(folder)
    with tarfile.open(folder / "cifar-100-python.tar.gz", "w:gz") as archive:
        archive.add(folder / "cifar", "cifar")
    return folder / "cifar-100-python.tar.gz", {}


def write_idx(folder):
    (folder / "idx").mkdir()
    images = bytes([0, 0, 8, 3]) + np.array([6, 4, 4], ">u4").tobytes() + bytes(96)
    labels = bytes([0, 0, 8, 1]) + np.array([6], ">u4").tobytes() + bytes([0, 1] * 3)
    (folder / "idx" / "train-images-idx3-ubyte").write_bytes(images)
    (folder / "idx" / "train-labels-idx1-ubyte").write_bytes(labels)
    return folder / "idx" / "train-images-idx3-ubyte", {}


KINDS = [
    write_csv,
    write_parquet,
    write_npz,
    write_list,
    write_image,
    write_cifar,
    write_archive,
    write_idx,
]


@pytest.fixture(autouse=True, scope="module")
def _limited():
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class TooLongError(Exception):
    """A reader took more of the processor than any file of some kilobytes is worth."""


@contextlib.contextmanager
def in_time():
    """Of the processor: a busy machine is no fault of the reader."""

    def late(number, frame):
        raise TooLongError(f"a reader took more than {SECONDS} seconds")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def read_or_refused(read) -> None:
    with warnings.catch_warnings(), in_time():
        warnings.simplefilter("ignore")
        try:
            read()
        except ImbsamError:
            return


def test_a_reader_that_never_ends_would_be_noticed(monkeypatch):
    monkeypatch.setitem(in_time.__wrapped__.__globals__, "SECONDS", 0.1)
    with pytest.raises(TooLongError):
        read_or_refused(lambda: [None for _ in iter(int, 1)])


fuzzed = settings(
    max_examples=COUNT,
    deadline=None,
    derandomize=COUNT == 60,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.slow
@pytest.mark.parametrize("write", KINDS, ids=lambda kind: kind.__name__.removeprefix("write_"))
def test_data_are_read_or_refused_by_an_error_of_ours(tmp_path, write):
    path, options = write(tmp_path)
    source = path if path.is_file() and path.parent == tmp_path else path.parent
    source = source.parent if source.name == "a" else source
    content = path.read_bytes()
    data.load(str(source), validation_fraction=0, test_fraction=0, **options)

    @fuzzed
    @given(st.lists(EDIT, min_size=1, max_size=4))
    def changed(edits):
        path.write_bytes(edited(content, edits))
        read_or_refused(lambda: data.load(str(source), validation_fraction=0, test_fraction=0, **options))

    changed()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["last.ckpt", "best.safetensors", "data.json", "config.yaml", "metrics.jsonl"])
def test_a_run_is_opened_or_refused_by_an_error_of_ours(tmp_path, finished, name):
    run = small.copied(finished, tmp_path / "run")
    content = (run.path / name).read_bytes()

    @fuzzed
    @given(st.lists(EDIT, min_size=1, max_size=4))
    def changed(edits):
        (run.path / name).write_bytes(edited(content, edits))
        read_or_refused(run.read_checkpoint)
        read_or_refused(lambda: Trained.open(run.path))
        read_or_refused(lambda: RunFolder(run.path).keep_metrics(2))

    changed()


@pytest.mark.slow
@pytest.mark.parametrize("name", [saved.ABOUT, saved.WEIGHTS])
def test_a_detector_is_opened_or_refused_by_an_error_of_ours(tmp_path, detector, name):
    folder = shutil.copytree(detector, tmp_path / "detector")
    content = (folder / name).read_bytes()

    @fuzzed
    @given(st.lists(EDIT, min_size=1, max_size=4))
    def changed(edits):
        (folder / name).write_bytes(edited(content, edits))
        read_or_refused(lambda: saved.SavedDetector.open(folder))

    changed()


@fuzzed
@given(st.one_of(st.text(), st.lists(EDIT, min_size=1, max_size=4)))
def test_options_are_read_or_refused_by_an_error_of_ours(tmp_path, given_text):
    path = tmp_path / "options.yaml"
    usual = b"rho: 0.1\nhidden: [3, 4]\nmethod: imbsam\nweights: null\n"
    path.write_bytes(given_text.encode(errors="ignore") if isinstance(given_text, str) else edited(usual, given_text))
    read_or_refused(lambda: Options().updated(read_yaml(path)))
