"""Parts of the training rows on which members are scored by models trained on the others."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from imbsam.data.seeding import generator
from imbsam.data.splits import random_ranks

MANY_ROWS = 20_000
"""Number of training rows above which only one part is held out; with fewer rows every row is held out once."""

HELD_OUT = 20_000
"""Approximate largest number of rows in that part."""

LEAST_HELD_OUT = 10
"""Smallest number of rows of a class in that part, if a fold has as many."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """Rows to train a model on, and rows to score it on; indices, ascending."""

    train: Rows
    held: Rows


def folds_of(targets: Rows, number: int, seed: int) -> list[Fold]:
    """Spread every class evenly over folds.

    A class of one row is trained on in every fold. Above :data:`MANY_ROWS` rows there is one fold.

    Args:
        targets: Class of each sample, shape ``(N,)``, classes from 0.
        number: Number of folds, at least 2.
        seed: Seed of the random order.

    Returns:
        The folds that hold out a row; if no fold does, one fold that holds out none.
    """
    classes = torch.from_numpy(targets.astype(np.int64))
    counts = torch.bincount(classes)
    ranks = random_ranks(classes, generator(seed))
    if len(targets) > MANY_ROWS:
        fold = counts // number
        held = (counts * HELD_OUT // len(targets)).minimum(fold).maximum(fold.clamp(max=LEAST_HELD_OUT))
        place, number = (ranks >= held[classes]).long(), 1
    else:
        # Each class goes on where the one before it ended, so that folds are equally large.
        place = (ranks + (counts.cumsum(0) - counts)[classes]) % number
        place[counts[classes] == 1] = number
    folds = [Fold(*(part.nonzero().flatten().numpy() for part in (place != k, place == k))) for k in range(number)]
    return [fold for fold in folds if len(fold.held)] or [Fold(np.arange(len(targets)), np.arange(0))]
