import io
import os
import pickle
import shutil
import tarfile

import numpy as np
import pytest
import torch

from imbsam.data import load
from imbsam.errors import DataError

NAMES = ["plane", "car", "bird"]


def batch(labels, seed=0, key="labels"):
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"data": pixels, key: list(labels), "filenames": [f"{i}.png" for i in labels]}


@pytest.fixture
def cifar10(tmp_path):
    """A folder with the files of CIFAR-10, six images a batch."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for number in range(1, 6):
        dump(folder / f"data_batch_{number}", batch([0, 1, 2] * 2, seed=number))
    dump(folder / "test_batch", batch([2, 1, 0]))
    dump(folder / "batches.meta", {"label_names": NAMES, "num_vis": 3072})
    return folder


def dump(path, record):
    path.write_bytes(pickle.dumps(record, protocol=2))


def test_cifar10_is_read_with_pixels_channel_by_channel(cifar10):
    dataset = load(str(cifar10), validation_fraction=0)
    assert dataset.classes == tuple(NAMES)
    assert (len(dataset.train), len(dataset.test)) == (30, 3)
    first = batch([0, 1, 2] * 2, seed=1)["data"][0]
    red_then_green = dataset.train.batch(torch.tensor([0]))[0, :2].flatten().tolist()
    assert red_then_green == first[:2048].tolist()
    assert dataset.test.targets.tolist() == [2, 1, 0]


def test_the_folder_above_and_the_archive_give_the_same(cifar10):
    archive = cifar10.parent / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cifar10, arcname="cifar-10-batches-py")
    folder, above, packed = (load(str(path)) for path in (cifar10, cifar10.parent, archive))
    every = torch.arange(len(folder.train))
    assert torch.equal(folder.train.batch(every), packed.train.batch(every))
    assert torch.equal(folder.train.targets, above.train.targets)


def test_what_is_not_read_is_named(cifar10):
    (cifar10 / "readme.html").write_text("in every archive")
    (cifar10 / "more.bin").write_bytes(b"")
    dump(cifar10 / "meta", {})
    archive = cifar10.parent / "cifar.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(cifar10, arcname="c")
    assert load(str(cifar10), validation_fraction=0).notes == (f"not read in {cifar10}: more.bin, meta.",)
    assert load(str(archive), validation_fraction=0).notes == (f"not read in {archive}: c/more.bin, meta.",)
    above = load(str(cifar10.parent), validation_fraction=0)
    assert above.notes[1] == f"not read in {cifar10.parent}: cifar.tar."


def test_several_archives_are_named(cifar10):
    shutil.copytree(cifar10, cifar10.with_name("copy"))
    with pytest.raises(DataError, match="several CIFAR archives: cifar-10-batches-py, copy"):
        load(str(cifar10.parent))
    with tarfile.open(cifar10.parent / "two.tar", "w") as tar:
        tar.add(cifar10, arcname="a")
        tar.add(cifar10, arcname="b")
    with pytest.raises(DataError, match=r"two\.tar: holds \S+ several times"):
        load(str(cifar10.parent / "two.tar"))


def test_cifar100_has_its_fine_labels(tmp_path):
    dump(tmp_path / "train", batch([0, 1, 2, 1], key="fine_labels") | {"coarse_labels": [0, 0, 0, 0]})
    dump(tmp_path / "test", batch([2, 0], key="fine_labels"))
    dump(tmp_path / "meta", {"fine_label_names": NAMES, "coarse_label_names": ["all"]})
    dataset = load(str(tmp_path), validation_fraction=0)
    assert dataset.name == "cifar100"
    assert dataset.train.targets.tolist() == [0, 1, 2, 1]


def test_pickles_of_python_2_are_read(cifar10):
    byte_keys = {key.encode(): value for key, value in batch([0, 1, 2]).items()}
    dump(cifar10 / "test_batch", byte_keys)
    assert len(load(str(cifar10)).test) == 3


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["whole", "inside"])
def test_a_hostile_pickle_is_refused_and_not_run(cifar10, place):
    target = cifar10 / "created-by-the-pickle"
    hostile = Hostile(target)
    dump(cifar10 / "data_batch_3", hostile if place == "whole" else batch([0, 1]) | {"filenames": [hostile]})
    with pytest.raises(DataError, match=r"data_batch_3 asks for \w+\.mkdir.*not executed"):
        load(str(cifar10))
    assert not target.exists()
    pickle.loads((cifar10 / "data_batch_3").read_bytes())  # An ordinary unpickler would have run it.
    assert target.exists()


@pytest.mark.parametrize("name", ["eval", "exec", "getattr", "__import__"])
def test_builtins_are_refused(cifar10, name):
    (cifar10 / "test_batch").write_bytes(b"cbuiltins\n" + name.encode() + b"\n(S'1'\ntR.")
    with pytest.raises(DataError, match=f"builtins.{name}"):
        load(str(cifar10))


@pytest.mark.parametrize(
    ("file", "record", "message"),
    [
        ("data_batch_2", batch([0, 3]), r"data_batch_2 row 2: label 3 is outside the 3 classes"),
        ("data_batch_2", batch([0, -1]), r"row 2: label -1"),
        ("data_batch_2", batch([0, 1]) | {"labels": [0]}, "2 images but not as many 'labels'"),
        ("data_batch_2", {"data": np.zeros((2, 10), np.uint8), "labels": [0, 1]}, "data_batch_2 holds no uint8 'data'"),
        ("test_batch", [1, 2], "test_batch does not hold a dictionary"),
        ("batches.meta", {}, "batches.meta holds no label_names"),
    ],
)
def test_a_record_that_is_not_cifar_is_named(cifar10, file, record, message):
    dump(cifar10 / file, record)
    with pytest.raises(DataError, match=message):
        load(str(cifar10))


def test_a_truncated_record_is_named(cifar10):
    path = cifar10 / "data_batch_4"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="data_batch_4 is damaged"):
        load(str(cifar10))


def test_a_missing_batch_is_named(cifar10):
    (cifar10 / "data_batch_5").unlink()
    with pytest.raises(DataError, match="data_batch_5 is missing"):
        load(str(cifar10))


def test_an_archive_that_is_none_is_named(tmp_path):
    (tmp_path / "cifar.tar.gz").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"cifar\.tar\.gz: cannot be read as a tar archive"):
        load(str(tmp_path / "cifar.tar.gz"))


def test_a_truncated_archive_is_named(cifar10):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(cifar10, arcname="c")
    path = cifar10.parent / "cut.tar.gz"
    path.write_bytes(buffer.getvalue()[: len(buffer.getvalue()) // 2])
    with pytest.raises(DataError, match=r"cut\.tar\.gz"):
        load(str(path))
