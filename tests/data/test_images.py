import numpy as np
import pytest
import torch
from PIL import Image

from imbsam.data import TensorSamples, batches, evaluation_transform, images, load, training_transform
from imbsam.data.images import ImageFiles
from imbsam.errors import DataError

LATE = {"validation_fraction": 0.2, "test_fraction": 0.2}


@pytest.fixture
def decoded_per_batch(monkeypatch):
    """No image data set fits into memory."""
    monkeypatch.setattr(images, "MEMORY_BUDGET", 0)


def test_images_of_one_size_keep_it(class_folders):
    dataset = load(str(class_folders))
    assert (dataset.spec.channels, dataset.spec.height, dataset.spec.width) == (3, 10, 12)
    assert dataset.train.batch(torch.tensor([0])).dtype == torch.uint8


def test_images_of_different_sizes_become_squares_and_it_is_said(class_folders, save_image):
    save_image(class_folders / "cat" / "tall.png", size=(9, 40))
    dataset = load(str(class_folders))
    assert (dataset.spec.height, dataset.spec.width) == (32, 32)
    assert any("different sizes" in note and "32x32" in note for note in dataset.notes)


def test_image_size_is_obeyed(class_folders):
    dataset = load(str(class_folders), image_size=20)
    assert dataset.train.batch(torch.tensor([0, 1])).shape == (2, 3, 20, 20)


def test_grey_images_have_one_channel(tmp_path, save_image):
    for name in ("a", "b"):
        for number in range(4):
            save_image(tmp_path / name / f"{number}.png", mode="L")
    assert load(str(tmp_path)).spec.channels == 1
    save_image(tmp_path / "a" / "colour.png")
    assert load(str(tmp_path), test_fraction=0, validation_fraction=0).spec.channels == 3


def test_mean_and_deviation_are_those_of_the_training_pixels(class_folders):
    dataset = load(str(class_folders))
    pixels = dataset.train.batch(torch.arange(len(dataset.train))).double() / 255
    assert dataset.spec.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-12)
    assert dataset.spec.std == pytest.approx(pixels.std((0, 2, 3), correction=0).tolist(), abs=1e-12)


def test_images_of_one_colour_stay_finite(tmp_path):
    for name in ("a", "b"):
        for number in range(4):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", (8, 8), "white").save(tmp_path / name / f"{number}.png")
    dataset = load(str(tmp_path))
    inputs = evaluation_transform(dataset.spec)(dataset.train.batch(torch.tensor([0])), None)
    assert bool(inputs.isfinite().all())


@pytest.mark.usefixtures("decoded_per_batch")
def test_images_beyond_the_memory_budget_are_decoded_per_batch_to_the_same_pixels(class_folders, monkeypatch):
    late = load(str(class_folders), image_size=16, **LATE)
    monkeypatch.undo()
    early = load(str(class_folders), image_size=16, **LATE)
    every = torch.arange(len(early.train))
    assert isinstance(late.train, ImageFiles)
    assert isinstance(early.train, TensorSamples)
    assert torch.equal(late.train.batch(every), early.train.batch(every))
    assert list(late.train.names) == list(early.train.names)
    assert any("decoded anew" in note for note in late.notes)
    assert late.spec.mean == (0.485, 0.456, 0.406)


@pytest.mark.usefixtures("decoded_per_batch")
@pytest.mark.parametrize("augment", ["cifar", "imagenet"])
def test_images_decoded_per_batch_give_the_same_batches_in_worker_processes(class_folders, augment):
    dataset = load(str(class_folders), image_size=16, **LATE)
    transform = training_transform(dataset.spec, augment)
    options = {"batch_size": 5, "seed": 0, "epoch": 0, "shuffle": True, "transform": transform}
    alone = list(batches(dataset.train, **options))
    helped = list(batches(dataset.train, workers=2, **options))
    assert all(torch.equal(x, u) for (x, _), (u, _) in zip(alone, helped, strict=True))
    assert alone[0][0].shape == (5, 3, 16, 16)


@pytest.mark.usefixtures("decoded_per_batch")
def test_windows_are_cut_out_of_the_full_image(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        left_black = np.zeros((40, 80, 3), np.uint8)
        left_black[:, 60:] = 255
        for number in range(3):
            Image.fromarray(left_black).save(tmp_path / name / f"{number}.png")
    samples = load(str(tmp_path), image_size=8, test_fraction=0, validation_fraction=0).train
    first = torch.tensor([0])
    assert samples.windows(first, torch.tensor([[0, 62, 10, 10]])).unique().tolist() == [255]
    assert samples.batch(first)[..., :7].unique().tolist() == [0]


def damaged(class_folders, cut=0.5):
    path = class_folders / "dog" / "dog3.png"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * cut)])
    return path


@pytest.mark.parametrize("cut", [0.0, 0.02, 0.5])
def test_a_damaged_image_is_named(class_folders, cut):
    damaged(class_folders, cut)
    with pytest.raises(DataError, match=r"dog3\.png.*--skip-bad"):
        load(str(class_folders))


def test_a_text_that_calls_itself_an_image_is_named(class_folders):
    (class_folders / "dog" / "note.jpg").write_text("not a picture")
    with pytest.raises(DataError, match=r"note\.jpg: not an image"):
        load(str(class_folders))


@pytest.mark.parametrize("cut", [0.0, 0.5])
@pytest.mark.parametrize("budget", [0, 2**30])
def test_skip_bad_goes_on_without_the_damaged_image_and_says_so(class_folders, cut, budget, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_BUDGET", budget)
    path = damaged(class_folders, cut)
    dataset = load(str(class_folders), skip_bad=True, image_size=16, test_fraction=0, validation_fraction=0)
    assert len(dataset.train) == 17
    assert str(path) not in dataset.train.names
    assert any("1 of 18 images" in note and "dog3.png" in note for note in dataset.notes)
    last = int(dataset.train.targets[-1])
    assert dataset.classes[last] == "eel"
    assert len(dataset.train.batch(torch.arange(17))) == 17


@pytest.mark.usefixtures("decoded_per_batch")
def test_an_image_found_damaged_only_in_its_batch_is_named(class_folders):
    damaged(class_folders)
    dataset = load(str(class_folders), image_size=16, test_fraction=0, validation_fraction=0)
    with pytest.raises(DataError, match=r"dog3\.png"):
        dataset.train.batch(torch.arange(len(dataset.train)))


def test_a_class_of_damaged_images_alone_is_an_error(class_folders):
    for path in (class_folders / "dog").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="'dog'"):
        load(str(class_folders), skip_bad=True, test_fraction=0, validation_fraction=0)


def test_no_readable_image_at_all_is_an_error(class_folders):
    for path in class_folders.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of"):
        load(str(class_folders), skip_bad=True)


def test_an_image_bomb_is_refused_and_named(class_folders, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    Image.new("L", (50, 50)).save(class_folders / "cat" / "bomb.png")
    for path in class_folders.rglob("*[0-9].png"):
        Image.new("L", (8, 8)).save(path)
    with pytest.raises(DataError, match=r"bomb\.png: too large"):
        load(str(class_folders))
