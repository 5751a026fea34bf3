"""Layouts of the public long-tailed data sets: which files, how many images, and where to get them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from imbsam.data.sources.cifar import is_cifar_folder, read_cifar
from imbsam.data.sources.lists import lists_by_part, read_lists
from imbsam.data.sources.raw import Part, PartName, Raw, listed
from imbsam.errors import DataError

LIST_WORDS: Mapping[PartName, str] = {"train": "train", "validation": "val", "test": "test"}
"""Word in the name of each part's list."""


@dataclass(frozen=True)
class Layout:
    """Layout of a data set as it is published.

    Args:
        samples: Images of each part.
        classes: Number of classes.
        largest: Training images of the most frequent class.
        smallest: Training images of the rarest class.
        lists: Whether the parts are list files with lines ``path label``; else the data set is a CIFAR python archive.
        needed: Files that are needed, and where to get them.
    """

    samples: Mapping[PartName, int]
    classes: int
    largest: int
    smallest: int
    lists: bool
    needed: str

    def source(self, place: str) -> str:
        """Find the files of the data set.

        Args:
            place: A folder; ``LISTS@IMAGES`` if lists and images are in different folders; or an archive of CIFAR.

        Returns:
            The source in the form that other commands take.

        Raises:
            DataError: If a file is missing.
        """
        first, at, images = place.partition("@") if self.lists and not Path(place).exists() else (place, "", place)
        for given in (first, images) if at else (first,):
            if not Path(given).exists():
                raise DataError(f"{given!r}: there is no such file or folder. {self.needed}")
        folder = Path(first)
        if not self.lists:
            return str(self._cifar(folder))
        if not folder.is_dir():
            raise DataError(f"{folder} is a file; give the folder of the lists. {self.needed}")
        found = lists_by_part(folder)
        missing = [f"*{LIST_WORDS[part]}*.txt" for part in self.samples if not found.get(part)]
        if missing:
            raise DataError(f"{folder} has no list {listed(missing)}. {self.needed}")
        return f"{folder}@{images}"

    def _cifar(self, path: Path) -> Path:
        if path.is_file() or is_cifar_folder(path):
            return path
        inside = [folder for folder in sorted(path.iterdir()) if folder.is_dir() and is_cifar_folder(folder)]
        if not inside:
            raise DataError(f"{path} holds no CIFAR python archive (the files train, test and meta). {self.needed}")
        return inside[0]

    def check(self, source: str) -> Raw:
        """Compare the files with the layout; no image is opened.

        Args:
            source: Result of :meth:`source`.

        Returns:
            The parts that were found.

        Raises:
            DataError: If something is missing, too much, or has the wrong number; the message lists all of it.
        """
        lists, _, images = source.partition("@")
        raw = read_lists(Path(lists), Path(images)) if self.lists else read_cifar(Path(source))
        faults = [] if len(raw.classes) == self.classes else [f"{len(raw.classes):,} classes, not {self.classes:,}"]
        for name, expected in self.samples.items():
            if name not in raw.parts:
                faults.append(f"no {name} images")
            elif len(raw.parts[name]) != expected:
                faults.append(f"{len(raw.parts[name]):,} {name} images, not {expected:,}")
        counts = torch.bincount(raw.train.targets, minlength=len(raw.classes))
        for which, count, wanted in (
            ("largest", int(counts.max()), self.largest),
            ("smallest", int(counts.min()), self.smallest),
        ):
            if count != wanted:
                faults.append(f"{count:,} training images in the {which} class, not {wanted:,}")
        if faults:
            raise DataError(f"{source} is not the data of the recipe: {'; '.join(faults)}. {self.needed}")
        if self.lists:
            for name in self.samples:
                self._check_files(name, raw.parts[name])
        return raw

    def _check_files(self, name: PartName, part: Part) -> None:
        absent = [file for file in dict.fromkeys(part.names) if not os.path.exists(file)]  # noqa: PTH110
        if absent:
            raise DataError(
                f"{len(absent):,} of the {name} images that the lists name are not there, first {absent[0]}. Give the "
                f"folder in which the paths of the lists begin, too: LISTS@IMAGES. {self.needed}"
            )


LAYOUTS: Mapping[str, Layout] = {
    "cifar-100": Layout(
        {"train": 50_000, "test": 10_000},
        classes=100,
        largest=500,
        smallest=500,
        lists=False,
        needed="Needed is the python archive of CIFAR-100, cifar-100-python.tar.gz or its folder, from "
        "https://www.cs.toronto.edu/~kriz/cifar.html",
    ),
    "imagenet-lt": Layout(
        {"train": 115_846, "validation": 20_000, "test": 50_000},
        classes=1000,
        largest=1280,
        smallest=5,
        lists=True,
        needed="Needed are the lists ImageNet_LT_train.txt, _val.txt and _test.txt from "
        "https://github.com/zhmiao/OpenLongTailRecognition-OLTR and the images of ILSVRC 2012 from "
        "https://www.image-net.org, as train/n01440764/*.JPEG and val/n01440764/*.JPEG",
    ),
    "inaturalist-2018": Layout(
        {"train": 437_513, "validation": 24_426},
        classes=8142,
        largest=1000,
        smallest=2,
        lists=True,
        needed="Needed are the lists iNaturalist18_train.txt and _val.txt from "
        "https://github.com/facebookresearch/classifier-balancing and the images from "
        "https://github.com/visipedia/inat_comp/tree/master/2018, as train_val2018/Plantae/7291/*.jpg",
    ),
}
"""Layouts by the name of the data set."""
