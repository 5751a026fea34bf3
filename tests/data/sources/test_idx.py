"""The files of MNIST and its kin."""

import gzip
import struct
from pathlib import Path

import pytest
import torch

from imbsam.data import load
from imbsam.data.sources.idx import read_idx
from imbsam.errors import DataError


def idx(*shape: int, values: bytes) -> bytes:
    return bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape) + values


def written(folder: Path, *, packed: bool = True, dot: bool = False, test: bool = True) -> Path:
    for stem, rows in {"train": 6, "t10k": 3}.items():
        if stem == "t10k" and not test:
            continue
        files = {
            "images-idx3-ubyte": idx(rows, 2, 3, values=bytes(range(rows * 6))),
            "labels-idx1-ubyte": idx(rows, values=bytes(i % 3 for i in range(rows))),
        }
        for name, data in files.items():
            name = f"{stem}-{name}".replace("-idx", ".idx") if dot else f"{stem}-{name}"
            (folder / (name + ".gz" * packed)).write_bytes(gzip.compress(data) if packed else data)
    return folder


@pytest.mark.parametrize(("packed", "dot"), [(True, False), (False, False), (False, True)])
def test_images_and_labels_are_those_of_the_files(tmp_path: Path, packed: bool, dot: bool) -> None:
    raw = read_idx(written(tmp_path, packed=packed, dot=dot))
    assert raw.classes == ("0", "1", "2")
    assert raw.train.content.shape == (6, 1, 2, 3)
    assert raw.train.content.dtype == torch.uint8
    assert raw.train.content.flatten().tolist() == list(range(36))
    assert raw.train.targets.tolist() == [0, 1, 2, 0, 1, 2]
    assert raw.parts["test"].targets.tolist() == [0, 1, 2]


def test_it_is_a_source_by_its_folder(tmp_path: Path) -> None:
    data = load(str(written(tmp_path, test=False)), validation_fraction=0.5, test_fraction=0.5, seed=0)
    assert data.classes == ("0", "1", "2")


def test_what_is_not_read_is_named(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path, packed=False)
    (tmp_path / "readme.txt").write_text("beside the four files")
    assert read_idx(tmp_path).notes == (
        f"not read in {tmp_path}: readme.txt, t10k-images-idx3-ubyte.gz, t10k-labels-idx1-ubyte.gz, "
        "train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz.",
    )


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("t10k-images-idx3-ubyte", None, "t10k-images-idx3-ubyte is missing"),
        ("train-labels-idx1-ubyte", None, "train-labels-idx1-ubyte is missing"),
        ("train-labels-idx1-ubyte", idx(5, values=bytes(5)), "has 6 images and train-labels-idx1-ubyte 5 labels"),
        ("train-images-idx3-ubyte", idx(6, 2, 3, values=bytes(35)), "promises 6 x 2 x 3 bytes and holds 35"),
        ("train-images-idx3-ubyte", idx(6, values=bytes(6)), "is not an IDX file of bytes with 3 dimensions"),
        ("train-images-idx3-ubyte", b"", "is not an IDX file"),
    ],
)
def test_a_fault_is_named(tmp_path: Path, name: str, data: bytes | None, message: str) -> None:
    written(tmp_path, packed=False)
    (tmp_path / name).unlink()
    if data is not None:
        (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        read_idx(tmp_path)


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    path = written(tmp_path) / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path)
