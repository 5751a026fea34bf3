"""Data sets as they are handed out: what is missing or of another number is told with the place to get it."""

from dataclasses import replace
from pathlib import Path

import pytest

from imbsam.data.layouts import LAYOUTS
from imbsam.errors import DataError
from recipe_data import MAKERS

SMALL = replace(
    LAYOUTS["imagenet-lt"],
    samples={"train": 80, "validation": 20, "test": 40},
    classes=10,
    largest=30,
    smallest=3,
)


@pytest.fixture
def made(tmp_path) -> Path:
    return MAKERS["imagenet-lt"](tmp_path / "data", SMALL)


def test_data_of_the_layout_are_accepted(made):
    raw = SMALL.check(SMALL.source(str(made)))
    assert {name: len(part) for name, part in raw.parts.items()} == dict(SMALL.samples)


def test_lists_of_other_numbers_are_refused_with_every_difference(tmp_path):
    asked = LAYOUTS["inaturalist-2018"]
    other = replace(asked, samples={"train": 90, "validation": 20}, classes=10, largest=20, smallest=3)
    data = MAKERS["inaturalist-2018"](tmp_path / "data", other)
    with pytest.raises(DataError) as caught:
        asked.check(asked.source(str(data)))
    for difference in (
        "10 classes, not 8,142",
        "90 train images, not 437,513",
        "20 validation images, not 24,426",
        "20 training images in the largest class, not 1,000",
        "3 training images in the smallest class, not 2",
        "https://github.com/visipedia/inat_comp",
    ):
        assert difference in str(caught.value)


def test_a_missing_image_is_named(made):
    (made / "val" / "n01440764" / "ILSVRC2012_val_1.JPEG").unlink()
    with pytest.raises(DataError, match=r"1 of the test images .* first .*ILSVRC2012_val_1\.JPEG\. .*LISTS@IMAGES"):
        SMALL.check(SMALL.source(str(made)))


def test_a_missing_list_is_named(made):
    (made / "ImageNet_LT_test.txt").unlink()
    with pytest.raises(DataError, match=r"has no list \*test\*\.txt\. Needed are"):
        SMALL.source(str(made))


def test_lists_and_images_may_lie_apart(made, tmp_path):
    (tmp_path / "lists").mkdir()
    for path in made.glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    # Kaggle's folder of ImageNet holds tables, which are none of the layout's business.
    (made / "LOC_val_solution.csv").write_text("ImageId,PredictionString\na,b\n")
    source = SMALL.source(f"{tmp_path / 'lists'}@{made}")
    assert source == f"{tmp_path / 'lists'}@{made}"
    SMALL.check(source)


@pytest.mark.parametrize(
    ("layout", "place", "told"),
    [
        ("imagenet-lt", "nowhere", "'nowhere': there is no such file or folder. Needed are the lists"),
        ("imagenet-lt", ".", r"has no list \*train\*.txt, \*val\*.txt, \*test\*.txt. Needed are the lists"),
        ("inaturalist-2018", ".@nowhere", "'nowhere': there is no such file or folder."),
        ("cifar-100", ".", r"holds no CIFAR python archive \(the files train, test and meta\). Needed is"),
    ],
)
def test_a_place_without_the_files_is_told_what_is_needed(tmp_path, monkeypatch, layout, place, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=told):
        LAYOUTS[layout].source(place)
