"""Torch's global generators: their state in a checkpoint, and temporary seeds beside them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import RLock

import torch
from torch import Tensor

# Torch's generators belong to the process: two fits in threads would draw from one another's stream.
_TURN = RLock()


@contextmanager
def own_random_numbers(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the generators of the CPU and of a device, and restore their earlier state afterwards.

    One thread at a time is inside; the others wait.

    Args:
        seed: Seed of both generators.
        device: Device that computes.
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


def random_state(device: torch.device) -> dict[str, Tensor]:
    """Return the state of the generators of the CPU and of a device."""
    state = {"cpu": torch.get_rng_state()}
    return {**state, "cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: Mapping[str, Tensor], device: torch.device) -> None:
    """Restore the state from :func:`random_state`; a device without a state is not changed."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
