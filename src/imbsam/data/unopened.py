"""Image files that are not opened yet, for a first look at data sets of hundreds of thousands of files."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from imbsam.data.dataset import Samples
from imbsam.data.decoding import UNREADABLE, Fit, Geometry, Header, Picture, decode, measured_header, reason
from imbsam.data.depth import Measured, learned
from imbsam.data.images import IMAGENET_MEAN, IMAGENET_STD, ImageParts, square
from imbsam.data.sources.raw import Content, Part, PartName
from imbsam.errors import DataError
from imbsam.inputs import ImageSpec

T = TypeVar("T")


@dataclass(frozen=True)
class UnopenedImages:
    """Images of which nothing is read before a batch needs them.

    Args:
        content: Encoded images.
        targets: Class of each sample, shape ``(N,)``, int64.
        names: N names.
        geometry: Shape that each gets.
    """

    content: Content
    targets: Tensor
    names: Sequence[str]
    geometry: Geometry

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor) -> Tensor:
        """Return images of the final size, uint8 ``(b, C, H, W)``.

        Values beyond 8 bits are scaled by their range in the batch: the range of the training images is not known yet.

        Raises:
            DataError: If an image cannot be read.
        """
        numbers = indices.tolist()
        headers = [self._read(number, measured_header) for number in numbers]
        ranges = learned(
            Measured(self.names[number], header.depth, header.values)
            for number, header in zip(numbers, headers, strict=True)
            if header.depth is not None and header.values is not None
        )

        def pixels(number: int, header: Header) -> np.ndarray:
            box = self.geometry.centre(header.height, header.width)
            return self._read(number, lambda picture: decode(picture, self.geometry, box, ranges))

        return torch.from_numpy(np.stack([pixels(*pair) for pair in zip(numbers, headers, strict=True)]))

    def _read(self, number: int, read: Callable[[Picture], T]) -> T:
        try:
            return read(self.content[number])
        except UNREADABLE as error:
            raise DataError(f"{self.names[number]}: {reason(error)}. Remove or repair it.") from error


def unopened_parts(parts: Mapping[PartName, Part], image_size: int, fit: Fit | None = None) -> ImageParts:
    """Return the parts of an image data set as in training, RGB, without opening a file.

    Args:
        parts: Parts with encoded images.
        image_size: Side of the square that images are resized to.
        fit: See :func:`imbsam.data.images.image_parts`.

    Returns:
        Samples, spec, and everything needed to read further images in the same way.
    """
    geometry = square(3, image_size, fit)
    samples: dict[PartName, Samples] = {
        name: UnopenedImages(part.content, part.targets, part.names, geometry) for name, part in parts.items()
    }
    spec = ImageSpec(3, image_size, image_size, IMAGENET_MEAN, IMAGENET_STD)
    return ImageParts(samples, spec, {"kind": "images", "spec": asdict(spec), **geometry.fitting}, ())
