"""Images: from files to one uint8 tensor or, if that would not fit in memory, decoded batch by batch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TypeVar, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from imbsam.data.dataset import Samples, TensorSamples
from imbsam.data.decoding import (
    UNREADABLE,
    Box,
    Fit,
    Geometry,
    Header,
    decode,
    in_threads,
    measured_header,
    processors,
    reason,
)
from imbsam.data.depth import Measured, Ranges, from_json, learned, ranges_for, to_json
from imbsam.data.image_notes import constant_note, contrast_note, header_notes, spot_notes
from imbsam.data.sources.raw import Content, Part, PartName, listed
from imbsam.errors import DataError
from imbsam.inputs import ImageSpec

MEMORY_BUDGET = 2 * 2**30
"""Largest size in bytes of the decoded images of a data set; above, each batch decodes its images again."""

LARGEST_KEPT_SIDE = 256
"""Largest side at which images of one common size are not resized."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GREY_MEAN, GREY_STD = (0.449,), (0.226,)
"""Mean and standard deviation for images that do not fit in memory; for grey images averaged over the channels."""

CENTRE_CROP = 0.875
"""Share of the short side that is kept when large photographs are cropped: 224 of 256."""

SMALLEST_PHOTOGRAPH = 128
"""Smallest side at which images are cropped by default, and at which a crop leaves out the margin; smaller images are
kept whole."""

T = TypeVar("T")


@dataclass(frozen=True)
class ImageFiles:
    """Images that are decoded when a batch needs them.

    Args:
        content: Encoded images.
        targets: Class of each sample, shape ``(N,)``, int64.
        names: N names.
        sizes: Height and width of each, shape ``(N, 2)``, int64.
        geometry: Shape that each gets.
        ranges: For each depth beyond 8 bits, the values that become 0 and 255.
    """

    content: Content
    targets: Tensor
    names: Sequence[str]
    sizes: Tensor
    geometry: Geometry
    ranges: Ranges

    def __len__(self) -> int:
        return len(self.targets)

    def batch(self, indices: Tensor) -> Tensor:
        """Return images of the final size, uint8 ``(b, C, H, W)``."""
        boxes = [self.geometry.centre(height, width) for height, width in self.sizes[indices].tolist()]
        return self._decoded(indices, boxes)

    def windows(self, indices: Tensor, windows: Tensor) -> Tensor:
        """Return one window of each full image, resized to the final size.

        Args:
            indices: Indices of the images, shape ``(b,)``.
            windows: Top, left, height, width of each, shape ``(b, 4)``.

        Returns:
            Windows, uint8 ``(b, C, H, W)``.
        """
        return self._decoded(
            indices, [(left, top, left + wide, top + tall) for top, left, tall, wide in windows.tolist()]
        )

    def _decoded(self, indices: Tensor, boxes: Sequence[Box]) -> Tensor:
        def one(place: int) -> np.ndarray:
            number = int(indices[place])
            try:
                return decode(self.content[number], self.geometry, boxes[place], self.ranges)
            except UNREADABLE as error:
                raise DataError(f"{self.names[number]}: {reason(error)}. Remove it, or skip bad samples.") from error

        # Inside a DataLoader's worker the other processors are busy with other batches.
        threads = 1 if get_worker_info() is not None else processors()
        return torch.from_numpy(np.stack(in_threads(one, len(indices), threads)))


@dataclass(frozen=True)
class ImageParts:
    """Prepared parts of an image data set."""

    samples: dict[PartName, Samples]
    spec: ImageSpec
    preprocess: Mapping[str, object]
    notes: tuple[str, ...]


def image_parts(
    parts: Mapping[PartName, Part], *, image_size: int | None, skip_bad: bool, fit: Fit | None = None
) -> ImageParts:
    """Decode the parts of a data set, or prepare them to be decoded later.

    Size, channels, normalisation, and the range of values beyond 8 bits are decided on the training part.

    Args:
        parts: Parts with pixels or encoded images; ``train`` is among them.
        image_size: Side of the square that images are resized to; None keeps a common size up to 256 pixels, else
            chooses 32, 64 or 224 by the median.
        skip_bad: Leave out images that cannot be read instead of raising an error.
        fit: Placement of an image in a square: ``"crop"`` cuts its centre out, ``"pad"`` keeps it whole and fills
            the rest with its border's colour; None crops if the side has 128 pixels or more, and pads else.

    Returns:
        Samples, spec, and everything needed to read further images in the same way.

    Raises:
        DataError: If images cannot be read, or none is left.
    """
    notes: list[str] = []
    scanned = {name: _scanned(part, skip_bad, notes) for name, part in parts.items()}
    geometry = _geometry(scanned["train"][1], image_size, fit, notes)
    trained = learned(_measured(*scanned["train"]))
    ranges = ranges_for([one for found in scanned.values() for one in _measured(*found)], trained)
    notes += header_notes([pair for found in scanned.values() for pair in _named(*found)], ranges)
    total = sum(len(part) for part, _ in scanned.values()) * geometry.channels * geometry.height * geometry.width
    lazy = total > MEMORY_BUDGET and not all(isinstance(part.content, Tensor) for part in parts.values())
    samples = {
        name: _store(part, headers, _Reading(geometry, ranges, lazy, skip_bad), notes)
        for name, (part, headers) in scanned.items()
    }
    if lazy:
        notes.append(f"the images would take {total / 2**30:.1f} GiB decoded; they are decoded again for each batch.")
        notes += spot_notes(samples["train"])
    mean, std = _statistics(samples["train"], geometry.channels, notes)
    spec = ImageSpec(geometry.channels, geometry.height, geometry.width, mean, std)
    preprocess = {"kind": "images", "spec": asdict(spec), **geometry.fitting, "ranges": to_json(trained)}
    return ImageParts(samples, spec, preprocess, tuple(notes))


def further_images(part: Part, preprocess: Mapping[str, object], *, skip_bad: bool) -> tuple[Samples, tuple[str, ...]]:
    """Read further images in the same way as those of a data set.

    Args:
        part: Part with pixels or encoded images.
        preprocess: Result of :func:`image_parts`.
        skip_bad: Leave out images that cannot be read instead of raising an error.

    Returns:
        Samples and notes.

    Raises:
        DataError: If images cannot be read, or none is left.
    """
    spec = cast(Mapping[str, int], preprocess["spec"])
    crop, fit = cast(float, preprocess["crop"]), cast(Fit, preprocess.get("fit", "crop"))
    geometry = Geometry(spec["channels"], spec["height"], spec["width"], crop, fit)
    notes: list[str] = []
    part, headers = _scanned(part, skip_bad, notes)
    ranges = ranges_for(_measured(part, headers), from_json(preprocess.get("ranges")))
    notes += header_notes(_named(part, headers), ranges)
    lazy = len(part) * geometry.channels * geometry.height * geometry.width > MEMORY_BUDGET
    return _store(part, headers, _Reading(geometry, ranges, lazy, skip_bad), notes), tuple(notes)


@dataclass(frozen=True)
class _Reading:
    geometry: Geometry
    ranges: Ranges
    lazy: bool
    skip_bad: bool


def _scanned(part: Part, skip_bad: bool, notes: list[str]) -> tuple[Part, list[Header]]:
    if isinstance(part.content, Tensor):
        return part, [measured_header(part.content[0])] * len(part) if len(part) else []
    found = _attempted(lambda i: measured_header(part.content[i]), part, skip_bad)
    return _only_good(part, found, notes)


def _named(part: Part, headers: Sequence[Header]) -> list[tuple[str, Header]]:
    return list(zip(part.names, headers, strict=True))


def _measured(part: Part, headers: Sequence[Header]) -> list[Measured]:
    return [
        Measured(name, header.depth, header.values)
        for name, header in _named(part, headers)
        if header.depth is not None and header.values is not None
    ]


def _only_good(part: Part, found: list[T | None], notes: list[str]) -> tuple[Part, list[T]]:
    """Leave out the images that could not be read, and note them."""
    bad = [part.names[i] for i, result in enumerate(found) if result is None]
    if not bad:
        return part, cast(list[T], found)
    good = torch.tensor([i for i, result in enumerate(found) if result is not None], dtype=torch.int64)
    if not len(good):
        raise DataError(f"none of {len(part)} images can be read, first {bad[0]}.")
    notes.append(f"{len(bad)} of {len(part)} images cannot be read and were skipped: {listed(bad)}.")
    return part.take(good), [result for result in found if result is not None]


def _attempted(read: Callable[[int], T], part: Part, skip_bad: bool) -> list[T | None]:
    """Read every sample of a part; a failure gives None, or raises an error with the names of all failures."""
    failures: dict[int, BaseException] = {}

    def attempt(number: int) -> T | None:
        try:
            return read(number)
        except UNREADABLE as error:
            failures[number] = error
            return None

    results = in_threads(attempt, len(part), processors())
    if failures and not skip_bad:
        first = min(failures)
        others = f" {len(failures) - 1} more of {len(part)} images fail too." if len(failures) > 1 else ""
        raise DataError(
            f"{part.names[first]}: {reason(failures[first])}.{others} "
            "Remove or repair these files, or skip bad samples (--skip-bad)."
        ) from failures[first]
    return results


def square(channels: int, side: int, fit: Fit | None) -> Geometry:
    """Return the geometry of squares.

    Args:
        channels: Number of channels.
        side: Side in pixels.
        fit: See :func:`image_parts`.
    """
    is_photograph = side >= SMALLEST_PHOTOGRAPH
    fit = fit or ("crop" if is_photograph else "pad")
    return Geometry(channels, side, side, CENTRE_CROP if fit == "crop" and is_photograph else 1.0, fit)


def _geometry(headers: Sequence[Header], image_size: int | None, fit: Fit | None, notes: list[str]) -> Geometry:
    channels = 1 if all(header.grey for header in headers) else 3
    sizes = {(header.height, header.width) for header in headers}
    height, width = next(iter(sizes))
    if image_size is None and len(sizes) == 1 and max(height, width) <= LARGEST_KEPT_SIDE:
        if fit is not None:
            notes.append(f"images are {height}x{width} pixels and keep that size: --fit has nothing to do.")
        return Geometry(channels, height, width, 1.0)
    short = sorted(min(header.height, header.width) for header in headers)[len(headers) // 2]
    side = image_size or (32 if short < 48 else 64 if short < 96 else 224)
    if sizes == {(side, side)}:
        return Geometry(channels, side, side, 1.0)
    geometry = square(channels, side, fit)
    found = f"{height}x{width} pixels" if len(sizes) == 1 else f"of different sizes, median short side {short} pixels"
    notes.append(f"images are {found}; {_fitted(geometry, sizes)} (--image-size and --fit change that).")
    return geometry


def _fitted(geometry: Geometry, sizes: set[tuple[int, int]]) -> str:
    side = f"{geometry.height}x{geometry.width}"
    if geometry.fit == "crop":
        return f"the centre of each is resized to {side}"
    padded = "" if all(height == width for height, width in sizes) else " and padded"
    return f"each is resized{padded} to {side}"


def _store(part: Part, headers: Sequence[Header], reading: _Reading, notes: list[str]) -> Samples:
    content, geometry, lazy = part.content, reading.geometry, reading.lazy
    shape = (geometry.channels, geometry.height, geometry.width)
    if isinstance(content, Tensor) and content.shape[1:] == shape:
        notes += constant_note(content, part.names)
        return TensorSamples(content, part.targets, part.names)
    values = np.empty((0 if lazy else len(part), *shape), np.uint8)

    def decoded(number: int) -> bool:
        header = headers[number]
        image = decode(content[number], geometry, geometry.centre(header.height, header.width), reading.ranges)
        if not lazy:
            values[number] = image
        return True

    if lazy and not reading.skip_bad:
        sizes = torch.tensor([(header.height, header.width) for header in headers])
        return ImageFiles(content, part.targets, part.names, sizes, geometry, reading.ranges)
    # To leave bad images out, all have to be decoded once, also those that are not kept.
    results = _attempted(decoded, part, reading.skip_bad)
    good = torch.tensor([i for i, done in enumerate(results) if done])
    kept, _ = _only_good(part, results, notes)
    if lazy:
        sizes = torch.tensor([(headers[i].height, headers[i].width) for i in good.tolist()])
        return ImageFiles(kept.content, kept.targets, kept.names, sizes, geometry, reading.ranges)
    pixels = torch.from_numpy(values)
    pixels = pixels if len(good) == len(part) else pixels[good]
    notes += constant_note(pixels, kept.names)
    return TensorSamples(pixels, kept.targets, kept.names)


def _statistics(train: Samples, channels: int, notes: list[str]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel, exactly, from the counts of the 256 values."""
    if not isinstance(train, TensorSamples):
        return (GREY_MEAN, GREY_STD) if channels == 1 else (IMAGENET_MEAN, IMAGENET_STD)
    levels = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    together = torch.zeros(256, dtype=torch.float64)
    for channel in range(channels):
        counts = torch.zeros(256, dtype=torch.float64)
        for begin in range(0, len(train), 4096):
            counts += torch.bincount(train.values[begin : begin + 4096, channel].flatten(), minlength=256)
        together += counts
        mean = float((counts * levels).sum() / counts.sum())
        variance = float((counts * (levels - mean) ** 2).sum() / counts.sum())
        means.append(mean)
        # A channel of one value carries nothing; one grey level keeps the division finite.
        stds.append(max(variance**0.5, 1 / 255))
    notes += contrast_note(together)
    return tuple(means), tuple(stds)
