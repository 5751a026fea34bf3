import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from imbsam.data import load, load_like
from imbsam.errors import DataError

WHOLE = {"test_fraction": 0.0, "validation_fraction": 0.0}


def png(shade):
    buffer = io.BytesIO()
    pixels = np.full((6, 6, 3), shade, np.uint8)
    pixels[-1] = 255
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write(path, labels, *, names=("cat", "dog"), image="image", label="label", plain=False, images=None):
    """Images whose upper rows are ten times their number, as the Hugging Face hub stores them."""
    content = images or [png(10 * row) for row in range(len(labels))]
    cells = content if plain else [{"bytes": cell, "path": f"{row}.png"} for row, cell in enumerate(content)]
    table = pa.table({image: cells, label: labels})
    if names:
        features = {label: {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table, path)
    return str(path)


@pytest.mark.parametrize(
    "layout", [{}, {"plain": True}, {"image": "img", "label": "fine_label"}, {"image": "img", "label": "labels"}]
)
def test_the_usual_columns_are_found(tmp_path, layout):
    dataset = load(write(tmp_path / "pets.parquet", [0, 1, 1, 0], **layout), **WHOLE)
    assert dataset.name == "pets"
    assert dataset.classes == ("cat", "dog")
    assert dataset.train.targets.tolist() == [0, 1, 1, 0]
    assert dataset.train.batch(torch.arange(4))[:, 0, 0, 0].tolist() == [0, 10, 20, 30]
    assert dataset.train.names[2] == "pets.parquet row 3"


def test_without_metadata_the_labels_name_the_classes(tmp_path):
    assert load(write(tmp_path / "a.parquet", [7, 12, 7], names=None), **WHOLE).classes == ("7", "12")
    assert load(write(tmp_path / "b.parquet", ["x", "w"], names=None), **WHOLE).classes == ("w", "x")


def test_file_names_make_the_parts_and_shards_are_joined(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [1, 0, 1])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 1])
    for source in (tmp_path, tmp_path / "data", tmp_path / "data" / "*.parquet"):
        dataset = load(str(source), validation_fraction=0)
        assert dataset.train.targets.tolist() == [0, 1, 1, 0, 1]
        assert dataset.test.targets.tolist() == [1, 1]
        assert dataset.test.names[1] == "test-00000-of-00001.parquet row 2"


def test_columns_that_are_not_read_are_named(tmp_path):
    path = write(tmp_path / "a.parquet", [0, 1])
    pq.write_table(pq.read_table(path).append_column("taken", [["x", "y"]]).append_column("labels", [[3, 4]]), path)
    assert load(path, **WHOLE).notes == ("columns that were not read: taken, labels.",)


def test_files_that_number_the_classes_otherwise_are_refused(tmp_path):
    write(tmp_path / "train.parquet", [0, 1])
    write(tmp_path / "test.parquet", [0, 1], names=("dog", "cat"))
    with pytest.raises(DataError, match=r"test\.parquet: its classes are dog, cat, but cat, dog in train\.parquet"):
        load(str(tmp_path))


def test_the_target_option_names_the_label_column(tmp_path):
    path = write(tmp_path / "a.parquet", ["x", "y"], names=None, label="colour")
    assert load(path, target="colour", **WHOLE).classes == ("x", "y")
    samples, labelled = load_like(
        write(tmp_path / "b.parquet", ["y"], names=None, label="colour"),
        load(path, target="colour", **WHOLE).preprocess,
    )
    assert labelled
    assert samples.targets.tolist() == [1]
    with pytest.raises(DataError, match=r"no column label .*columns are image, colour"):
        load(path)


def test_classes_of_the_metadata_without_samples_are_left_out_and_named(tmp_path):
    dataset = load(write(tmp_path / "a.parquet", [2, 0, 2], names=("a", "b", "c")), **WHOLE)
    assert dataset.classes == ("a", "c")
    assert dataset.train.targets.tolist() == [1, 0, 1]
    assert any("left out: b" in note for note in dataset.notes)


def test_classes_of_one_name_stay_apart(tmp_path):
    dataset = load(write(tmp_path / "a.parquet", [0, 1], names=("crane", "crane")), **WHOLE)
    assert dataset.classes == ("crane (0)", "crane (1)")


@pytest.mark.parametrize("label", [2, -1])
def test_a_label_outside_the_metadata_is_named(tmp_path, label):
    with pytest.raises(DataError, match=rf"a\.parquet row 3: label {label} is outside the 2 classes"):
        load(write(tmp_path / "a.parquet", [0, 1, label]))


def test_a_test_part_with_secret_labels_is_left_out_and_said(tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 0, 1])
    write(tmp_path / "test.parquet", [-1, -1])
    dataset = load(str(tmp_path), validation_fraction=0)
    assert any("test part has no labels" in note for note in dataset.notes)
    samples, labelled = load_like(str(tmp_path), dataset.preprocess)
    assert (len(samples), labelled) == (2, False)


def test_an_empty_label_is_named_or_skipped(tmp_path):
    path = write(tmp_path / "a.parquet", [0, None, 1])
    with pytest.raises(DataError, match=r"row 2: column 'label' is empty"):
        load(path)
    dataset = load(path, skip_bad=True, **WHOLE)
    assert dataset.train.names == ["a.parquet row 1", "a.parquet row 3"]
    assert any("1 rows without a label" in note for note in dataset.notes)


def test_an_empty_or_damaged_image_is_named_by_its_row(tmp_path):
    path = write(tmp_path / "a.parquet", [0, 1, 0], images=[png(0), None, png(1)[:20]])
    with pytest.raises(DataError, match=r"a\.parquet row 2: not an image.*1 more of 3"):
        load(path, **WHOLE)


@pytest.mark.parametrize("content", [b"", b"no parquet at all", b"PAR1 cut off"])
def test_a_file_that_is_not_parquet_is_named(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet: cannot be read as Parquet"):
        load(str(tmp_path / "a.parquet"))


def test_a_parquet_cut_in_half_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    write(path, [0, 1])
    content = bytearray(path.read_bytes())
    content[20:200] = bytes(180)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"a\.parquet"):
        load(str(path), **WHOLE)


def test_further_images_without_a_label_column_are_unlabelled(tmp_path):
    dataset = load(write(tmp_path / "a.parquet", [0, 1]), **WHOLE)
    pq.write_table(pa.table({"image": [png(3)]}), tmp_path / "new.parquet")
    samples, labelled = load_like(str(tmp_path / "new.parquet"), dataset.preprocess)
    assert not labelled
    assert samples.targets.tolist() == [-1]
