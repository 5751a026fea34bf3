"""Files from anybody: nothing in them runs, and nothing they name leaves its place."""

import contextlib
import csv
import importlib
import io
import os
import pickle
import shutil
import struct
import sys
import tarfile
import zlib

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from imbsam import data, models
from imbsam.errors import DataError, ModelError, RunError
from imbsam.inputs import TableSpec
from imbsam.report import write_report
from imbsam.runs.fit import fit
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import Trained
from imbsam.storage.seal import sealed
from reliability import small


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return (os.system, (f"touch {self.proof}",))


class Opener(Bomb):
    def __reduce__(self):
        return (open, (str(self.proof), "w"))


class Evaluated(Bomb):
    def __reduce__(self):
        return (eval, (f"open({str(self.proof)!r}, 'w').close()",))


class Nested(Bomb):
    """Hides among the arguments of what is allowed."""

    def __reduce__(self):
        return (np.dtype, (Evaluated(self.proof),))


@pytest.fixture(params=[Bomb, Evaluated, Nested], ids=lambda kind: kind.__name__)
def bomb(request, tmp_path):
    """A payload that goes off where it is unpickled as usual, and has to be a dud in the test."""
    made = request.param(tmp_path / "owned")
    with contextlib.suppress(TypeError):  # It goes off first.
        pickle.loads(pickle.dumps(made))
    assert made.proof.exists()
    made.proof.unlink()
    yield made
    assert not made.proof.exists()


def torch_bytes(content) -> bytes:
    torch.save(content, buffer := io.BytesIO())
    return buffer.getvalue()


def test_a_bomb_in_a_checkpoint_is_a_dud_though_it_is_sealed(bomb, finished, table, tmp_path):
    run = small.copied(finished, tmp_path / "run")
    run.result.unlink()
    run.previous.unlink()
    run.checkpoint.write_bytes(sealed(torch_bytes({"schema": 1, "model": bomb})))
    with pytest.raises(RunError, match=r"last\.ckpt is damaged \(UnpicklingError\)"):
        fit(run, str(table), small.options())


def test_a_bomb_in_place_of_the_weights_is_a_dud(bomb, finished, tmp_path):
    run = small.copied(finished, tmp_path / "run")
    for content in (pickle.dumps(bomb), torch_bytes({"weight": bomb})):
        run.weights.write_bytes(content)
        with pytest.raises(RunError, match=r"best\.safetensors is damaged"):
            Trained.open(run.path)


def test_a_bomb_in_a_detector_is_a_dud(bomb, detector, table, tmp_path, imbsam):
    folder = shutil.copytree(detector, tmp_path / "detector")
    for content in (pickle.dumps(bomb), torch_bytes({"typical": bomb})):
        (folder / "detector.safetensors").write_bytes(content)
        ran = imbsam("anomaly", "score", str(folder), str(table))
        assert ran.code == 2
        assert "is damaged" in ran.err


def test_a_bomb_in_a_model_that_predicts_is_a_dud(bomb, finished, table, tmp_path, imbsam):
    run = small.copied(finished, tmp_path / "run")
    run.weights.write_bytes(torch_bytes({"weight": bomb}))
    ran = imbsam("predict", str(run.path), str(table), "--out", str(tmp_path / "p.csv"))
    assert ran.code == 2
    assert "best.safetensors is damaged" in ran.err


@pytest.mark.parametrize("ending", ["pt", "pth", "safetensors"])
def test_a_bomb_in_weights_to_start_from_is_a_dud(bomb, tmp_path, ending):
    path = tmp_path / f"weights.{ending}"
    for content in (pickle.dumps(bomb), torch_bytes({"weight": bomb})):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot read the weights"):
            models.build("mlp", TableSpec(2, ()), num_classes=2, weights=path)


def cifar(folder, bomb_in):
    """The files of CIFAR-100 with a bomb as one of the values of one of them."""
    pixels = np.zeros((4, 3072), np.uint8)
    parts = {
        "train": {"data": pixels, "fine_labels": [0, 1, 0, 1]},
        "test": {"data": pixels, "fine_labels": [0, 1, 0, 1]},
        "meta": {"fine_label_names": ["a", "b"]},
    }
    folder.mkdir()
    for name, record in parts.items():
        (folder / name).write_bytes(pickle.dumps(record | bomb_in.get(name, {}), protocol=2))
    return folder


@pytest.mark.parametrize("place", ["train", "test", "meta"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_bomb_in_a_cifar_archive_is_a_dud(bomb, tmp_path, place, packed):
    source = cifar(tmp_path / "cifar-100-python", {place: {"filenames": bomb}})
    if packed:
        with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
            archive.add(source, "cifar-100-python")
        source = tmp_path / "cifar-100-python.tar.gz"
    with pytest.raises(DataError, match="which no CIFAR file needs; it was not run"):
        data.load(str(source))


def test_a_bomb_in_an_npz_is_a_dud(bomb, tmp_path):
    for arrays in ({"X": np.array([[bomb, bomb]])}, {"X": np.zeros((4, 2)), "y": np.array([bomb] * 4)}):
        np.savez(tmp_path / "rows.npz", **arrays)
        with pytest.raises(DataError, match="allow_pickle=False"):
            data.load(str(tmp_path / "rows.npz"))


def test_an_archive_writes_nothing_and_reads_no_link(tmp_path):
    folder = cifar(tmp_path / "inside", {})
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz") as archive:
        for name in ("../../train", "/tmp/test"):
            archive.add(folder / name.rpartition("/")[2], name)
        link = tarfile.TarInfo("meta")
        link.type, link.linkname = tarfile.SYMTYPE, str(folder / "meta")
        archive.addfile(link)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DataError, match="meta is missing"):
        data.load(str(tmp_path / "cifar-100-python.tar.gz"))
    assert sorted(tmp_path.rglob("*")) == before


def test_an_archive_that_unpacks_to_more_than_cifar_holds_is_refused_unread(tmp_path):
    with tarfile.open(tmp_path / "cifar-100-python.tar.gz", "w:gz", compresslevel=1) as archive:
        huge = tarfile.TarInfo("train")
        huge.size = 2**40
        archive.addfile(huge)
    with pytest.raises(DataError, match="holds more than 268435456 bytes"):
        data.load(str(tmp_path / "cifar-100-python.tar.gz"))


@pytest.mark.parametrize("path", ["../secret.png", "/etc/passwd", "a/../../secret.png", "a/b/../../../secret.png"])
def test_a_list_cannot_name_files_outside_its_folder(tmp_path, path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "train.txt").write_text(f"{path} 0\n")
    with pytest.raises(DataError, match=r"line 1: the path .* leaves the root"):
        data.load(str(tmp_path / "lists"))


def png(width, height) -> bytes:
    """A picture whose header promises this size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(20_000, 20_000), (2**31 - 1, 2**31 - 1), (2**31 - 1, 1)])
def test_an_image_bomb_is_refused_by_its_header(tmp_path, size):
    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        (tmp_path / "pets" / name / "bomb.png").write_bytes(png(*size))
    with pytest.raises(DataError, match=r"bomb\.png: too large for an image"):
        data.load(str(tmp_path / "pets"))


MODULE = """
from pathlib import Path
from torch import nn
Path("imported").touch()
def net(spec, *, num_classes):
    return nn.Linear(spec.numeric + len(spec.cardinalities), num_classes)
"""


@pytest.fixture
def own_model(tmp_path, monkeypatch, table):
    """A run whose model is a module in the working directory, before the import of which it is seen again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    (tmp_path / "hostile_net.py").write_text(MODULE)
    sys.modules.pop("hostile_net", None)
    run = RunFolder(tmp_path / "run")
    fit(run, str(table), small.options(model="hostile_net:net", hidden=[128, 128]))
    monkeypatch.delitem(sys.modules, "hostile_net")
    (tmp_path / "imported").unlink()
    return run


@pytest.mark.filterwarnings("ignore:.*the data that the model was trained on")
@pytest.mark.parametrize(
    "words", ["evaluate run", "predict run {table}", "sharpness run --rows 2 --measures sam", "train --resume run"]
)
def test_a_module_that_only_a_run_names_is_not_imported(own_model, table, tmp_path, imbsam, words):
    if "resume" in words:
        own_model.result.unlink()
    words = words.format(table=table).split()
    ran = imbsam(*words)
    assert ran.code == 2
    assert "If you trust it, name it: --model hostile_net:net" in ran.err
    assert not (tmp_path / "imported").exists()
    assert imbsam(*words, "--model", "hostile_net:net").code == 0
    assert (tmp_path / "imported").exists()


NAMES = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "two\nlines",
    '=HYPERLINK("http://x")',
    "@SUM(1)",
    'it\'s, "quoted"; {{ 7 * 7 }} ${7*7} [red]x[/red]',
    "y" * 10_000,
]


def test_hostile_names_stay_text(tmp_path):
    draw = np.random.default_rng(0)
    label = np.concatenate([np.arange(140) % len(NAMES), np.zeros(140, int)])
    rows = pd.DataFrame({"x": draw.normal(label, 0.3), "<b>=1+1</b>": draw.normal(size=280)})
    rows["kind"] = [NAMES[place] for place in label]
    rows.to_csv(tmp_path / "rows.csv", index=False)
    run = small.train(tmp_path / "run", tmp_path / "rows.csv")
    page = write_report(run.path).read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "{{ 7 * 7 }}" in page or "7 * 7" in page
    trained = Trained.open(run.path)
    rows.drop(columns="kind").iloc[::-1].to_csv(tmp_path / "new.csv", index=False)
    trained.predict(str(tmp_path / "new.csv"), tmp_path / "p.csv", all_probabilities=True)
    with (tmp_path / "p.csv").open(newline="") as file:
        head, *lines = list(csv.reader(file))
    assert len(lines) == 280
    assert {len(line) for line in lines} == {len(head)} == {3 + len(NAMES)}
    assert not [cell for line in [head, *lines] for cell in line if cell[:1] in ("=", "+", "-", "@")]
    assert {cell.removeprefix("'") for cell in head[3:]} == set(NAMES)


FILES = [
    "=1+1.png",
    "@SUM(1).png",
    "<img src=x onerror=alert(1)>.png",
    "two\nlines.png",
    'a "quoted", name.png',
    "-y.png",
]


def test_hostile_file_names_stay_text(tmp_path):
    draw = np.random.default_rng(0)
    for kind, more in (("a", 24), ("b", 4)):
        (tmp_path / "pets" / kind).mkdir(parents=True)
        for name in (*FILES, *(f"{number}.png" for number in range(more))):
            pixels = draw.integers(0, 255, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / kind / name)
    run = small.train(
        tmp_path / "run", tmp_path / "pets", target=None, method="sgd", epochs=1, model="mlp", test_fraction=0.5
    )
    page = write_report(run.path).read_text()
    assert "<img src=x" not in page
    (tmp_path / "pets").rename(tmp_path / "others")
    Trained.open(run.path).predict(str(tmp_path / "others"), tmp_path / "p.csv")
    with (tmp_path / "p.csv").open(newline="") as file:
        _, *lines = list(csv.reader(file))
    assert len(lines) == 2 * len(FILES) + 28
    names = [line[0] for line in lines]
    assert not [name for name in names if name[:1] in ("=", "+", "-", "@")]
    assert {name.rpartition("/")[2].removeprefix("'") for name in names} >= set(FILES)
