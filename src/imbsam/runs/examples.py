"""Images of the worst confusions, stored beside a run's result."""

import base64
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from imbsam import data
from imbsam.decisions import Posterior
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.metrics import worst_confusions
from imbsam.runs.records import ConfusedPair, Example

Matrix = Sequence[Sequence[int]]

PAIRS, IMAGES, SIDE = 8, 3, 64


def confused_examples(
    posterior: Posterior,
    outputs: Tensor,
    samples: data.Samples,
    spec: InputSpec,
    confusion: Matrix | None,
    counts: Sequence[int],
) -> tuple[ConfusedPair, ...]:
    """Collect, for each of the worst confusions, the images for which the model was most confident.

    Args:
        posterior: Posterior of the outputs.
        outputs: Outputs for every sample, shape ``(N, C)``.
        samples: N samples.
        spec: Form of the model's inputs.
        confusion: Confusion matrix of the decisions, C x C counts; None if none was kept.
        counts: Training samples of each class, length C.

    Returns:
        Up to three images of at most 64 pixels a side for each pair of classes, PNG in base64; nothing for rows of a
        table.
    """
    if not isinstance(spec, ImageSpec) or confusion is None:
        return ()
    predictions = posterior.scores(outputs).argmax(dim=1)
    surest = posterior.log_probabilities(outputs).exp().gather(1, predictions[:, None]).squeeze(1)
    found = []
    for pair in worst_confusions(confusion, counts, PAIRS):
        rows = ((samples.targets == pair.true) & (predictions == pair.predicted)).nonzero().flatten()
        rows = rows[surest[rows].argsort(descending=True, stable=True)][:IMAGES]
        images = tuple(
            Example(samples.names[row], float(surest[row]), _png(pixels))
            for row, pixels in zip(rows.tolist(), samples.batch(rows), strict=True)
        )
        found.append(ConfusedPair(pair.true, pair.predicted, images))
    return tuple(found)


def _png(pixels: Tensor) -> str:
    """Return a small copy of a uint8 image ``(C, H, W)`` as PNG."""
    array: np.ndarray = pixels.to(torch.uint8).permute(1, 2, 0).numpy()
    image = Image.fromarray(array.squeeze(2) if array.shape[2] == 1 else array)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, format="PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()
