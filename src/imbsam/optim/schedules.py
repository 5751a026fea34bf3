"""Schedules of rho, and of any other number of a method: constant, linear, cosine, stepped, following."""

import math
from collections.abc import Callable, Sequence

from torch.optim import Optimizer

from imbsam.errors import OptionError

Shape = Callable[[int], float]
"""Function from the number of a step, from 0, to the value."""


def constant(value: float) -> Shape:
    """Return a schedule with the same value at every step.

    Args:
        value: The value.
    """
    return lambda step: value


def linear(start: float, end: float, steps: int) -> Shape:
    """Return a schedule from ``start`` to ``end`` in ``steps`` steps, then constant at ``end``.

    Args:
        start: Value at step 0.
        end: Value from step ``steps`` on.
        steps: Optimizer steps.
    """
    return lambda step: start + (end - start) * _share(step, steps)


def cosine(start: float, end: float, steps: int) -> Shape:
    """Return a schedule from ``start`` to ``end`` along half a cosine in ``steps`` steps, then constant at ``end``.

    Args:
        start: Value at step 0.
        end: Value from step ``steps`` on.
        steps: Optimizer steps.
    """
    return lambda step: end + (start - end) * 0.5 * (1 + math.cos(math.pi * _share(step, steps)))


def stepped(values: Sequence[float], milestones: Sequence[int]) -> Shape:
    """Return a schedule of ``values[0]`` until ``milestones[0]``, then ``values[1]`` until the next, and so on.

    Args:
        values: Values, one more than there are milestones.
        milestones: Optimizer steps, ascending.

    Raises:
        OptionError: If there is not one value more than milestones, or they do not ascend.
    """
    if len(values) != len(milestones) + 1 or list(milestones) != sorted(set(milestones)):
        raise OptionError(f"stepped() needs ascending milestones and one value more; got {values} and {milestones}.")
    return lambda step: values[sum(step >= milestone for milestone in milestones)]


def following(optimizer: Optimizer, *, low: float, high: float, lr_low: float, lr_high: float) -> Shape:
    """Return a schedule ``low + (high - low) (lr - lr_low) / (lr_high - lr_low)`` of the learning rate (GSAM, eq. 7).

    Args:
        optimizer: Optimizer whose first group's learning rate is followed.
        low: Value at ``lr_low``.
        high: Value at ``lr_high``.
        lr_low: Lowest learning rate of the run.
        lr_high: Highest learning rate of the run.

    Raises:
        OptionError: If ``lr_low`` is not below ``lr_high``.
    """
    if not lr_low < lr_high:
        raise OptionError(f"lr_low must be below lr_high; got {lr_low} and {lr_high}.")
    return lambda step: low + (high - low) * (optimizer.param_groups[0]["lr"] - lr_low) / (lr_high - lr_low)


class Schedule:
    """Schedule that sets an option of a method at each step; its own state is the number of steps.

    Args:
        optimizer: The method.
        name: An option of the parameter groups (``"rho"``, ``"head_rho"``), or an attribute of the optimizer
            (``"alpha"``) or of its ascent (``"sigma"``, ``"decay"``, ``"damping"``).
        shape: The value at each step; one for all groups, or one for each.

    Raises:
        OptionError: If there is no such option, or the number of shapes is not that of the groups.

    Example:
        >>> schedule = Schedule(optimizer, "rho", cosine(0.05, 0.2, steps=10_000))  # doctest: +SKIP
        >>> optimizer.step(closure, targets=y); schedule.step()  # doctest: +SKIP
    """

    def __init__(self, optimizer: Optimizer, name: str, shape: Shape | Sequence[Shape]) -> None:
        groups = optimizer.param_groups
        several = isinstance(shape, Sequence)
        shapes = list(shape) if isinstance(shape, Sequence) else [shape]
        owners = [optimizer, getattr(optimizer, "ascent", None)]
        self._owner = next((o for o in owners if name in getattr(o, "__dict__", {})), None)
        in_groups = all(name in group for group in groups)
        if not in_groups and self._owner is None:
            numbers = [n for g in groups[:1] for n, v in g.items() if isinstance(v, float)]
            raise OptionError(
                f"the optimizer has no option {name!r} to schedule. Its groups have {', '.join(numbers)}."
            )
        if several and len(shapes) != (len(groups) if in_groups else 1):
            raise OptionError(f"give one shape, or one for each of the {len(groups)} groups; got {len(shapes)}.")
        self.optimizer = optimizer
        self.name = name
        self.shapes = shapes
        self.steps = 0
        self._in_groups = in_groups
        self._set()

    def step(self) -> None:
        """Go to the next step; call it after the optimizer's step."""
        self.steps += 1
        self._set()

    def _set(self) -> None:
        if self._in_groups:
            for number, group in enumerate(self.optimizer.param_groups):
                # A group added since has the last shape.
                group[self.name] = self.shapes[min(number, len(self.shapes) - 1)](self.steps)
        else:
            setattr(self._owner, self.name, self.shapes[0](self.steps))

    def state_dict(self) -> dict[str, int]:
        """Return the number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continue where another schedule of the same shape stopped.

        Args:
            state: Result of its :meth:`state_dict`.
        """
        self.steps = state["steps"]
        self._set()


def _share(step: int, steps: int) -> float:
    return min(1.0, step / steps) if steps > 0 else 1.0
