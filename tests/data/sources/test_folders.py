import os

import pytest

from imbsam.data import load, load_like
from imbsam.errors import DataError, DataWarning

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


def test_files_may_lie_deeper_in_their_class_and_what_is_not_read_is_named(class_folders, save_image):
    save_image(class_folders / "cat" / "more" / "deep.JPG")
    (class_folders / "cat" / "._cat0.png").write_text("left by another system")
    (class_folders / ".cache").mkdir()
    (class_folders / "cat" / "labels.txt").write_text("not an image by its ending")
    for name in ("train", "fox.zip", "gnu.lnk"):
        (class_folders / name).write_text("beside the classes")
    dataset = load(str(class_folders), **WHOLE)
    assert len(dataset.train) == 19
    assert dataset.notes == (
        f"not read in {class_folders}: fox.zip, gnu.lnk, train.",
        "files that are not images were not read: 1 .txt (first cat/labels.txt).",
    )


def test_class_folders_may_be_links(class_folders, tmp_path):
    linked = tmp_path / "linked"
    linked.mkdir()
    for name in ("cat", "dog"):
        (linked / name).symlink_to(class_folders / name)
    (tmp_path / "source").symlink_to(linked)
    dataset = load(str(tmp_path / "source"), **WHOLE)
    assert (dataset.classes, len(dataset.train), dataset.notes) == (("cat", "dog"), 12, ())


def test_parts_that_are_links_to_the_same_folder_are_named(class_folders, tmp_path):
    for name in ("train", "val"):
        (tmp_path / "parts" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "parts" / name).symlink_to(class_folders)
    dataset = load(str(tmp_path / "parts"))
    assert len(dataset.train) == len(dataset.validation) == 18
    assert any("val/cat is train/cat, val/dog is train/dog" in note for note in dataset.notes)


def test_a_class_that_would_vanish_is_refused(class_folders):
    (class_folders / "fox").mkdir()
    with pytest.raises(DataError, match=r"pets/fox: this class has no image\. Add some, or remove"):
        load(str(class_folders))
    for name in ("a.cr2", "b.cr2", "c.txt"):
        (class_folders / "fox" / name).write_text("no image")
    with pytest.raises(DataError, match=r"fox: no file in it is an image .*\(2 \.cr2, 1 \.txt\).*Convert"):
        load(str(class_folders), skip_bad=True)


def test_a_class_whose_link_leads_nowhere_is_refused(class_folders):
    (class_folders / "fox").symlink_to("nowhere")
    with pytest.raises(DataError, match="pets/fox: this link leads nowhere"):
        load(str(class_folders))


def test_a_class_without_test_images_is_named(tmp_path, save_image):
    for name in ("train/a", "train/b", "test/a"):
        save_image(tmp_path / name / "x.png")
    (tmp_path / "test" / "b").mkdir()
    (tmp_path / "README.md").write_text("beside the parts")
    dataset = load(str(tmp_path), validation_fraction=0)
    assert dataset.notes == (f"not read in {tmp_path}: README.md.", "folders without an image: test/b.")


def test_test_images_without_class_folders_are_left_out_and_said(tmp_path, save_image):
    for name in ("train/a/x", "train/b/x", "test/x", "test/y"):
        save_image(tmp_path / f"{name}.png")
    dataset = load(str(tmp_path), **WHOLE)
    assert dataset.test is None
    assert any("test has no class folders" in note for note in dataset.notes)
    assert any("test part has no labels and was left out" in note for note in dataset.notes)
    with pytest.warns(DataWarning, match="test has no class folders, so its images are unlabelled"):
        samples, labelled = load_like(str(tmp_path), dataset.preprocess)
    assert (len(samples), labelled) == (2, False)


def test_images_beside_the_class_folders_of_a_part_are_refused(tmp_path, save_image):
    for name in ("train/a/x", "train/b/x", "test/a/x", "test/loose"):
        save_image(tmp_path / f"{name}.png")
    with pytest.raises(DataError, match=r"test: 1 images lie outside any class folder, first loose\.png"):
        load(str(tmp_path))


def test_a_class_may_be_called_train(tmp_path, save_image):
    for name in ("bus", "car", "train"):
        for day in ("day1", "day2"):
            save_image(tmp_path / name / day / "x.png")
    dataset = load(str(tmp_path), **WHOLE)
    assert dataset.classes == ("bus", "car", "train")
    assert any("not as parts of the data: train" in note for note in dataset.notes)


def test_names_that_are_no_text_are_read(tmp_path, save_image):
    picture = save_image(tmp_path / "a.png").read_bytes()
    for name in (b"M\xfcller", b"Schmidt"):
        folder = tmp_path / "pets" / os.fsdecode(name)
        folder.mkdir(parents=True)
        (folder / os.fsdecode(b"Stra\xdfe.png")).write_bytes(picture)
    dataset = load(str(tmp_path / "pets"), **WHOLE)
    assert dataset.classes == ("M\\xfcller", "Schmidt")


def test_one_class_folder_alone_is_refused(tmp_path, save_image):
    save_image(tmp_path / "cat" / "a.png")
    with pytest.raises(DataError, match="only one class"):
        load(str(tmp_path))


def test_images_without_class_folders_are_refused_in_training(tmp_path, save_image):
    save_image(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"outside any class folder, first a\.png.*Expected <class>"):
        load(str(tmp_path))


def test_a_training_folder_without_class_folders_is_refused(tmp_path, save_image):
    save_image(tmp_path / "train" / "a.png")
    with pytest.raises(DataError, match=r"outside any class folder, first a\.png.*If train is a class"):
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
    several, labelled = load_like(f"{tmp_path}/new/[02].png", preprocess)
    assert (len(several), labelled) == (2, False)


def test_a_further_image_whose_link_leads_nowhere_is_named_or_skipped(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    save_image(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "b.png").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"new/b\.png: there is no such file"):
        load_like(str(tmp_path / "new"), preprocess)
    with pytest.warns(DataWarning, match=r"b\.png"):
        samples, _ = load_like(str(tmp_path / "new"), preprocess, skip_bad=True)
    assert len(samples) == 1


def test_of_further_images_what_is_not_read_is_warned_of(class_folders, tmp_path, save_image):
    preprocess = load(str(class_folders)).preprocess
    save_image(tmp_path / "new" / "a.png")
    (tmp_path / "new" / "nothing").mkdir()
    (tmp_path / "new" / "predictions.csv").write_text("file,class")
    with pytest.warns(DataWarning) as warned:
        samples, _ = load_like(str(tmp_path / "new"), preprocess)
    assert len(samples) == 1
    assert ["not read in" in str(warning.message) for warning in warned] == [True, False]
    assert "folders without an image: nothing" in str(warned[1].message)


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


def test_a_class_folder_that_is_not_utf_8_is_read_by_its_readable_name(tmp_path, save_image):
    for name in ("M\udcfcller", "Schmidt"):
        save_image(tmp_path / name / "a.png").rename(tmp_path / name / "St\udcdf.png")
    dataset = load(str(tmp_path), **WHOLE)
    assert dataset.classes == (r"M\xfcller", "Schmidt")
    with pytest.warns(DataWarning, match="these are the data that the model was trained on"):
        samples, labelled = load_like(str(tmp_path), dataset.preprocess)
    assert labelled
    assert samples.targets.tolist() == [0, 1]


def test_two_folders_with_one_readable_name_are_refused(tmp_path, save_image):
    for name in ("M\udcfcller", r"M\xfcller", "Schmidt"):
        save_image(tmp_path / name / "a.png")
    with pytest.raises(DataError, match="two folders of classes would both be"):
        load(str(tmp_path), **WHOLE)
