import os

import pytest

from imbsam.data import load
from imbsam.errors import DataError

LINES = [f"img/{label}/{number}.jpg {label}" for label in (0, 2, 10) for number in range(4)]
WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


@pytest.fixture
def lists(tmp_path, save_image):
    """A folder with images and the list ``Some_LT_train.txt`` of all of them."""
    for line in LINES:
        save_image(tmp_path / line.split()[0])
    (tmp_path / "Some_LT_train.txt").write_text("\n".join(LINES) + "\n")
    return tmp_path


def test_labels_are_the_classes_in_numeric_order(lists):
    dataset = load(str(lists), **WHOLE)
    assert dataset.classes == ("0", "2", "10")
    assert dataset.train.targets.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert dataset.train.names[0] == str(lists / "img/0/0.jpg")


@pytest.mark.parametrize("source", [".", "Some_LT_train.txt"])
@pytest.mark.parametrize("names", [("val", "test"), ("dev", "testing"), ("Valid", "TEST")])
def test_lists_of_the_other_parts_are_found_beside(lists, source, names):
    for name, count in zip(names, (2, 3), strict=True):
        (lists / f"Some_LT_{name}.txt").write_text("\n".join(LINES[:count]))
    dataset = load(str(lists / source))
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [12, 2, 3]


@pytest.mark.parametrize("source", [".", "Some_LT_train.txt"])
def test_several_lists_for_another_part_are_named(lists, source):
    for name in ("val", "dev"):
        (lists / f"Some_LT_{name}.txt").write_text(LINES[0])
    with pytest.raises(DataError, match=r"several lists for the validation part: Some_LT_dev\.txt, Some_LT_val\.txt"):
        load(str(lists / source))


def test_images_may_lie_under_another_root(lists, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("lists")
    (lists / "Some_LT_train.txt").rename(elsewhere / "train.txt")
    for source in (elsewhere, elsewhere / "train.txt"):
        assert len(load(f"{source}@{lists}", **WHOLE).train) == 12


def test_several_lists_for_one_part_are_named(lists):
    (lists / "Other_train.txt").write_text(LINES[0])
    with pytest.raises(DataError, match=r"Other_train\.txt, Some_LT_train\.txt"):
        load(str(lists))
    assert len(load(str(lists / "Some_LT_train.txt"), **WHOLE).train) == 12


def test_what_the_folder_holds_beside_is_named(lists, save_image):
    (lists / "classes.txt").write_text("cat")
    save_image(lists / "more" / "a.jpg")
    assert load(str(lists), **WHOLE).notes == (f"not read in {lists}: classes.txt, more/.",)


def test_files_that_are_listed_twice_are_named(lists):
    (lists / "Some_LT_train.txt").write_text("\n".join([*LINES, LINES[0], "./" + LINES[1]]))
    (lists / "Some_LT_test.txt").write_text("\n".join(LINES[:3]))
    dataset = load(str(lists), **WHOLE)
    assert len(dataset.train) == 14
    assert dataset.notes == (
        "Some_LT_train.txt names 2 files more than once (first img/0/0.jpg); each mention counts.",
        "3 files of Some_LT_test.txt are in Some_LT_train.txt too (first img/0/0.jpg).",
    )


def test_a_file_of_two_labels_is_refused(lists):
    (lists / "Some_LT_train.txt").write_text("\n".join([*LINES, "img/0/3.jpg 2"]))
    with pytest.raises(DataError, match=r"line 13: 'img/0/3\.jpg' has the label 2, but 0 in line 4"):
        load(str(lists))


def test_lists_may_begin_with_a_byte_order_mark_and_hold_any_names(lists, save_image):
    name = os.fsdecode(b"img/0/Stra\xdfe\x85.jpg")
    (lists / "img/0/0.jpg").rename(lists / name)
    lines = [f"{name} 0", *LINES[1:]]
    (lists / "Some_LT_train.txt").write_bytes(b"\xef\xbb\xbf" + os.fsencode("\r\n".join(lines)))
    assert load(str(lists), **WHOLE).train.names[0] == str(lists / name)


def test_paths_may_hold_spaces(lists, save_image):
    save_image(lists / "img" / "a b.jpg")
    (lists / "Some_LT_train.txt").write_text("\n".join([*LINES, "img/a b.jpg 2"]))
    assert load(str(lists), **WHOLE).train.names[-1].endswith("a b.jpg")


@pytest.mark.parametrize("line", ["img/0/0.jpg", "img/0/0.jpg cat", "img/0/0.jpg -1", "img/0/0.jpg 1.5", "7"])
def test_a_malformed_line_is_named_by_its_number(lists, line):
    (lists / "Some_LT_train.txt").write_text("\n".join([*LINES[:2], "", line]))
    with pytest.raises(DataError, match=r"Some_LT_train\.txt line 4: expected 'relative/path label'"):
        load(str(lists))


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/secret.jpg", "img/../../secret.jpg"])
def test_a_path_that_leaves_the_root_is_refused(lists, path):
    (lists / "Some_LT_train.txt").write_text("\n".join([LINES[0], f"{path} 1"]))
    with pytest.raises(DataError, match=r"line 2: the path .* leaves the root"):
        load(str(lists))


def test_a_listed_image_that_is_not_there_is_named_or_skipped(lists):
    (lists / "img/2/1.jpg").unlink()
    with pytest.raises(DataError, match=r"img/2/1\.jpg: there is no such file"):
        load(str(lists), **WHOLE)
    assert len(load(str(lists), skip_bad=True, **WHOLE).train) == 11


def test_a_class_that_only_the_test_list_has_is_named(lists, save_image):
    (lists / "Some_LT_test.txt").write_text("img/0/0.jpg 3")
    with pytest.raises(DataError, match="test part has samples of '3'"):
        load(str(lists))


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xef\xbb\xbf\n"])
def test_an_empty_list_is_named(lists, content):
    (lists / "Some_LT_train.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"Some_LT_train\.txt: the list is empty"):
        load(str(lists))


def test_a_list_that_is_no_text_is_named(lists):
    (lists / "Some_LT_train.txt").write_bytes("\n".join(LINES).encode("utf-16"))
    with pytest.raises(DataError, match="cannot be read as a text file"):
        load(str(lists))
