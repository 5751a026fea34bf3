"""Independent random streams, each identified by a key of integers."""

import numpy as np
import torch

ORDER, AUGMENTATION, DROPOUT, CLASSIFIER, MIXING = range(5)
"""Streams of a run, by what is drawn."""


def generator(*key: int) -> torch.Generator:
    """Make a generator whose draws depend on the key alone: same key, same draws, in any process.

    Args:
        key: Integers such as ``(seed, epoch, batch)``; different keys give unrelated streams.

    Returns:
        A CPU generator.
    """
    state = np.random.SeedSequence([part % 2**63 for part in key]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
