import pytest

from imbsam.data.sources.part_folders import folders_of_parts
from imbsam.errors import DataError


@pytest.fixture
def told(tmp_path, save_image):
    """Folders by a pattern each, ``+`` for images in it, ``/`` for images in folders of it; what they are told for."""

    def tell(*names: str):
        for name in names:
            folder = tmp_path / name.rstrip("+/")
            folder.mkdir()
            if "+" in name:
                save_image(folder / "0.png")
            if "/" in name:
                save_image(folder / "one" / "0.png")
                save_image(folder / "two" / "0.png")
        parts, notes = folders_of_parts(tmp_path, sorted(path for path in tmp_path.iterdir() if path.is_dir()))
        return {part: [path.name for path in of] for part, of in parts.items()}, notes

    return tell


@pytest.mark.parametrize(
    ("names", "parts"),
    [
        (("train/",), {"train": ["train"]}),
        (("Train/", "TEST/"), {"train": ["Train"], "test": ["TEST"]}),
        (("train/", "dev/", "testing+"), {"train": ["train"], "validation": ["dev"], "test": ["testing"]}),
        (("pets-train/", "pets-test/"), {"train": ["pets-train"], "test": ["pets-test"]}),
        (("train_1/", "train_2/", "val/"), {"train": ["train_1", "train_2"], "validation": ["val"]}),
        (("train/", "val/", "docs"), {"train": ["train"], "validation": ["val"]}),
    ],
)
def test_folders_are_parts_where_all_names_speak_of_parts(told, names, parts):
    assert told(*names) == (parts, ())


@pytest.mark.parametrize(
    "names",
    [
        ("bus+", "car+", "train+"),
        ("bus+", "car+", "freight-train+"),
        ("bus+", "car+", "train+/"),
        ("freight-train+", "passenger-train+"),
        ("dev+", "ops+", "test+"),
        ("valid+", "invalid+"),
        ("training+", "test+", "bus+"),
        ("bus/", "car+"),
    ],
)
def test_folders_are_classes_where_one_name_does_not(told, names):
    assert told(*names) == ({}, ())


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("bus/", "car/", "train/"), "train"),
        (("bus+", "freight-train/"), "freight-train"),
        (("freight-train/", "passenger-train/"), "freight-train, passenger-train"),
        (("invalid+", "valid/"), "valid"),
    ],
)
def test_a_class_that_looks_like_a_part_is_named(told, names, said):
    parts, notes = told(*names)
    assert parts == {}
    assert notes == (f"read as classes like the folders beside them, not as parts of the data: {said}.",)


@pytest.mark.parametrize("names", [("train/", "test/", "extra+"), ("train/", "bus+"), ("train/", "val+", "car/")])
def test_folders_that_could_be_either_are_refused(told, names):
    with pytest.raises(DataError, match=r"could be parts of a data set or classes beside .*For parts.*for classes"):
        told(*names)


@pytest.mark.parametrize("names", [("test/", "val/"), ("test+",), ("dev+", "test+")])
def test_parts_without_one_to_train_on_are_refused(told, names):
    with pytest.raises(DataError, match="no folder train beside them"):
        told(*names)
