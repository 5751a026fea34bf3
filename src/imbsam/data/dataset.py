"""Data sets: the parts that loading returns, and the raw samples that batches are made from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from imbsam.inputs import InputSpec


class Samples(Protocol):
    """Samples in a fixed order, accessed by index; nothing random happens here."""

    @property
    def targets(self) -> Tensor:
        """Class of each sample, shape ``(N,)``, int64, on the CPU; -1 where unlabelled."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each sample in its source: a file's path or a row's number."""

    def __len__(self) -> int:
        """Return the number of samples N."""

    def batch(self, indices: Tensor) -> Tensor:
        """Return some raw samples.

        Args:
            indices: Indices of the samples, shape ``(b,)``.

        Returns:
            Images, uint8 ``(b, C, H, W)``, or rows, float32 ``(b, F)``.

        Raises:
            DataError: If an image that is decoded only now cannot be read.
        """


@dataclass(frozen=True)
class TensorSamples:
    """Samples in memory.

    Args:
        values: Images, uint8 ``(N, C, H, W)``, or rows, float32 ``(N, F)``.
        targets: Class of each sample, shape ``(N,)``, int64.
        names: N names.
    """

    values: Tensor
    targets: Tensor
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor) -> Tensor:
        """Return some raw samples.

        Args:
            indices: Indices of the samples, shape ``(b,)``.

        Returns:
            Images, uint8 ``(b, C, H, W)``, or rows, float32 ``(b, F)``.
        """
        return self.values[indices]


@dataclass(frozen=True)
class SomeSamples:
    """Samples chosen from another set.

    Args:
        samples: The other set.
        indices: Indices of those samples in it, shape ``(N,)``, int64.
    """

    samples: Samples
    indices: Tensor

    @property
    def targets(self) -> Tensor:
        """Class of each sample, shape ``(N,)``, int64."""
        return self.samples.targets[self.indices]

    @property
    def names(self) -> Sequence[str]:
        """Name of each sample."""
        return [self.samples.names[index] for index in self.indices.tolist()]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, indices: Tensor) -> Tensor:
        """Return some raw samples.

        Args:
            indices: Indices among these samples, shape ``(b,)``.

        Returns:
            Images, uint8 ``(b, C, H, W)``, or rows, float32 ``(b, F)``.

        Raises:
            DataError: If an image that is decoded only now cannot be read.
        """
        return self.samples.batch(self.indices[indices])


@dataclass(frozen=True)
class Dataset:
    """Data set that is ready for training.

    Args:
        name: Short name, for reports.
        classes: Names of the C classes; every class has at least one training sample.
        train: Training samples.
        validation: Samples to choose a model by, or None.
        test: Samples for the final evaluation, or None.
        spec: Form of one sample for a model.
        preprocess: Everything needed to read further data in the same way; plain JSON values.
        notes: Sentences that say what was split off, skipped, filled in or ignored.
    """

    name: str
    classes: tuple[str, ...]
    train: Samples
    validation: Samples | None
    test: Samples | None
    spec: InputSpec
    preprocess: Mapping[str, object]
    notes: tuple[str, ...] = ()
