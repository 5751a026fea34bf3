"""Wrapper around a base optimizer: both show the same groups and state."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from torch import Tensor
from torch.optim import Optimizer

from imbsam.errors import PassError
from imbsam.optim._weights import ParamGroup

State = dict[str, object]


class Wrapper(Optimizer):
    """Optimizer whose groups, state and defaults are those of a base optimizer.

    A change of the groups or the state, on the wrapper or on the base, holds for both. ``train()`` and ``eval()`` exist
    where the base has them, as schedule-free optimizers do.

    Args:
        base: The optimizer that makes the steps.
        options: Options that every group has besides the base's own. A group without one gets the value of its
            predecessor, where the list of groups was replaced, or else this value.
    """

    base: Optimizer
    options: dict[str, object]

    def __init__(self, base: Optimizer, options: Mapping[str, object]) -> None:
        # As an unpickled optimizer: its hooks and its profiled step, and no groups of its own.
        super().__setstate__({"base": base, "options": dict(options), "defaults": {}})
        self.defaults = ChainMap(base.defaults, self.options)  # type: ignore[assignment]
        self._seen = self.param_groups

    if not TYPE_CHECKING:  # To a type checker they are what torch declares.

        @property
        def param_groups(self) -> list[ParamGroup]:
            """Groups of the base optimizer."""
            groups: list[ParamGroup] = self.base.param_groups
            seen: list[ParamGroup] = self.__dict__.get("_seen", groups)
            for number, group in enumerate(groups):
                if not self.options.keys() <= group.keys():
                    held = seen[number] if groups is not seen and len(groups) == len(seen) else {}
                    group.update({k: held.get(k, value) for k, value in self.options.items() if k not in group})
            if groups is not seen:
                self._seen = groups
            return groups

        @param_groups.setter
        def param_groups(self, groups: list[ParamGroup]) -> None:
            self.base.param_groups = groups

        @property
        def state(self) -> dict[Tensor, State]:
            """State of the base optimizer."""
            return self.base.state

        @state.setter
        def state(self, state: dict[Tensor, State]) -> None:
            self.base.state = state

    def add_param_group(self, param_group: ParamGroup) -> None:
        """Add a group to the base optimizer."""
        self.base.add_param_group(param_group)

    def state_dict(self) -> State:
        """Return the base optimizer's state with each group's ``rho``, and the method's memory; never a perturbation.

        Raises:
            PassError: If passes are open.
        """
        self._refuse_now("state_dict()")
        for before in self._optimizer_state_dict_pre_hooks.values():
            before(self)
        state = self._packed(self.base.state_dict())
        for after in self._optimizer_state_dict_post_hooks.values():
            changed = after(self, state)
            state = state if changed is None else changed
        return state

    def load_state_dict(self, state_dict: Mapping[str, object]) -> None:
        """Load a state dict of :meth:`state_dict`, or of the base optimizer alone.

        Raises:
            OptionError: If the method's memory is missing, or belongs to another model.
            PassError: If passes are open.
        """
        self._refuse_now("load_state_dict()")
        state = dict(state_dict)
        for before in self._optimizer_load_state_dict_pre_hooks.values():
            changed = before(self, state)
            state = state if changed is None else changed
        self._unpack(state)
        for after in self._optimizer_load_state_dict_post_hooks.values():
            after(self)

    def _packed(self, state: State) -> State:
        return state

    def _unpack(self, state: State) -> None:
        self.base.load_state_dict(state)

    def _refuse_now(self, call: str) -> None:
        """Raise an error where a call would come at the wrong moment."""

    def _refuse_evaluation(self) -> None:
        """Raise an error where a schedule-free base has its evaluation weights in place."""
        owners = (vars(self.base), *self.base.param_groups)
        if hasattr(self.base, "train") and not all(owner.get("train_mode", True) for owner in owners):
            raise PassError(
                f"{type(self.base).__name__} is in evaluation mode, where the weights are not those that it trains: "
                "call optimizer.train() before the passes."
            )

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in ("train", "eval"):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            switch: Callable[..., object] = getattr(self.base, name)

            def switched(*args: object, **options: object) -> object:
                self._refuse_now(f"{name}()")
                return switch(*args, **options)

            return switched

    def __getstate__(self) -> dict[str, object]:
        # Hooks, and the step that a scheduler patched in, stay behind, as they do with torch's optimizers.
        return {name: value for name, value in vars(self).items() if name != "step" and not name.startswith("_")}

    def __setstate__(self, state: dict[str, object]) -> None:
        shared = {"param_groups", "state"}
        super().__setstate__({name: value for name, value in state.items() if name not in shared})
        for name in shared & state.keys():
            setattr(self, name, state[name])
        self._seen = self.param_groups

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base!r})"
