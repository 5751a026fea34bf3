"""Targets: the class of each row of a batch, or how much of it belongs to each class."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imbsam.errors import OptionError

if TYPE_CHECKING:
    from imbsam.optim._sharpness_aware import SharpnessAware

ROUNDING = 0.01
"""How far from 1 the memberships of a row may sum and still be its shares: half precision is off by almost as much."""

SHARES = (
    "labels of pixels or tokens become each row's share of every class by "
    "torch.nn.functional.one_hot(targets.long(), C).flatten(1, -2).double().mean(1)"
)


def checked_targets(targets: Tensor, method: "SharpnessAware") -> Tensor:
    """What a method's terms are made of.

    Args:
        targets: As the user gives them, the first dimension the batch.
        method: Whose terms.

    Returns:
        On the CPU, classes ``(B,)``, int64, or memberships ``(B, C)``, float64. A method that is not class-aware gets
        zeros, ``(B,)``, where the targets are no integers ``(B,)``.

    Raises:
        OptionError: If the method cannot go by such targets.
    """
    if not isinstance(targets, Tensor) or targets.ndim == 0 or len(targets) == 0:
        got = f"a tensor of shape {tuple(targets.shape)}" if isinstance(targets, Tensor) else type(targets).__name__
        raise OptionError(
            "targets must be one tensor with an entry for each row of the batch, B > 0: classes (B,) or memberships "
            f"(B, C); got {got}."
        )
    if targets.dtype is torch.long and targets.ndim == 1 and targets.is_cpu:
        return targets
    name = type(method).__name__
    if not method.class_aware:
        return targets.detach().cpu().long() if _is_classes(targets) else torch.zeros(len(targets), dtype=torch.long)
    if targets.is_complex():
        raise OptionError(f"{name} goes by classes, and targets are {targets.dtype}.")
    if targets.ndim > 2:
        raise OptionError(
            f"{name} goes by the class of each row, and targets have shape {tuple(targets.shape)}: {SHARES}."
        )
    targets = targets.detach().cpu()
    if targets.ndim == 1 or targets.shape[1] == 1:
        return _classes(targets.flatten(), name)
    memberships = _memberships(targets, name)
    return memberships if method.memberships else _classes_alone(memberships, name)


def _is_classes(targets: Tensor) -> bool:
    integer = not (targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool)
    return integer and targets.ndim == 1


def _classes(targets: Tensor, name: str) -> Tensor:
    if targets.is_floating_point() and not bool((whole := targets.isfinite() & (targets == targets.round())).all()):
        raise OptionError(
            f"{name} goes by classes, and target {float(targets[~whole][0]):.4g} is none. In regression let "
            "bins = TargetBins.from_targets(train_targets), take WeightedSAM(base, bins.weights()) (balanced-sam) and "
            "give targets=bins(y); of two classes, y the share of the second, give targets=torch.stack([1 - y, y], 1)."
        )
    return targets.long()


def _memberships(targets: Tensor, name: str) -> Tensor:
    slack = max(1e-6, torch.finfo(targets.dtype).eps) if targets.is_floating_point() else 0.0
    memberships = targets.double()
    within = (memberships >= -slack) & (memberships <= 1 + slack)
    if not bool(within.all()):
        raise OptionError(
            f"{name} takes targets of shape {tuple(targets.shape)} for memberships, each in [0, 1], and one is "
            f"{float(memberships[~within][0]):.4g}. Logits become memberships by softmax(1) or sigmoid(); {SHARES}."
        )
    return memberships.clamp(0, 1)


def _classes_alone(memberships: Tensor, name: str) -> Tensor:
    one_hot = (memberships == 1).sum(1) + (memberships == 0).sum(1) == memberships.shape[1]
    if not bool((one_hot & (memberships.sum(1) == 1)).all()):
        raise OptionError(
            f"the terms() of {name} are made of classes, shape (B,), and targets are memberships of shape "
            f"{tuple(memberships.shape)}: give classes, or let terms() take memberships and set memberships = True."
        )
    return memberships.argmax(1)


def checked_classes(targets: Tensor, classes: int) -> None:
    """See that targets go by the optimizer's classes.

    Args:
        targets: Classes or memberships.
        classes: How many the optimizer has.
    """
    if targets.ndim == 2:
        if targets.shape[1] != classes:
            raise OptionError(
                f"targets of shape {tuple(targets.shape)} are memberships in {targets.shape[1]} classes, and the "
                f"optimizer has {classes}; {SHARES}."
            )
        return
    lowest, highest = (int(bound) for bound in targets.aminmax())
    if lowest >= 0 and highest < classes:
        return
    wrong = f"target {lowest if lowest < 0 else highest} is outside the {classes} classes of the optimizer"
    way_out = (
        "; rows without a class, ignored or unlabelled, have memberships of 0: "
        "targets=torch.nn.functional.one_hot(y.clamp(min=0), C) * (y >= 0)[:, None]"
    )
    raise OptionError(f"{wrong} (0..{classes - 1}){way_out if lowest < 0 else ''}.")


def row_shares(targets: Tensor, values: Tensor) -> Tensor:
    """What each row has of what each class has: how much of it is tail, if the tail classes have 1.

    Args:
        targets: Classes, or memberships: of a row whose memberships sum to 1 the values are averaged by them, of any
            other, with several labels or none, the largest membership times value counts.
        values: Of each class, shape ``(C,)``, at least 0.

    Returns:
        Shape ``(B,)``; of the values' type if targets are classes, else float64.

    Raises:
        OptionError: If targets do not go by so many classes.
    """
    if targets.ndim == 1:
        return _of_classes(targets, values)
    checked_classes(targets, len(values))
    weighed, total = targets * values, targets.sum(1)
    return torch.where((total - 1).abs() <= ROUNDING, weighed.sum(1) / total, weighed.amax(1))


def row_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """The weight of each row by those of the classes.

    Args:
        targets: Classes, or memberships: the weights are averaged by them; a row that has no class weighs 1.
        weights: Of each class, shape ``(C,)``, float64.

    Returns:
        Shape ``(B,)``, float64.

    Raises:
        OptionError: If targets do not go by so many classes.
    """
    if targets.ndim == 1:
        return _of_classes(targets, weights)
    checked_classes(targets, len(weights))
    return torch.where(targets.any(1), (targets * weights).sum(1) / targets.sum(1), 1.0)


def _of_classes(targets: Tensor, values: Tensor) -> Tensor:
    try:
        # It refuses what is outside, so that nobody has to look first.
        return values.index_select(0, targets)
    except IndexError:
        checked_classes(targets, len(values))
        raise


def class_shares(targets: Tensor, every: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Each class of the batch, in order, and the share of each row that it has.

    Args:
        targets: Classes, or memberships: the shares of a row sum to 1, or to 0 if it has no class.
        every: Give so many classes, also those that the batch has not.

    Yields:
        The class, and the shares, shape ``(B,)``, float64.
    """
    if targets.ndim == 1:
        for c in range(every) if every else torch.unique(targets).tolist():
            yield c, (targets == c).double()
        return
    shares = (targets / targets.sum(1, keepdim=True)).nan_to_num(0.0)
    for c in range(every) if every else targets.any(0).nonzero().flatten().tolist():
        yield c, shares[:, c]
