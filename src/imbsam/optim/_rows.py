"""Check that the loss of a row does not depend on the other rows, made once where a part of the batch is forwarded."""

import inspect
import random
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.errors import RowsWarning
from imbsam.optim._plan import PlannedPass

ROWS = 4
"""Rows whose losses are compared, with as many others beside them; fewer in a batch of fewer than 16."""

TOLERANCE = 0.02
"""Largest relative difference of a loss that counts as rounding; half precision differs by less."""


NEGLIGIBLE = 1e-6
"""Largest absolute difference that counts as rounding, for the losses of a network that fits its rows."""


class RowCheck:
    """Check that forwards a few rows alone and beside others, and warns if their losses differ.

    Both forwards have the same number of rows and start with the same random numbers, so that dropout changes nothing.
    Where no random number is drawn, the losses are also compared with those in the whole pass.

    Args:
        planned: The passes of the step.
        batch_size: Rows of the batch.
        method: Name of the method, for the warning.
    """

    def __init__(self, planned: Sequence[PlannedPass], batch_size: int, method: str) -> None:
        still = [p for p in planned if p.term is None and p.uses]
        self._largest = max(still, key=lambda p: batch_size if p.rows is None else len(p.rows), default=None)
        self._method = method
        self.passes: list[PlannedPass] = []
        self._rows = 0
        if self._largest is None:
            return
        rows = torch.arange(batch_size) if self._largest.rows is None else self._largest.rows
        if len(rows) >= 8:
            self._rows = n = min(ROWS, len(rows) // 4)
            self.passes = [PlannedPass(torch.cat([rows[:n], others]), ()) for others in (rows[n : 2 * n], rows[-n:])]
        self._losses: dict[int, Tensor] = {}
        self._states: list[_Randomness] = []
        self._device = torch.device("cpu")

    def follows(self, planned: PlannedPass) -> bool:
        """Return whether the check's passes come after this one."""
        return bool(self.passes) and planned is self._largest

    def before(self, planned: PlannedPass) -> None:
        """Make both passes of the check draw the same random numbers."""
        if any(planned is each for each in self.passes):
            self._states.append(_Randomness.now(self._device))
            self._states[0].put_back()

    def see(self, planned: PlannedPass, rows: slice, losses: Tensor) -> None:
        """Keep the losses of some rows of a pass."""
        if planned is self._largest:
            self._device = losses.device
        if any(planned is each for each in (self._largest, *self.passes)):
            seen = self._losses.setdefault(id(planned), losses.new_zeros(max(rows.stop, self._rows)))
            head = range(rows.start, min(rows.stop, self._rows))
            seen[head.start : head.stop] = losses[: len(head)]

    def after(self, planned: PlannedPass) -> None:
        """Compare the losses, once both passes are made.

        Raises:
            RowsWarning: As a warning, if a loss differs.
        """
        if not self.passes or planned is not self.passes[-1]:
            return
        first, second, *_ = self.passes
        begun, drawn = self._states
        alone, beside, whole = (self._losses[id(p)][: self._rows].double() for p in (first, second, self._largest))
        begun.put_back()
        others = [beside] if begun.differs(drawn) else [beside, whole]
        slack = TOLERANCE * float(torch.stack([alone, *others]).abs().max()) + NEGLIGIBLE
        for other in others:
            worst = int((alone - other).abs().argmax())
            found, reference = float(alone[worst]), float(other[worst])
            if abs(found - reference) > slack:
                warnings.warn(
                    "a row's loss depends on the rows beside it (or on random numbers of its own): "
                    f"{found:.4g} beside some, {reference:.4g} beside others. {self._method} forwards a part of the "
                    "batch in some passes, which changes the loss: give the optimizer "
                    'rows="all" (or check_rows=False, if that is intended).',
                    RowsWarning,
                    stacklevel=_level_of_the_caller(),
                )
                return


def _level_of_the_caller() -> int:
    """Return the stack level of the first frame that belongs neither to us nor to torch."""
    frame, level = inspect.currentframe(), 0
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in ("imbsam", "torch"):
        frame, level = frame.f_back, level + 1
    return level


@dataclass(frozen=True)
class _Randomness:
    """States of the random numbers of torch on the CPU and an accelerator, of Python and of numpy."""

    device: torch.device
    cpu: Tensor
    accelerator: Tensor | None
    python: tuple[object, ...]
    numpy: dict[str, object] | None

    @classmethod
    def now(cls, device: torch.device) -> "_Randomness":
        own = torch.get_device_module(device).get_rng_state(device) if device.type in ("cuda", "xpu", "mps") else None
        # Not imported: who has not loaded it draws nothing from it.
        loaded = sys.modules.get("numpy")
        drawn: dict[str, object] | None = None if loaded is None else loaded.random.get_state(legacy=False)
        return cls(device, torch.get_rng_state(), own, random.getstate(), drawn)

    def put_back(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.accelerator is not None:
            torch.get_device_module(self.device).set_rng_state(self.accelerator, self.device)
        random.setstate(self.python)
        if self.numpy is not None:
            sys.modules["numpy"].random.set_state(self.numpy)

    def differs(self, other: "_Randomness") -> bool:
        """Return whether anything was drawn between the two states."""
        tensors = ((self.cpu, other.cpu), (self.accelerator, other.accelerator))
        drawn = any(a is not None and b is not None and not torch.equal(a, b) for a, b in tensors)
        return drawn or (self.python, str(self.numpy)) != (other.python, str(other.numpy))
