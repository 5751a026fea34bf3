import base64
import io

import torch
from PIL import Image

from imbsam import ClassPriors
from imbsam.data.dataset import TensorSamples
from imbsam.decisions import posterior_under
from imbsam.inputs import ImageSpec, TableSpec
from imbsam.runs.examples import confused_examples
from imbsam.runs.folder import RunFolder

COUNTS = [50, 5]
CONFUSION = [[1, 0], [3, 0]]
SPEC = ImageSpec(3, 4, 4, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
LOGITS = torch.tensor([[5.0, 0.0], [1.0, 0.0], [4.0, 0.0], [2.0, 0.0]])


POSTERIOR = posterior_under("training", ClassPriors.from_counts(COUNTS), ["0", "1"])


def samples(size: int = 4) -> TensorSamples:
    pixels = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, size, size) * 10
    return TensorSamples(pixels, torch.tensor([0, 1, 1, 1]), ["a.png", "b.png", "c.png", "d.png"])


def decoded(image) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(image.png)))


def test_the_surest_mistakes_come_first_with_their_pixels():
    (pair,) = confused_examples(POSTERIOR, LOGITS, samples(), SPEC, CONFUSION, COUNTS)
    assert (pair.true, pair.predicted) == (1, 0)
    assert [image.name for image in pair.images] == ["c.png", "d.png", "b.png"]
    assert [decoded(image).getpixel((0, 0)) for image in pair.images] == [(20,) * 3, (30,) * 3, (10,) * 3]
    probabilities = [image.probability for image in pair.images]
    torch.testing.assert_close(torch.tensor(probabilities), LOGITS[[2, 3, 1]].softmax(1)[:, 0])


def test_large_images_become_small():
    (pair,) = confused_examples(POSTERIOR, LOGITS, samples(500), SPEC, CONFUSION, COUNTS)
    assert {decoded(image).size for image in pair.images} == {(64, 64)}


def test_rows_of_a_table_and_classes_without_a_matrix_have_no_images():
    assert confused_examples(POSTERIOR, LOGITS, samples(), TableSpec(2, ()), CONFUSION, COUNTS) == ()
    assert confused_examples(POSTERIOR, LOGITS, samples(), SPEC, None, COUNTS) == ()


def test_a_run_keeps_examples_of_its_test_data(tmp_path, train):
    result = train(tmp_path / "run", epochs=1)
    held = RunFolder(tmp_path / "run").read_examples()
    assert held.split == "test"
    for pair in held.confused:
        assert result.counts[pair.true] < result.counts[pair.predicted]
        assert 1 <= len(pair.images) <= result.test.confusion[pair.true][pair.predicted]
