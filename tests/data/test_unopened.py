import numpy as np
import pytest
import torch

from data.encoded import exif, pillow
from imbsam.data import load
from imbsam.errors import DataError, OptionError

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


@pytest.fixture
def photographs(tmp_path, save_image):
    lines = [f"img/{number}.png {number % 2}" for number in range(4)]
    for line in lines:
        save_image(tmp_path / line.split()[0], size=(40, 30))
    (tmp_path / "train.txt").write_text("\n".join(lines))
    return tmp_path


@pytest.mark.parametrize("size", [16, 160])
def test_images_opened_late_are_those_opened_at_once(photographs, size):
    early = load(str(photographs), image_size=size, **WHOLE)
    late = load(str(photographs), image_size=size, open_all=False, **WHOLE)
    rows = torch.tensor([2, 0])
    assert torch.equal(late.train.batch(rows), early.train.batch(rows))
    assert torch.equal(late.train.targets, early.train.targets)
    assert (len(late.train), late.train.names, late.classes) == (4, early.train.names, early.classes)
    assert (late.spec.channels, late.spec.height, late.spec.width) == (3, size, size)
    assert late.preprocess["crop"] == early.preprocess["crop"]


def test_a_file_that_is_missing_is_told_when_it_is_wanted(photographs):
    (photographs / "img/1.png").unlink()
    samples = load(str(photographs), image_size=16, open_all=False, **WHOLE).train
    assert len(samples.batch(torch.tensor([0, 2]))) == 2
    with pytest.raises(DataError, match=r"img/1\.png: there is no such file"):
        samples.batch(torch.tensor([0, 1]))


def test_without_a_size_the_images_have_to_be_opened(photographs):
    with pytest.raises(OptionError, match="open_all=False needs image_size"):
        load(str(photographs), open_all=False, **WHOLE)


def test_deep_and_turned_images_are_what_they_are_when_opened_at_once(tmp_path):
    (tmp_path / "img").mkdir()
    for number in range(4):
        values = np.random.default_rng(number).integers(0, 4096, (40, 30), dtype=np.uint16)
        (tmp_path / f"img/{number}.png").write_bytes(pillow(values, exif=exif(6)))
    (tmp_path / "train.txt").write_text("\n".join(f"img/{number}.png {number % 2}" for number in range(4)))
    early, late = (load(str(tmp_path), image_size=16, open_all=open_all, **WHOLE).train for open_all in (True, False))
    every = torch.arange(4)
    assert torch.equal(late.batch(every), early.batch(every).expand(-1, 3, -1, -1))
