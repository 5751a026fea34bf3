import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from data.encoded import exif, pillow, tiff
from imbsam.data import TensorSamples, batches, evaluation_transform, images, load, training_transform
from imbsam.data.images import ImageFiles
from imbsam.data.load import load_like
from imbsam.errors import DataError, DataWarning

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


@pytest.fixture
def long_things(tmp_path):
    """White images of 20 x 60 pixels, and two squares, with a black mark at the left end and a grey one inside."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            picture = np.full((20, 60 if number else 20), 255, np.uint8)
            picture[8:12, :4] = 0
            picture[4:16, -32:-12] = 200
            Image.fromarray(picture).save(tmp_path / name / f"{number}.png")
    return tmp_path


@pytest.mark.parametrize(
    ("fit", "size", "stays"), [(None, None, True), ("pad", 224, True), (None, 224, False), ("crop", None, False)]
)
def test_small_images_are_kept_whole_and_photographs_are_cropped(long_things, fit, size, stays):
    dataset = load(str(long_things), image_size=size, fit=fit, test_fraction=0, validation_fraction=0)
    pixels = dataset.train.batch(torch.arange(len(dataset.train)))
    long = torch.tensor([not name.endswith("0.png") for name in dataset.train.names])
    assert bool((pixels[long].amin((1, 2, 3)) < 128).all()) is stays
    said = next(note for note in dataset.notes if "--fit" in note)
    assert ("padded" in said) is stays
    assert ("the centre of each" in said) is not stays
    with pytest.warns(DataWarning, match="trained on"):
        again, _ = load_like(str(long_things), dataset.preprocess)
    assert torch.equal(again.batch(torch.arange(len(again))), pixels)


def test_where_images_keep_their_size_it_is_said_that_nothing_is_fitted(class_folders):
    notes = load(str(class_folders), fit="pad").notes
    assert any("keep that size: --fit has nothing to do" in note for note in notes)
    assert not any("--fit" in note for note in load(str(class_folders)).notes)


def test_a_folder_from_before_the_choice_is_read_as_it_was(long_things):
    dataset = load(str(long_things), fit="crop")
    earlier = {name: value for name, value in dataset.preprocess.items() if name != "fit"}
    with pytest.warns(DataWarning, match="trained on"):
        now, then = (load_like(str(long_things), each)[0] for each in (dataset.preprocess, earlier))
    assert torch.equal(now.batch(torch.arange(len(now))), then.batch(torch.arange(len(then))))


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
    assert any("decoded again" in note for note in late.notes)
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
    assert samples.batch(first)[0, :, 2:6, :5].unique().tolist() == [0]


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


WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


def folders(root, pictures, ending="png"):
    """The encoded images of each class in its folder."""
    for name, files in pictures.items():
        (root / name).mkdir(parents=True)
        for number, file in enumerate(files):
            (root / name / f"{number}.{ending}").write_bytes(file)
    return root


def later(root, dataset, **options):
    """Further images as ``dataset`` was read, and what was said about them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", DataWarning)
        samples, _ = load_like(str(root), json.loads(json.dumps(dataset.preprocess)), **options)
    return samples.batch(torch.arange(len(samples))), [str(warning.message) for warning in caught]


def told(notes, *words):
    return any(all(word in note for word in words) for note in notes)


LYING = np.zeros((20, 30, 3), np.uint8)
LYING[:, :10] = 200
"""Bright on the left; turned by orientation 6, bright at the top."""


@pytest.fixture
def turned(tmp_path):
    pictures = [pillow(LYING, "PNG", exif=exif(6))] * 3
    return folders(tmp_path / "turned", {"a": pictures, "b": pictures})


def bright_at_the_top(batch):
    return batch.shape[2:] == (30, 20) and batch[:, :, :10].unique().tolist() == [200] and not batch[:, :, 10:].any()


def test_images_turned_by_exif_are_upright_with_the_size_that_they_have_then(turned, tmp_path):
    dataset = load(str(turned), **WHOLE)
    assert (dataset.spec.height, dataset.spec.width) == (30, 20)
    every = torch.arange(6)
    assert bright_at_the_top(dataset.train.batch(every))
    assert bright_at_the_top(later(turned / "a", dataset)[0])
    rows = {"image": [{"bytes": pillow(LYING, exif=exif(6)), "path": None}] * 6, "label": [0, 1] * 3}
    pq.write_table(pa.table(rows), tmp_path / "turned.parquet")
    assert bright_at_the_top(load(str(tmp_path / "turned.parquet"), **WHOLE).train.batch(every))


@pytest.mark.usefixtures("decoded_per_batch")
def test_windows_are_cut_out_of_the_upright_image(turned):
    samples = load(str(turned), image_size=8, **WHOLE).train
    assert samples.sizes.tolist() == [[30, 20]] * 6
    first = torch.tensor([0])
    assert samples.windows(first, torch.tensor([[0, 0, 8, 20]])).unique().tolist() == [200]
    assert samples.windows(first, torch.tensor([[12, 0, 18, 20]])).unique().tolist() == [0]


def twelve_bits(brightest, seed=0):
    values = np.random.default_rng(seed).integers(0, brightest + 1, (8, 8), dtype=np.uint16)
    values[0, 0] = brightest
    return values


@pytest.fixture
def dark_and_bright(tmp_path):
    """12 bits in files of 16; ``dark`` is a tenth as bright."""
    pictures = {
        "dark": [pillow(twelve_bits(410, seed)) for seed in range(4)],
        "bright": [pillow(twelve_bits(4095, seed)) for seed in range(4)],
    }
    return folders(tmp_path / "depth", pictures)


@pytest.mark.parametrize("budget", [0, 2**30])
def test_twelve_bits_in_sixteen_use_all_grey_levels_and_keep_their_brightness(dark_and_bright, budget, monkeypatch):
    monkeypatch.setattr(images, "MEMORY_BUDGET", budget)
    dataset = load(str(dark_and_bright), **WHOLE)
    pixels = dataset.train.batch(torch.arange(8))
    assert pixels.shape == (8, 1, 8, 8)
    assert [int(image.max()) for image in pixels] == [255] * 4 + [26] * 4
    assert dataset.preprocess["ranges"] == {"16-bit grey": [0, 4095]}
    assert told(dataset.notes, "8 of 8 images hold 16-bit grey values: 0 to 4095 become 0 to 255")


def test_later_images_are_scaled_as_those_of_training_were(dark_and_bright, tmp_path):
    dataset = load(str(dark_and_bright), **WHOLE)
    alone, notes = later(dark_and_bright / "dark" / "0.png", dataset)
    assert int(alone.max()) == 26
    assert not told(notes, "outside")
    brighter = folders(tmp_path / "new", {"dark": [pillow(twelve_bits(1000)), pillow(twelve_bits(8190))]})
    pixels, notes = later(brighter, dataset)
    assert [int(image.max()) for image in pixels] == [62, 255]
    assert told(notes, "1 image has 16-bit grey values outside 0 to 4095", "1.png")


def test_the_range_is_that_of_the_training_part_alone(tmp_path):
    for part, brightest in (("train", 1023), ("test", 4095)):
        folders(tmp_path / part, {name: [pillow(twelve_bits(brightest))] * 3 for name in "ab"})
    dataset = load(str(tmp_path), validation_fraction=0)
    assert dataset.preprocess["ranges"] == {"16-bit grey": [0, 1023]}
    assert told(dataset.notes, "6 images have 16-bit grey values outside 0 to 1023")


def test_files_of_8_and_of_16_bits_are_scaled_by_their_own_depth(tmp_path):
    shades = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    deep = pillow(np.rint(shades / 255 * 4095).astype(np.uint16))
    dataset = load(str(folders(tmp_path / "mixed", {"a": [pillow(shades)] * 3, "b": [deep] * 3})), **WHOLE)
    pixels = dataset.train.batch(torch.arange(6))
    assert (pixels == torch.from_numpy(shades)).all()
    assert told(dataset.notes, "3 of 6 images hold 16-bit grey values", "the others by ranges of their own")


def test_a_later_depth_whose_range_is_unknown_is_an_error(class_folders, tmp_path):
    dataset = load(str(class_folders), **WHOLE)
    with pytest.raises(DataError, match=r"0\.png: holds 16-bit grey values .* no training image does"):
        later(folders(tmp_path / "new", {"cat": [pillow(twelve_bits(4095))]}), dataset)
    _, notes = later(folders(tmp_path / "full", {"cat": [pillow(twelve_bits(65535))]}), dataset)
    assert told(notes, "1 of 1 images hold 16-bit grey values: 0 to 65535 become 0 to 255")


def test_an_image_that_is_not_a_number_is_named_or_skipped(tmp_path):
    good = np.random.default_rng(0).random((8, 8), dtype=np.float32)
    bad = good.copy()
    bad[3, 3] = np.nan
    root = folders(tmp_path / "floats", {"a": [tiff(good)] * 3, "b": [tiff(good), tiff(good), tiff(bad)]}, "tif")
    with pytest.raises(DataError, match=r"b/2\.tif: .*NaN or infinite"):
        load(str(root), **WHOLE)
    dataset = load(str(root), skip_bad=True, **WHOLE)
    assert len(dataset.train) == 5
    assert told(dataset.notes, "1 of 6 images cannot be read", "2.tif")
    assert np.array_equal(dataset.train.batch(torch.tensor([0]))[0, 0].numpy(), np.rint(good * 255))


def test_frames_transparency_and_images_of_one_colour_are_told(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    several = pillow(noise, save_all=True, append_images=[Image.fromarray(255 - noise)])
    clear = pillow(np.dstack([noise, np.full((8, 8), 255, np.uint8)]))
    flat = pillow(np.full((8, 8, 3), 7, np.uint8))
    root = folders(tmp_path / "kinds", {"a": [several, clear, pillow(noise)], "b": [flat, clear, pillow(noise)]})
    dataset = load(str(root), **WHOLE)
    assert told(dataset.notes, "1 image has several pages or frames", "0.png")
    assert told(dataset.notes, "2 images have an alpha channel")
    assert told(dataset.notes, "1 image is of one colour alone", "0.png")
    assert not told(dataset.notes, "little else")
    _, notes = later(root / "b", dataset)
    assert told(notes, "1 image is of one colour alone")
    assert told(notes, "1 image has an alpha channel")


def test_a_training_part_of_a_sixteenth_of_the_values_is_told(tmp_path):
    dark = [pillow(np.random.default_rng(seed).integers(0, 16, (8, 8), dtype=np.uint8)) for seed in range(3)]
    dataset = load(str(folders(tmp_path / "dark", {"a": dark, "b": dark})), **WHOLE)
    assert told(dataset.notes, "0 to 15 of the values 0 to 255 and little else")


@pytest.mark.usefixtures("decoded_per_batch")
def test_images_decoded_per_batch_are_looked_at_here_and_there(tmp_path):
    dark = [pillow(np.full((8, 8), shade, np.uint8)) for shade in (3, 4, 5)]
    dataset = load(str(folders(tmp_path / "dark", {"a": dark, "b": dark})), **WHOLE)
    assert told(dataset.notes, "of 6 training images examined: 6 images are of one colour alone")
    assert told(dataset.notes, "of 6 training images examined", "3 to 5 of the values 0 to 255")
