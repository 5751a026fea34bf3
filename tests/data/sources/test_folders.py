import pytest

from imbsam.data import load, load_like
from imbsam.errors import DataError

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


def test_classes_are_the_sorted_folder_names(class_folders):
    dataset = load(str(class_folders), **WHOLE)
    assert dataset.classes == ("cat", "dog", "eel")
    assert dataset.name == "pets"
    assert all(dataset.classes[y] in name for name, y in zip(dataset.train.names, dataset.train.targets, strict=True))


def test_numbered_class_folders_are_in_numeric_order(tmp_path, save_image):
    for name in ("10", "9", "1"):
        save_image(tmp_path / name / "a.png")
    assert load(str(tmp_path), **WHOLE).classes == ("1", "9", "10")


@pytest.mark.parametrize("validation", ["val", "valid", "validation"])
def test_folders_above_the_classes_make_the_parts(tmp_path, save_image, validation):
    for part, count in (("train", 4), (validation, 2), ("test", 3)):
        for name in ("a", "b"):
            for number in range(count):
                save_image(tmp_path / part / name / f"{number}.jpg")
    dataset = load(str(tmp_path))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [8, 4, 6]


def test_files_may_lie_deeper_in_their_class_and_hidden_ones_are_passed_over(class_folders, save_image):
    save_image(class_folders / "cat" / "more" / "deep.JPG")
    (class_folders / "cat" / "._cat0.png").write_text("left by another system")
    (class_folders / ".cache").mkdir()
    (class_folders / "cat" / "labels.txt").write_text("not an image by its ending")
    assert len(load(str(class_folders), **WHOLE).train) == 19


def test_a_class_folder_without_images_is_ignored_and_named(class_folders):
    (class_folders / "fox").mkdir()
    dataset = load(str(class_folders))
    assert dataset.classes == ("cat", "dog", "eel")
    assert any("fox holds no image" in note for note in dataset.notes)


def test_one_class_folder_alone_is_refused(tmp_path, save_image):
    save_image(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match="one class only"):
        load(str(tmp_path))


def test_images_without_class_folders_are_refused_in_training(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"outside any class folder, first a\.png.*Expected <class>"):
        load(str(tmp_path))


def test_a_training_folder_without_class_folders_is_refused(tmp_path, save_image):
    save_image(tmp_path / "train" / "a.png")
    with pytest.raises(DataError, match="no class folder with images"):
        load(str(tmp_path))


def test_a_class_in_the_test_folders_that_training_lacks_is_named(tmp_path, save_image):
    for name in ("train/a", "train/b", "test/a", "test/c"):
        save_image(tmp_path / name / "x.png")
    with pytest.raises(DataError, match="test part has samples of 'c'"):
        load(str(tmp_path))


def test_further_images_need_no_class_folders(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    for number in range(3):
        save_image(tmp_path / "new" / f"{number}.png", size=(40, 30))
    samples, labelled = load_like(str(tmp_path / "new"), preprocess)
    assert not labelled
    assert samples.targets.tolist() == [-1] * 3
    assert samples.batch(samples.targets + 1).shape == (3, 3, 10, 12)
    single, labelled = load_like(str(tmp_path / "new" / "0.png"), preprocess)
    assert (len(single), labelled) == (1, False)


def test_further_images_in_class_folders_are_labelled_by_name(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    save_image(tmp_path / "new" / "eel" / "a.png")
    samples, labelled = load_like(str(tmp_path / "new"), preprocess)
    assert labelled
    assert samples.targets.tolist() == [2]


def test_a_further_class_that_training_had_not_is_named(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    save_image(tmp_path / "new" / "fox" / "a.png")
    with pytest.raises(DataError, match="'fox' is not among the classes of training: cat, dog, eel"):
        load_like(str(tmp_path / "new"), preprocess)


def test_of_further_data_in_parts_the_test_part_is_taken(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    for name in ("train/cat/a", "train/dog/b", "test/dog/c"):
        save_image(tmp_path / "new" / f"{name}.png")
    samples, _ = load_like(str(tmp_path / "new"), preprocess)
    assert [name.rsplit("/", 1)[1] for name in samples.names] == ["c.png"]
