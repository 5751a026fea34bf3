"""BatchNorm, which couples the rows of a batch: find such layers, and weigh the rows in their statistics."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import MethodType
from typing import cast

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn.modules.instancenorm import _InstanceNorm

from imbsam.errors import PassError

Group = tuple[int, float]
"""Number of consecutive rows, and their total weight; the weights of all rows add up to 1."""

CONTEXT_ROWS = 8
"""Rows that stand for the rest of a batch of images or videos, whose channels have many places each."""

CONTEXT_ROWS_OF_TABLES = 32
"""Rows that stand for the rest of a batch of a table, where a channel has one place in each row."""

WEIGHABLE = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
"""Layers whose rows can be weighted; any other BatchNorm weighs all rows alike."""

OF_TORCH = (*WEIGHABLE, nn.SyncBatchNorm)


def normalises_the_batch(module: nn.Module) -> bool:
    """Return whether the module is a BatchNorm of any make: torch's, or one with the same running statistics.

    InstanceNorm normalises each row by itself, and a frozen BatchNorm, as detection models have, by constants.
    """
    if isinstance(module, OF_TORCH):
        return True
    apart = isinstance(module, _InstanceNorm) or "Frozen" in type(module).__name__
    return getattr(module, "running_mean", None) is not None and not apart


def sees_the_batch(layer: nn.Module) -> bool:
    """Return whether a BatchNorm normalises with the batch: in training mode, or without running statistics."""
    return layer.training or getattr(layer, "running_mean", None) is None


class BatchNorms:
    """BatchNorm layers among some modules: whether they couple the rows now, and how the rows enter them.

    Args:
        modules: The modules that a step calls.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        modules = list(modules)
        self.layers = [m for m in modules if normalises_the_batch(m)]
        self._replicated = any(isinstance(m, nn.DataParallel) for m in modules)

    @property
    def context_rows(self) -> int:
        """Number of other rows that keep a pass over few rows as accurate as the whole batch."""
        places = (nn.BatchNorm2d, nn.BatchNorm3d)
        return CONTEXT_ROWS if all(isinstance(m, places) for m in self.layers) else CONTEXT_ROWS_OF_TABLES

    @property
    def live(self) -> bool:
        """Return whether a row's output depends on the other rows of its pass."""
        return any(sees_the_batch(m) for m in self.layers)

    @property
    def need_the_batch(self) -> bool:
        """Return whether a pass has to be the whole batch: ``DataParallel`` normalises each device's rows apart."""
        return self._replicated and self.live

    def weigh(self, groups: Sequence[Group] | None) -> None:
        """Weigh the rows of the next forward in the statistics; ``None`` gives every row the same weight.

        A pass over the tail rows and a few other rows holds a far larger share of tail rows than the batch does. The
        weights give each group of rows its share of the batch, so that the rows are normalised about as in the whole
        batch, and as they will be in evaluation mode. Gradients flow through the weighted statistics.
        """
        for layer in self.layers:
            # A layer of another make, or one that synchronises ranks, normalises as it is made to.
            if groups is not None and type(layer) in WEIGHABLE and sees_the_batch(layer):
                if "forward" not in vars(layer) or "row_groups" in vars(layer):
                    layer.__dict__.update(row_groups=tuple(groups), forward=MethodType(_uncompiled(), layer))
                    layer.__dict__["_replicate_for_data_parallel"] = MethodType(_replica, layer)
            elif "row_groups" in layer.__dict__:
                for name in ("forward", "row_groups", "_replicate_for_data_parallel"):
                    del layer.__dict__[name]


def _replica(layer: nn.Module) -> nn.Module:
    """Return a copy for another device, which would normalise a part of the rows by itself."""
    copy = type(layer)._replicate_for_data_parallel(layer)  # type: ignore[no-untyped-call]
    copy.__dict__["forward"] = _refuse_a_replica
    return cast(nn.Module, copy)


def _refuse_a_replica(x: Tensor) -> Tensor:
    raise PassError(
        "a module copies the model for several devices, as nn.DataParallel does, and each copy would normalise a part "
        'of the rows by itself: give the optimizer batch_statistics="batch", or use DistributedDataParallel.'
    )


@cache
def _uncompiled() -> Callable[[nn.BatchNorm1d, Tensor], Tensor]:
    """Run :func:`_by_weight` outside compiled graphs, which would be recompiled for every size of the groups."""
    # Not a decorator: it imports torch's compiler, which an optimizer's first step does anyway.
    left_out: Callable[[nn.BatchNorm1d, Tensor], Tensor] = torch.compiler.disable(_by_weight)  # type: ignore[no-untyped-call]
    return left_out


def _by_weight(layer: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Normalise with weighted statistics, shape ``(R, C, ...)``; running statistics stay."""
    groups: tuple[Group, ...] = layer.row_groups  # type: ignore[assignment]
    rows = sum(number for number, _ in groups)
    if len(x) % rows:
        return type(layer).forward(layer, x)
    # Where a model folds frames or patches into the first dimension, each has its row's weight.
    numbers = [number * (len(x) // rows) for number, _ in groups]
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    weight = wide.new_ones(x.shape[1]) if layer.weight is None else layer.weight
    bias = torch.zeros_like(weight) if layer.bias is None else layer.bias
    normalised = _WeightedBatchNorm.apply if _has_kernels() else _by_autograd
    shares = [share for _, share in groups]
    y: Tensor = normalised(wide, weight.to(wide.dtype), bias.to(wide.dtype), numbers, shares, layer.eps)
    return y.to(x.dtype)


@cache
def _has_kernels() -> bool:
    """Return whether torch has the operators of :class:`_WeightedBatchNorm`, which no documentation promises."""
    return all(hasattr(torch.ops.aten, name) for name in ("batch_norm_update_stats", "native_batch_norm_backward"))


def _by_autograd(
    x: Tensor, weight: Tensor, bias: Tensor, numbers: list[int], shares: list[float], eps: float
) -> Tensor:
    """Normalise with weighted statistics by public operators; a whole step of a ResNet-20 takes 9 % longer."""
    places, channels = [0, *range(2, x.ndim)], (1, -1, *(1,) * (x.ndim - 2))
    found = [torch.var_mean(part, places, correction=0) for part in torch.split(x, numbers)]
    mean = torch.stack([share * m for share, (_, m) in zip(shares, found, strict=True)]).sum(0)
    spreads = [share * (v + (m - mean).square()) for share, (v, m) in zip(shares, found, strict=True)]
    scale = weight * (torch.stack(spreads).sum(0) + eps).rsqrt()
    return torch.addcmul((bias - mean * scale).view(channels), x, scale.view(channels))


class _WeightedBatchNorm(torch.autograd.Function):
    """BatchNorm with a weight for each group of rows; it reads the activations a few times more often than torch's."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, x: Tensor, weight: Tensor, bias: Tensor, numbers: list[int], shares: list[float], eps: float
    ) -> Tensor:
        # m = sum_g w_g m_g, v = sum_g w_g (v_g + (m_g - m)^2) of the groups' means and variances, one after another
        (mean, variance), *others = [
            torch.ops.aten.batch_norm_update_stats(part, None, None, 0.0) for part in torch.split(x, numbers)
        ]
        together = shares[0]
        for (its_mean, its_variance), share in zip(others, shares[1:], strict=True):
            together += share
            part = share / together if together else 0.0
            apart = its_mean - mean
            mean.add_(apart, alpha=part)
            variance.lerp_(its_variance, part).addcmul_(apart, apart, value=part * (1 - part))
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.numbers, ctx.shares, ctx.eps = numbers, shares, eps  # type: ignore[attr-defined]
        return nn.functional.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance = ctx.saved_tensors  # type: ignore[attr-defined]
        numbers, shares, eps = ctx.numbers, ctx.shares, ctx.eps  # type: ignore[attr-defined]
        # Sum of dy z, sum of dy; z = (x - m) / sqrt(v + eps)
        _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, mean, variance, None, None, False, eps, [False, True, True]
        )
        # dx = s dy - w s (sum dy + z sum dy z), s = weight / sqrt(v + eps), w the weight of a place; the second term,
        # through the statistics, is A + B x in each channel.
        channels = (1, -1, *(1,) * (x.ndim - 2))
        inverse = (variance + eps).rsqrt()
        scale = weight * inverse
        per_x = scale * inverse * grad_weight
        constant = torch.addcmul(scale * grad_bias, mean, per_x, value=-1).view(channels)
        scale, per_x = scale.view(channels), per_x.view(channels)
        places = x[0].numel() // x.shape[1]
        grad_x = torch.empty_like(x)
        of_groups = (torch.split(each, numbers) for each in (grad_x, x, grad))
        for part, values, slopes, number, share in zip(*of_groups, numbers, shares, strict=True):
            each = -share / (number * places)
            torch.addcmul(constant * each, values, per_x, value=each, out=part)
            part.addcmul_(slopes, scale)
        return grad_x, grad_weight, grad_bias, None, None, None
