"""BatchNorm couples the rows of a batch and keeps running statistics: a step of several passes must know both."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from imbsam.errors import PassError


def normalises_the_batch(module: nn.Module) -> bool:
    """Whether the module is a BatchNorm of any make: torch's, or one with the same running statistics."""
    return isinstance(module, _BatchNorm) or getattr(module, "running_mean", None) is not None


def _sees_the_batch(layer: nn.Module) -> bool:
    """Whether a BatchNorm normalises with the batch: in training mode, or without running statistics."""
    return layer.training or getattr(layer, "running_mean", None) is None


class RunningStatistics:
    """The BatchNorm layers of a model: whether they couple the rows now, and their running statistics.

    Args:
        model: Any module, or ``None`` for none.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.layers = [m for m in model.modules() if normalises_the_batch(m)] if model is not None else []
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    def live(self) -> bool:
        """Whether a row's output depends on the other rows."""
        return any(_sees_the_batch(m) for m in self.layers)

    def remember(self) -> None:
        """Keep the statistics as they are before a step."""
        self._before = _copied(self._buffers(), self._before)

    def settle(self) -> None:
        """Take the present statistics as the outcome of the step: its first pass has been made."""
        self._after = _copied(self._buffers(), self._after)

    def to_settled(self) -> None:
        """Undo what passes after the first did to the statistics."""
        _copied(self._after, self._buffers())

    def to_remembered(self) -> None:
        """Undo the whole step."""
        _copied(self._before, self._buffers())

    def _buffers(self) -> list[Tensor]:
        return [b for layer in self.layers for b in layer.buffers(recurse=False)]


def _copied(sources: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """Copy into the kept tensors, made anew where they do not fit."""
    if [(k.device, k.dtype, k.shape) for k in kept] != [(s.device, s.dtype, s.shape) for s in sources]:
        return [s.clone() for s in sources]
    with torch.no_grad():
        for kind in {s.dtype for s in sources}:
            pairs = [(k, s) for k, s in zip(kept, sources, strict=True) if s.dtype == kind]
            torch._foreach_copy_([k for k, _ in pairs], [s for _, s in pairs])
    return kept


class UnseenBatchNorm:
    """Refuses a BatchNorm in training mode in the first step of an optimizer that was not given the model.

    Forwarding the tail rows alone would normalise them by themselves and spoil the running statistics, silently.
    """

    def __init__(self) -> None:
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Look at every module that is called, until :meth:`stop`."""
        self._handle = nn.modules.module.register_module_forward_pre_hook(self._refuse)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    @staticmethod
    def _refuse(module: nn.Module, inputs: Iterable[object]) -> None:
        if normalises_the_batch(module) and _sees_the_batch(module):
            raise PassError(
                f"the model has {type(module).__name__}, whose rows see each other, and the optimizer does not know. "
                "Give the optimizer the model: ImbSAM(base, tail, model=model)."
            )
