"""BatchNorm couples the rows of a batch and keeps running statistics: a step of several passes must know both."""

from types import MethodType

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

WEIGHABLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def normalises_the_batch(module: nn.Module) -> bool:
    """Whether the module is a BatchNorm of any make: torch's, or one with the same running statistics."""
    return isinstance(module, _BatchNorm) or getattr(module, "running_mean", None) is not None


def sees_the_batch(layer: nn.Module) -> bool:
    """Whether a BatchNorm normalises with the batch: in training mode, or without running statistics."""
    return layer.training or getattr(layer, "running_mean", None) is None


class RunningStatistics:
    """The BatchNorm layers of a model: whether they couple the rows now, and their running statistics.

    Args:
        model: Any module, or ``None`` for none.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self.layers = [m for m in model.modules() if normalises_the_batch(m)] if model is not None else []
        # A layer of another make, or one that synchronises ranks, normalises as it is made to.
        self._weighable = [m for m in self.layers if type(m) in WEIGHABLE and "forward" not in vars(m)]
        self._before: list[Tensor] = []
        self._after: list[Tensor] = []

    def live(self) -> bool:
        """Whether a row's output depends on the other rows."""
        return any(sees_the_batch(m) for m in self.layers)

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

    def weigh(self, rows: Tensor | None) -> None:
        """Let the rows of the next forward enter the statistics by these weights; ``None`` for alike.

        A pass over the tail and a few other rows holds far more of the tail than the batch does. By weights that give
        each its share of the batch, its rows are normalised about as they are in the whole batch, and so as they will
        be in evaluation mode; gradients go through the weighted statistics.

        Args:
            rows: Weights that add up to 1, shape ``(R,)``, float64, on the CPU.
        """
        for layer in self._weighable:
            if rows is not None and sees_the_batch(layer):
                layer.__dict__.update(row_weights=rows, forward=MethodType(_by_weight, layer))
            elif "row_weights" in layer.__dict__:
                del layer.__dict__["forward"], layer.__dict__["row_weights"]

    def _buffers(self) -> list[Tensor]:
        return [b for layer in self.layers for b in layer.buffers(recurse=False)]


def _by_weight(layer: _BatchNorm, x: Tensor) -> Tensor:
    """Normalise with weighted statistics, shape ``(R, C, ...)``; running statistics stay."""
    rows: Tensor = layer.row_weights  # type: ignore[assignment]
    if len(x) % len(rows):
        return type(layer).forward(layer, x)
    # Where a model folds frames or patches into the first dimension, each has its row's weight.
    weights = rows.to(x.device, torch.promote_types(x.dtype, torch.float32), non_blocking=True)
    weights = weights.repeat_interleave(len(x) // len(rows)).unsqueeze(1) * (len(rows) / len(x))
    wide = x.to(weights.dtype)
    mean, variance = wide, torch.zeros_like(weights)
    if x.ndim > 2:
        variance, mean = torch.var_mean(wide, dim=list(range(2, x.ndim)), correction=0)
    # v = sum_r w_r (v_r + (m_r - m)^2), m = sum_r w_r m_r over the rows' own means and variances
    centre = (weights * mean).sum(0)
    spread = (weights * (variance + (mean - centre).square())).sum(0)
    scale = (spread + layer.eps).rsqrt()
    scale = scale if layer.weight is None else scale * layer.weight
    shift = -centre * scale if layer.bias is None else layer.bias - centre * scale
    channels = (1, -1, *(1,) * (x.ndim - 2))
    return torch.addcmul(shift.view(channels), wide, scale.view(channels)).to(x.dtype)


def _copied(sources: list[Tensor], kept: list[Tensor]) -> list[Tensor]:
    """Copy into the kept tensors, made anew where they do not fit."""
    if [(k.device, k.dtype, k.shape) for k in kept] != [(s.device, s.dtype, s.shape) for s in sources]:
        return [s.clone() for s in sources]
    with torch.no_grad():
        for kind in {s.dtype for s in sources}:
            pairs = [(k, s) for k, s in zip(kept, sources, strict=True) if s.dtype == kind]
            torch._foreach_copy_([k for k, _ in pairs], [s for _, s in pairs])
    return kept
