"""Several optimizers as one base: each makes the step of its own parameters."""

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from itertools import chain, islice
from operator import is_
from typing import cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from imbsam.errors import OptionError
from imbsam.optim._base_step import step_inside
from imbsam.optim._options import check_base
from imbsam.optim._weights import ParamGroup, params_of
from imbsam.optim._wrapper import State

Base = Optimizer | Sequence[Optimizer]
"""Base of a method: an optimizer, or a list of optimizers, each with its own parameters."""


class Several(Optimizer):
    """One optimizer over all parameters of several, such as Muon for the matrices and AdamW for the rest.

    ``param_groups`` are the live groups of all optimizers, in order, and ``state`` is a view of their state. A
    scheduler may be given this optimizer or any of its parts. The state dict is that of one optimizer: groups in order,
    parameters numbered through.

    Args:
        optimizers: One or more optimizers; no parameter may belong to two of them.

    Attributes:
        optimizers: The optimizers that this one is made of.

    Raises:
        OptionError: If there is no optimizer, one cannot be a base, or two have a parameter in common.
    """

    optimizers: list[Optimizer]

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        if not isinstance(optimizers, list | tuple) or not optimizers:
            raise OptionError(
                "base must be an optimizer instance, such as SGD(model.parameters(), lr=0.1), or a list of such "
                "instances; "
                f"got {optimizers!r}."
            )
        for each in optimizers:
            check_base(each)
            if not {"state", "param_groups"} <= each.state_dict().keys():
                raise OptionError(
                    f"the state dict of {type(each).__name__} has a special form, which cannot be joined to others: "
                    "use it as the only base."
                )
        _check_apart(optimizers)
        first, *others = [each.defaults for each in optimizers]
        shared = {name: value for name, value in first.items() if all(name in other for other in others)}
        # torch's constructor would make groups and state anew; its __setstate__ sets up the rest.
        self.__setstate__({"optimizers": list(optimizers), "defaults": shared})

    def __getstate__(self) -> State:
        return {"optimizers": self.optimizers, "defaults": self.defaults}

    def __setstate__(self, state: State) -> None:
        self._groups: list[ParamGroup] = []
        self._states = _States(cast(list[Optimizer], state["optimizers"]))
        super().__setstate__(state)

    @property
    def param_groups(self) -> list[ParamGroup]:
        """Groups of all optimizers: the same list as before, unless loading gave one of them new groups."""
        groups = [group for each in self.optimizers for group in each.param_groups]
        if len(groups) != len(self._groups) or not all(map(is_, groups, self._groups)):
            self._groups = groups
        return self._groups

    @param_groups.setter
    def param_groups(self, groups: Sequence[ParamGroup]) -> None:
        for each, own in zip(self.optimizers, self._shared_out(groups), strict=True):
            each.param_groups = own

    @property  # type: ignore[override]
    def state(self) -> MutableMapping[Tensor, State]:
        """State of every parameter, kept by the optimizer that has the parameter."""
        return self._states

    @state.setter
    def state(self, state: Mapping[Tensor, State]) -> None:
        held = {key: self._states.of(key) for key in state}
        for each in self.optimizers:
            own = {key: kept for key, kept in state.items() if held[key] is each.state}
            each.state.clear()
            each.state.update(own)

    def _shared_out(self, groups: Sequence[ParamGroup]) -> list[list[ParamGroup]]:
        """Split groups for all optimizers into the groups of each."""
        own, given = ([len(params_of(group)) for group in each] for each in (self.param_groups, groups))
        if own != given:
            raise OptionError(
                f"{self._names()} have groups of {own} parameters, and the ones to load or set have {given}: "
                "give as many groups of as many parameters, in the same order."
            )
        rest = iter(groups)
        return [list(islice(rest, len(each.param_groups))) for each in self.optimizers]

    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Make a step of each optimizer, in order; the closure is called once, before."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for each in self.optimizers:
            step_inside(each)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Clear the gradients of all parameters."""
        for each in self.optimizers:
            each.zero_grad(set_to_none)

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Add a parameter group to one of the optimizers.

        Args:
            param_group: The group, with the number of the optimizer that gets it, from 0, under ``"base"``.

        Raises:
            OptionError: If the number is missing or there is no such optimizer, or another one has a parameter of the
                group.
            TypeError: If the group is not a dictionary.
        """
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        number = group.pop("base", None)
        if not isinstance(number, int) or not 0 <= number < len(self.optimizers):
            raise OptionError(
                f"say which optimizer gets the group, for example add_param_group({{'params': [...], 'base': 0}}): "
                f"{self._names()} are numbered from 0; got {number!r}."
            )
        added = self.optimizers[number]
        added.add_param_group(group)
        try:
            _check_apart(self.optimizers)
        except OptionError:
            added.param_groups.pop()
            raise

    def state_dict(self) -> State:
        """Return the state of all as that of one optimizer; what only one of them has is kept under ``"bases"``."""
        state: dict[int, object] = {}
        groups: list[ParamGroup] = []
        rests: list[State] = []
        for each in self.optimizers:
            own = each.state_dict()
            first = sum(len(params_of(group)) for group in groups)
            by_key = own.pop("state")
            of_no_parameter = {key: kept for key, kept in by_key.items() if not isinstance(key, int)}
            state |= {first + key: kept for key, kept in by_key.items() if key not in of_no_parameter}
            groups += [
                {**group, "params": [first + number for number in group["params"]]} for group in own.pop("param_groups")
            ]
            rests.append({**own, **({"state": of_no_parameter} if of_no_parameter else {})})
        return {"state": state, "param_groups": groups, **({"bases": rests} if any(rests) else {})}

    def load_state_dict(self, state_dict: State) -> None:
        """Load a state dict of :meth:`state_dict`, or of one optimizer over the same groups.

        Raises:
            OptionError: If the groups are not those of these optimizers; then nothing is loaded.
        """
        state = cast(Mapping[int, object], state_dict["state"])
        shares = self._shared_out(cast(Sequence[ParamGroup], state_dict["param_groups"]))
        rests = cast(Sequence[State], state_dict.get("bases", [{}] * len(shares)))
        for each, groups, rest in zip(self.optimizers, shares, rests, strict=True):
            numbers = [number for group in groups for number in cast(list[int], group["params"])]
            own = {number: state[number] for number in numbers if number in state}
            of_no_parameter = cast(State, rest.get("state", {}))
            each.load_state_dict({**rest, "state": {**own, **of_no_parameter}, "param_groups": groups})

    def __getattr__(self, name: str) -> Callable[[], None]:
        """Return ``train()`` and ``eval()``, where an optimizer has them, as schedule-free ones do."""
        modes = [getattr(o, name) for o in self.optimizers if hasattr(o, name)] if name in ("train", "eval") else []
        if not modes:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

        def switch() -> None:
            for mode in modes:
                mode()

        return switch

    def __repr__(self) -> str:
        return repr(self.optimizers)

    def _names(self) -> str:
        return " and ".join(type(each).__name__ for each in self.optimizers)


class _States(MutableMapping[Tensor, State]):
    """States of several optimizers as one mapping; looked up afresh, since loading replaces an optimizer's state."""

    def __init__(self, optimizers: Sequence[Optimizer]) -> None:
        self._optimizers = optimizers

    def of(self, p: Tensor) -> MutableMapping[Tensor, State]:
        """Return the state mapping that has the parameter, or would get it."""
        for each in self._optimizers:
            if p in each.state or any(p is own for group in each.param_groups for own in group["params"]):
                return each.state
        raise KeyError(p)

    def __getitem__(self, p: Tensor) -> State:
        return self.of(p)[p]

    def __setitem__(self, p: Tensor, state: State) -> None:
        self.of(p)[p] = state

    def __delitem__(self, p: Tensor) -> None:
        del self.of(p)[p]

    def __contains__(self, p: object) -> bool:
        return any(p in each.state for each in self._optimizers)

    def __iter__(self) -> Iterator[Tensor]:
        return chain.from_iterable(each.state for each in self._optimizers)

    def __len__(self) -> int:
        return sum(len(each.state) for each in self._optimizers)

    def __repr__(self) -> str:
        return repr(dict(self))


def _check_apart(optimizers: Sequence[Optimizer]) -> None:
    """Check that no parameter is in two of the optimizers, and that all name their parameters or none does."""
    owners: dict[Tensor, int] = {}
    for number, each in enumerate(optimizers):
        for p in (p for group in each.param_groups for p in params_of(group)):
            if owners.setdefault(p, number) != number:
                raise OptionError(
                    f"a parameter of shape {tuple(p.shape)} is in {type(optimizers[owners[p]]).__name__} and in "
                    f"{type(each).__name__}, and both would update it: give each parameter to one optimizer."
                )
    if len({"param_names" in group for each in optimizers for group in each.param_groups}) > 1:
        raise OptionError(
            "some of these optimizers know the names of their parameters, and others do not: "
            "make all of model.named_parameters(), or all of model.parameters()."
        )
