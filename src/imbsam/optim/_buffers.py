"""Buffers that a forward changes: saved and restored, so that a step of several forwards changes each once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from imbsam.optim._tensors import each, local

SAMPLED = 1 << 14
"""Elements compared to see that a frozen parameter has changed; a smaller one is saved whole and can be restored."""


@dataclass(eq=False)
class Slot:
    """Place of a buffer in its module: the module may change the tensor in it, or put another tensor there.

    Args:
        owner: Module that has the buffer.
        name: Name of the buffer.
        place: Dictionary that holds it: the module's ``_buffers`` or ``_parameters``.
        normalises: Whether the buffer belongs to a BatchNorm, whose output in training mode does not depend on it.
        moves: Whether a forward was seen to change the buffer.
    """

    owner: nn.Module
    name: str
    place: dict[str, Tensor | None]
    normalises: bool
    moves: bool = False
    training: bool = True
    held: Tensor | None = None
    version: int = -1
    before: Tensor | None = None
    outcome: Tensor | None = None
    after: Tensor | None = None

    @property
    def always(self) -> bool:
        """Return whether the buffer counts as changed without a comparison."""
        return self.normalises or self.moves

    def now(self) -> Tensor | None:
        """Return the tensor in the slot, or ``None`` where none can be kept."""
        tensor = self.place.get(self.name)
        usable = tensor is not None and not is_lazy(tensor) and tensor.layout == torch.strided
        return tensor if usable and not tensor.is_inference() and not tensor.requires_grad else None  # type: ignore[union-attr]

    def touched(self) -> bool:
        """Return whether the tensor may differ from the saved one."""
        now = self.now()
        return now is not None and (self.always or now is not self.held or now._version != self.version)


class Buffers:
    """Buffers that the forwards of a step may change: BatchNorm's statistics, moving averages, power iterations.

    After a step the buffers have the values of its first pass, at the unperturbed weights. Each later pass starts with
    the buffers from before the step (those of BatchNorm excepted), so that all passes see the same function of the
    weights.
    """

    def __init__(self) -> None:
        self._slots: list[Slot] = []
        self._frozen: list[tuple[nn.Module, str, Tensor, Tensor]] = []
        self._first: list[tuple[Slot, Tensor | None, Tensor | None]] = []

    def find(self, modules: Iterable[nn.Module], normalising: Sequence[nn.Module]) -> None:
        """Save the buffers of these modules; what is known of buffers saved before stays."""
        known = {(id(slot.place), slot.name): slot for slot in self._slots}
        layers, seen = set(normalising), set()
        self._slots = []
        for module in modules:
            for name, tensor in module._buffers.items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    fresh = Slot(module, name, module._buffers, module in layers)
                    self._slots.append(known.get((id(module._buffers), name), fresh))
        self._slots += [slot for slot in known.values() if slot.place is slot.owner._parameters]

    @property
    def move(self) -> bool:
        """Return whether a forward was seen to change a buffer that is not BatchNorm's."""
        return any(slot.moves and slot.owner.training == slot.training for slot in self._slots)

    def remember(self, *, further: bool = False) -> None:
        """Save the buffers before a step, or before a further micro-batch of it."""
        if not further:
            self._first = []
        elif not self._first:
            self._first = [(slot, slot.held, slot.before) for slot in self._slots]
            for slot in self._slots:
                slot.before = None
        if self._slots:
            _hold([slot for slot in self._slots if slot.before is None or slot.touched()])

    def remember_new(self) -> None:
        """Save the buffers of a module about to be called for the first time; others may have changed already."""
        _hold([slot for slot in self._slots if slot.before is None])

    def remember_frozen(self, modules: Iterable[nn.Module]) -> None:
        """Note the values of the parameters without a gradient: a forward may change some, as momentum encoders do."""
        kept = {(id(slot.place), slot.name) for slot in self._slots}
        self._frozen = [
            (module, name, p, _sample(p))
            for module in modules
            for name, p in module._parameters.items()
            if p is not None and not (p.requires_grad or is_lazy(p) or (id(module._parameters), name) in kept)
        ]

    def settle(self, *, look: bool) -> None:
        """Take the present buffers as the outcome of the step, whose first pass has been made.

        ``look`` compares the values to find the buffers that have changed, whatever their version counter says.
        """
        if look:
            for slot in self._slots:
                slot.moves = slot.moves or (not slot.normalises and _differ(slot.now(), slot.before))
                slot.training = slot.owner.training
            for module, name, p, sample in self._frozen:
                if _differ(_sample(p), sample):
                    whole = sample.view(p.shape) if len(sample) == p.numel() else None
                    place: dict[str, Tensor | None] = module._parameters  # type: ignore[assignment]
                    self._slots.append(Slot(module, name, place, False, moves=True, held=p, before=whole))
            self._frozen = []
        if not self._slots:
            return
        touched = []
        for slot in self._slots:
            slot.outcome = slot.now() if slot.touched() else None
            if slot.outcome is not None:
                touched.append(slot)
        _keep(touched, "after", [slot.outcome for slot in touched])

    def rewind(self) -> None:
        """Restore the buffers from before the step, for another pass over the same function."""
        _put([(s, s.held, s.before) for s in self._slots if not s.normalises and s.touched()])

    def end(self, *, settled: bool) -> None:
        """Leave the outcome of the first pass, or the buffers from before the passes where there is none."""
        if not self._slots:
            return
        touched = [slot for slot in self._slots if slot.touched()]
        if not settled:
            _put([(slot, slot.held, slot.before) for slot in touched])
            return
        # What moved in a later pass alone has no outcome: it stays as it was.
        _put([(s, s.held, s.before) if s.outcome is None else (s, s.outcome, s.after) for s in touched])

    def undo(self) -> None:
        """Restore the buffers from before the step, all its micro-batches included."""
        _put(self._first or [(slot, slot.held, slot.before) for slot in self._slots if slot.touched()])

    @torch.no_grad()
    def undo_unless_finite(self) -> None:
        """Undo the whole step in modules where it left NaN or infinity; an accelerator does not wait for the answer."""
        owners: dict[nn.Module, list[Slot]] = {}
        for slot in self._slots:
            now = slot.now()
            if now is not None and slot.before is not None and now.shape == slot.before.shape and slot.touched():
                owners.setdefault(slot.owner, []).append(slot)
        for slots in owners.values():
            held = [(slot.now(), slot.before) for slot in slots]
            sound = torch.stack([now.isfinite().all() for now, _ in held if now is not None]).all()
            for now, kept in held:
                if now is not None and kept is not None:
                    now.copy_(torch.where(sound, now, kept))


def _sample(p: Tensor) -> Tensor:
    flat = local(p.detach()).reshape(-1)
    return flat[:: -(-len(flat) // SAMPLED) or 1].clone()


def _differ(now: Tensor | None, before: Tensor | None) -> bool:
    if now is None or before is None:
        return False
    return now.shape != before.shape or not bool(((now == before) | ((now != now) & (before != before))).all())


def _hold(slots: Sequence[Slot]) -> None:
    """Save what lies in the slots as the values from before."""
    for slot in slots:
        slot.held = slot.now()
        slot.version = -1 if slot.held is None else slot.held._version
    _keep(slots, "before", [slot.held for slot in slots])


@torch.no_grad()
def _keep(slots: Sequence[Slot], name: str, tensors: Sequence[Tensor | None]) -> None:
    """Copy the tensors into the memory that the slots have under a name; memory that does not fit is replaced."""
    kept, sources = [], []
    for slot, tensor in zip(slots, tensors, strict=True):
        copy = getattr(slot, name)
        if tensor is None:
            setattr(slot, name, None)
        elif copy is None or (copy.device, copy.dtype, copy.shape) != (tensor.device, tensor.dtype, tensor.shape):
            setattr(slot, name, tensor.detach().clone())
        else:
            kept.append(copy)
            sources.append(tensor)
    _copy(kept, sources)


@torch.no_grad()
def _put(found: Sequence[tuple[Slot, Tensor | None, Tensor | None]]) -> None:
    """Put saved values back into the buffer's place."""
    kept = [(slot, tensor, contents) for slot, tensor, contents in found if tensor is not None and contents is not None]
    for slot, tensor, contents in kept:
        slot.place[slot.name] = tensor
        if tensor.shape != contents.shape:
            tensor.resize_(contents.shape)
    _copy([tensor for _, tensor, _ in kept], [contents for *_, contents in kept])


def _copy(tensors: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    for kind in {t.dtype for t in tensors}:
        pairs = [(t, s) for t, s in zip(tensors, sources, strict=True) if t.dtype == kind]
        each("copy_", [t for t, _ in pairs], [s for _, s in pairs])
