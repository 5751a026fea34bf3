"""Counts and memory of a method as a part of its base's state dict: written, found and read.

``torch.distributed.checkpoint`` carries the state of each parameter and the options of each group, and nothing beside
them. So counts are an option of every group, and memory is part of the parameters' state; ``"sharpness"``, beside the
two, holds both by the number of their parameter.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypedDict, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim._tensors import is_sharded, local

OWN = "sharpness"

Memory = dict[str, dict[Tensor, Tensor]]
StateDict = dict[str, object]
Entries = dict[object, dict[str, object]]
Groups = list[dict[str, object]]


class Counts(TypedDict):
    """Counts that every group holds, and the number of memory tensors."""

    steps: int
    skipped: int
    skipped_in_a_row: int
    memory: int


@dataclass(frozen=True)
class Kept:
    """Counts and memory of a method.

    Args:
        steps: Number of steps made.
        skipped: Number of steps skipped.
        skipped_in_a_row: Number of steps skipped since the last step made.
        memory: Tensors that method and ascent keep for each parameter, by name.
    """

    steps: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    memory: Memory = field(default_factory=dict)

    @property
    def numbers(self) -> dict[str, int]:
        """Return the counts alone."""
        return {"steps": self.steps, "skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row}

    @property
    def counts(self) -> Counts:
        """Return the counts and the number of memory tensors."""
        return cast(Counts, {**self.numbers, "memory": sum(map(len, self.memory.values()))})


def packed(kept: Kept, state: StateDict, params: Sequence[Tensor], places: Sequence[str]) -> StateDict:
    """Return the state dict of a base together with what its method keeps.

    Args:
        kept: Counts and memory of the method.
        state: State dict of the base.
        params: Parameters of all groups, in their order.
        places: Names that get tensors of zeros while there is no memory, since loading a checkpoint in place fills
            only what is there.
    """
    number = {p: i for i, p in enumerate(params)}
    memory = {name: {number[p]: each for p, each in part.items()} for name, part in kept.memory.items()}
    shown = {name: {i: torch.zeros_like(p) for p, i in number.items() if p.requires_grad} for name in places}
    shown = memory or shown
    whole = {**state, OWN: {**kept.numbers, "memory": memory}}
    if "param_groups" in state:
        whole["param_groups"] = [{**group, OWN: kept.counts} for group in cast(Groups, state["param_groups"])]
    if shown and "state" in state:
        # Every parameter has an entry, as torch demands where any has.
        entries: Entries = {i: {} for p, i in number.items() if p.requires_grad} | cast(Entries, state["state"])
        whole["state"] = {
            i: {**entry, **{_key(name): part[i] for name, part in shown.items() if i in part}}
            for i, entry in entries.items()
        }
    return whole


def unpacked(state: StateDict, params: Sequence[Tensor], method: str) -> tuple[Kept, StateDict]:
    """Return what a method keeps, out of a state dict, and the base's part of that state dict.

    Args:
        state: State dict from :func:`packed` or a base, possibly after ``torch.distributed.checkpoint``.
        params: Parameters of all groups, in their order.
        method: Name of the method, for error messages.

    Raises:
        OptionError: If memory is missing, or not that of these parameters.
    """
    if not {"state", "param_groups"} <= state.keys():
        return _beside(state, params), {name: part for name, part in state.items() if name != OWN}
    groups, entries = cast(Groups, state["param_groups"]), cast(Entries, state["state"])
    numbers = [number for group in groups for number in cast(list[object], group["params"])]
    param = dict(zip(numbers, params, strict=False))
    kept = _beside(state, params) if OWN in state else _inside(groups, entries, param, method)
    for name, part in kept.memory.items():
        for p, each in part.items():
            if each.shape != p.shape:
                raise OptionError(
                    f"the state's {name!r} of {method} has shape {tuple(each.shape)} for a parameter of shape "
                    f"{tuple(p.shape)}: it belongs to another model."
                )
    bare = {
        # Copied: torch's optimizers share what they load with whoever gave it.
        number: {n: copy.deepcopy(value) for n, value in entry.items() if not str(n).startswith(_key(""))}
        if isinstance(entry, dict)
        else entry
        for number, entry in entries.items()
    }
    rest = {number: entry for number, entry in bare.items() if entry or not isinstance(entry, dict)}
    return kept, {**{name: part for name, part in state.items() if name != OWN}, "state": rest}


def _key(name: str) -> str:
    return f"{OWN} {name}"


def _beside(state: StateDict, params: Sequence[Tensor]) -> Kept:
    own = dict(cast(Mapping[str, object], state.get(OWN, {})))
    memory = cast(dict[str, dict[int, Tensor]], own.pop("memory", {}))
    param = dict(enumerate(params))
    found = {
        name: {param[i]: placed(each, param[i]) for i, each in part.items() if i in param}
        for name, part in memory.items()
    }
    return Kept(**cast(dict[str, int], own), memory=found)


def _inside(groups: Groups, entries: Entries, param: Mapping[object, Tensor], method: str) -> Kept:
    counts = dict(cast(Counts, next((group[OWN] for group in groups if OWN in group), {})))
    number = counts.pop("memory", 0)
    memory: Memory = {}
    # Of no tensors there are the places alone.
    for i, entry in entries.items() if number else ():
        for key, value in entry.items():
            if i in param and str(key).startswith(_key("")):
                memory.setdefault(str(key).removeprefix(_key("")), {})[param[i]] = placed(cast(Tensor, value), param[i])
    found = sum(map(len, memory.values()))
    if found != number:
        raise OptionError(
            f"the state says that {method} keeps {number} tensors beside those of the base, and has {found} of them. "
            "torch.distributed.checkpoint.load fills only what the optimizer has already, so make one step before it; "
            "and flatten_optimizer_state_dict leaves them out, so save without. A state of the base alone belongs into "
            "optimizer.base.load_state_dict()."
        )
    return Kept(**cast(dict[str, int], counts), memory=memory)


def placed(kept: Tensor, p: Tensor) -> Tensor:
    """Move a tensor of a parameter's shape to its device, and shard it like the parameter."""
    if is_sharded(p) and not is_sharded(kept):
        from torch.distributed.tensor import distribute_tensor

        return distribute_tensor(kept.to(p.device), p.device_mesh, p.placements)  # type: ignore[attr-defined]
    return kept.to(p.device)


def fills_empty_state(base: Optimizer) -> bool:
    """Return whether this step without passes is made by ``torch.distributed.checkpoint`` to create the state.

    Such a step finds no state, learning rate 0 and zero gradients, and moves no weight.
    """
    groups = base.param_groups
    if base.state or any(float(group.get("lr", 0.0)) != 0 for group in groups):
        return False
    params = [p for group in groups for p in group["params"] if p.requires_grad]
    return all(p.grad is not None and not bool(local(p.grad).any()) for p in params)
