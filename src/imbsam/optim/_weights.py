"""Weights of a method: perturbed along an ascent, and restored bit for bit."""

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from imbsam.errors import PassError
from imbsam.optim._perturbed import ALL, Perturbed
from imbsam.optim._tensors import each, gathered_again, gathering, local
from imbsam.optim._terms import Term
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope

ParamGroup = dict[str, object]


@dataclass(frozen=True)
class Reached:
    """Parameters that a backward may reach.

    Args:
        own: Parameters of the optimizer.
        guests: Other parameters of the model.
        mine: Parameters of the optimizer, as a set.
        known: All of these parameters, as a set.
    """

    own: list[Tensor]
    guests: list[Tensor]
    mine: frozenset[Tensor]
    known: frozenset[Tensor]


class Weights:
    """Parameters that are perturbed, with one copy of each, which is kept from step to step.

    Args:
        model: Model that names the parameters, and refuses ``state_dict`` while they are perturbed.
        perturb: Choice of the parameters to perturb, see :class:`Perturbed`.
    """

    def __init__(self, model: nn.Module | None, perturb: Sequence[str] = (ALL,)) -> None:
        self._saved_by = _unwrapped(model)
        self._gathering = gathering(model)
        self._perturbed = Perturbed(perturb, model)
        self._named: Mapping[str, Tensor] = dict(model.named_parameters()) if model is not None else {}
        self._names = {p: name for name, p in self._named.items()}
        self._reached: Reached | None = None
        self._saved: dict[Tensor, Tensor] = {}
        self._moved: list[Tensor] = []

    def reached(self, own: list[Tensor]) -> Reached:
        """Return the parameters that a backward may reach, searched again when the optimizer's have changed.

        Args:
            own: Parameters of the optimizer.
        """
        kept = self._reached
        if kept is None or len(kept.own) != len(own) or not all(map(operator.is_, kept.own, own)):
            mine = frozenset(own)
            guests = [p for p in self._named.values() if p not in mine]
            kept = self._reached = Reached(own, guests, mine, mine.union(guests))
        return kept

    @property
    def perturbed(self) -> bool:
        """Return whether the parameters differ from the step's weights."""
        return bool(self._moved)

    def slopes(
        self,
        groups: Sequence[ParamGroup],
        term: Term,
        *,
        fresh: bool,
        keep: bool,
        loss_scale: float,
        state: Mapping[Tensor, Mapping[str, object]],
        step: int,
    ) -> list[Slope]:
        """Return the parameters that an ascent may move for a term, by group; groups without any are left out.

        With ``fresh`` the ascent looks at the gradients in ``.grad``; with ``keep`` they are needed later, so it gets
        copies. ``state`` is the base optimizer's, ``step`` the number of steps made.
        """
        slopes = []
        for group in groups:
            pairs = [(p, name) for p, name in self._named_in(group) if self._perturbed.holds(p, name)]
            moved = [(p, name) for p, name in pairs if (p.grad is not None if fresh else p.requires_grad)]
            grads = [p.grad for p, _ in moved if p.grad is not None] if fresh else []
            if loss_scale != 1:
                grads = [g / loss_scale for g in grads]
            elif keep:
                grads = [g.clone() for g in grads]
            if group.get("maximize"):
                # The ascent is that of what is minimised.
                grads = [-g for g in grads]
            rho = float(group[term.radius]) * term.factor  # type: ignore[arg-type]
            if moved:
                slopes.append(Slope(rho, [p for p, _ in moved], grads, [name for _, name in moved], state, group, step))
        return slopes

    def check(self, groups: Sequence[ParamGroup]) -> None:
        """Check that at least one parameter of the groups is perturbed.

        Raises:
            OptionError: If no parameter is perturbed.
        """
        self._perturbed.check([pair for group in groups for pair in self._named_in(group)])

    def _named_in(self, group: ParamGroup) -> list[tuple[Tensor, str | None]]:
        names: Sequence[str | None] | None = group.get("param_names")  # type: ignore[assignment]
        return list(zip(params_of(group), names or [self._names.get(p) for p in params_of(group)], strict=True))

    @torch.no_grad()
    def climb(self, ascent: Ascent, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Save the parameters and perturb them; do nothing where none may move."""
        if not slopes:
            return Climbed()
        self._save([p for slope in slopes for p in slope.params])
        climbed = ascent.climb(slopes, memory)
        self._changed()
        return climbed

    def restore(self) -> None:
        """Restore the saved weights.

        Copied back, not subtracted: w + e - e differs from w in the last bit, and bf16 loses all of it.
        """
        if self._moved:
            with torch.no_grad():
                each("copy_", [local(p) for p in self._moved], [self._saved[p] for p in self._moved])
            self._changed()
            self._moved = []
            for handle in self._guards:
                handle.remove()

    def _save(self, params: list[Tensor]) -> None:
        own = [local(p) for p in params]
        for p, held in zip(params, own, strict=True):
            if not _fits(self._saved.get(p), held):
                self._saved[p] = torch.empty_like(held)
        each("copy_", [self._saved[p] for p in params], own)
        # While they stand, a checkpoint can never hold perturbed weights.
        self._guards = [m.register_state_dict_pre_hook(_refuse) for m in self._saved_by]  # type: ignore[no-untyped-call]
        self._moved = params

    def _changed(self) -> None:
        # Autocast keeps the weights it has cast, and the root of a sharded model those it has gathered.
        torch.clear_autocast_cache()
        gathered_again(self._gathering)


def params_of(group: ParamGroup) -> list[Tensor]:
    """Return the parameters of a group."""
    return group["params"]  # type: ignore[return-value]


def _fits(kept: Tensor | None, p: Tensor) -> bool:
    return kept is not None and (kept.device, kept.dtype, kept.shape) == (p.device, p.dtype, p.shape)


def _unwrapped(model: nn.Module | None) -> list[nn.Module]:
    """Return the model and those it wraps (``DistributedDataParallel``, ``torch.compile``): any may be saved."""
    if model is None:
        return []
    children = list(model.children())
    return [model, *(_unwrapped(children[0]) if len(children) == 1 else [])]


def _refuse(module: nn.Module, prefix: str, keep_vars: bool) -> None:
    raise PassError("the model's weights are perturbed: take its state_dict after the passes, not inside them.")
