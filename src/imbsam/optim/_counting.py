"""Wrapper around an optimizer that counts its steps and keeps memory per parameter, saved in every checkpoint."""

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.optim import Optimizer

from imbsam.optim._base_step import step_inside
from imbsam.optim._state import OWN, Kept, packed, unpacked
from imbsam.optim._weights import params_of
from imbsam.optim._wrapper import State, Wrapper


class Counting(Wrapper):
    """A :class:`Wrapper` with counts and memory.

    Args:
        base: The optimizer that makes the steps.
        options: Options that every group has besides those of the base optimizer.

    Attributes:
        steps: Number of steps made.
        skipped: Number of steps skipped.
        skipped_in_a_row: Number of steps skipped since the last step made.
        memory: Tensors kept for each parameter, by name.
    """

    keeps: tuple[str, ...] = ()
    """Names of the memory that :meth:`combine` gives, for checkpoints that are loaded in place."""
    _has_places = False

    def __init__(self, base: Optimizer, options: Mapping[str, object]) -> None:
        super().__init__(base, {**options, OWN: Kept().counts})
        self.steps = 0
        self.skipped = 0
        self.skipped_in_a_row = 0
        self.memory: dict[str, dict[Tensor, Tensor]] = {}

    @property
    def _is_open(self) -> bool:
        """Return whether parameters may be perturbed at the moment."""
        return False

    def _own_params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in params_of(group)]

    def _places(self) -> Sequence[str]:
        """Return the names of the memory that will be kept for each parameter, as far as known now."""
        return self.keeps

    def _kept(self) -> Kept:
        return Kept(self.steps, self.skipped, self.skipped_in_a_row, self.memory)

    def _count(self) -> None:
        """Write the counts into the groups, which every checkpoint of the base includes."""
        counts = self._kept().counts
        for group in self.param_groups:
            group[OWN] = counts

    def _fill_state(self) -> None:
        """Let the base create its state by a step that moves nothing, and make room for memory to be loaded into."""
        # Raising here would leave the learning rate at 0, and state_dict() says what is wrong.
        if not self._is_open:
            step_inside(self.base)
            self._has_places = True
        Optimizer.zero_grad(self)

    def _packed(self, state: State) -> State:
        places = self._places() if self._has_places else ()
        return packed(self._kept(), state, self._own_params(), places)

    def _unpack(self, state: State) -> None:
        kept, of_base = unpacked(state, self._own_params(), type(self).__name__)
        super()._unpack(of_base)
        self.steps, self.skipped, self.skipped_in_a_row = kept.steps, kept.skipped, kept.skipped_in_a_row
        self.memory = kept.memory
        self._has_places = False
        self._count()
