"""How much memory tensors take at their highest, to the byte, on any device: every new storage is watched."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Alive(TorchDispatchMode):
    """Bytes of the storages that operations in the block make, while they live.

    Attributes:
        highest: Of them at once.
        now: Of those that still live.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.highest = self.now = 0
        self._known = {t.untyped_storage()._cdata for t in known}
        self._held: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        for key in [key for key, (held, _) in self._held.items() if held.expired()]:
            self.now -= self._held.pop(key)[1]
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._held and storage._cdata not in self._known:
                    self._held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
                    self.now += storage.nbytes()
        self.highest = max(self.highest, self.now)
        return out


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """Bytes of the tensors' storages, each counted once."""
    storages = {t.untyped_storage()._cdata: t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


def reachable(*held: object) -> list[Tensor]:
    """Every tensor that objects hold: attributes, mappings and sequences, to the last."""
    found, seen, left = [], set(), list(held)
    while left:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, Tensor):
            found.append(one)
            left += [one.grad] if one.is_leaf and one.grad is not None else []
        elif isinstance(one, dict):
            left += [*one.keys(), *one.values()]
        elif isinstance(one, list | tuple | set):
            left += list(one)
        elif hasattr(one, "__dict__") and not isinstance(one, type | torch.nn.modules.module.Module):
            left.append(vars(one))
        elif isinstance(one, torch.nn.Module):
            left += [*one.parameters(), *one.buffers()]
    return found
