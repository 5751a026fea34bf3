"""What loading gives: the parts of a data set, and the raw samples that batches are cut from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from imbsam.inputs import InputSpec


class Samples(Protocol):
    """Samples in a fixed order, handed out by index; nothing random happens here."""

    @property
    def targets(self) -> Tensor:
        """Class of each sample, shape ``(N,)``, int64, on the CPU; -1 where unlabelled."""

    @property
    def names(self) -> Sequence[str]:
        """What each sample is called where it came from: a file's path or a row's number."""

    def __len__(self) -> int:
        """N."""

    def batch(self, indices: Tensor) -> Tensor:
        """Some raw samples.

        Args:
            indices: Which ones, shape ``(b,)``.

        Returns:
            uint8 images ``(b, C, H, W)`` or float32 rows ``(b, F)``.

        Raises:
            DataError: If an image that is decoded only now cannot be read.
        """


@dataclass(frozen=True)
class TensorSamples:
    """Samples that lie in memory.

    Args:
        values: uint8 images ``(N, C, H, W)`` or float32 rows ``(N, F)``.
        targets: Class of each sample, shape ``(N,)``, int64.
        names: N names.
    """

    values: Tensor
    targets: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor) -> Tensor:
        """Some raw samples.

        Args:
            indices: Which ones, shape ``(b,)``.

        Returns:
            uint8 images ``(b, C, H, W)`` or float32 rows ``(b, F)``.
        """
        return self.values[indices]


@dataclass(frozen=True)
class Dataset:
    """A data set ready to train on.

    Args:
        name: Short name, for reports.
        classes: Names of the C classes; every class has at least one training sample.
        train: Training samples.
        validation: Samples to choose a model by, or None.
        test: Samples for the last word, or None.
        spec: What a model gets to see of one sample.
        preprocess: All that is needed to read further data the same way; plain JSON values.
        notes: What was split off, skipped, filled in or ignored, a sentence each.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples | None
    test: Samples | None
    spec: InputSpec
    preprocess: Mapping[str, object]
    notes: tuple[str, ...] = ()
