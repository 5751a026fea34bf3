"""Form of one sample for a model: the contract between data and models."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageSpec:
    """Images as float tensors of shape ``(B, channels, height, width)``, normalised by ``mean`` and ``std``.

    Args:
        channels: Number of channels, 1 (grey) or 3 (RGB).
        height: Height in pixels.
        width: Width in pixels.
        mean: Mean of each channel, for pixel values in [0, 1].
        std: Standard deviation of each channel, for pixel values in [0, 1].
    """

    channels: int
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class TableSpec:
    """Rows as float tensors of shape ``(B, numeric + len(cardinalities))``.

    The first ``numeric`` columns are standardised numbers; each column after them holds the integer code
    of one categorical column, in ``[0, cardinality)``; code 0 stands for a value unseen in training.

    Args:
        numeric: Number of numeric features.
        cardinalities: Number of codes of each categorical column, including the code 0.
    """

    numeric: int
    cardinalities: tuple[int, ...]


InputSpec = ImageSpec | TableSpec
