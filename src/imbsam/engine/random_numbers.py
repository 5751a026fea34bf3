"""Random numbers of one's own from torch's global generators, which are handed back as they were."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

# Torch's generators belong to the process: two fits in threads would draw from one another's stream.
_TURN = RLock()


@contextmanager
def own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and of a device; afterwards they stand where they stood before.

    One thread at a time is inside; the others wait.

    Args:
        seed: Of both generators.
        device: Where the computing is done.
    """
    cuda = device.type == "cuda"
    index = device.index if device.index is not None or not cuda else torch.cuda.current_device()
    with _TURN, torch.random.fork_rng(devices=[index] if cuda else []):
        # Not torch.manual_seed: it seeds every device of the process.
        torch.default_generator.manual_seed(seed)
        if cuda:
            with torch.cuda.device(index):
                torch.cuda.manual_seed(seed)
        yield
