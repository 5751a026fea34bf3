"""Targets: the class of each row of a batch, or its membership in each class."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from imbsam.errors import OptionError

if TYPE_CHECKING:
    from imbsam.optim._sharpness_aware import SharpnessAware

ROUNDING = 0.01
"""Largest distance from 1 at which a row's memberships still count as shares; half precision rounds almost as much."""

SHARES = (
    "labels of pixels or tokens become each row's share of every class by "
    "torch.nn.functional.one_hot(targets.long(), C).flatten(1, -2).double().mean(1)"
)


def checked_targets(targets: Tensor, method: "SharpnessAware") -> Tensor:
    """Convert targets to the form that a method's terms are made from.

    Args:
        targets: Targets as the user gives them; the first dimension is the batch.
        method: Method whose terms are made.

    Returns:
        Classes ``(B,)``, int64, or memberships ``(B, C)``, float64, on the CPU. A method that is not class-aware gets
        zeros, ``(B,)``, where the targets are not integers ``(B,)``.

    Raises:
        OptionError: If the method cannot use such targets.
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
        raise OptionError(f"{name} needs classes, but targets are {targets.dtype}.")
    if targets.ndim > 2:
        raise OptionError(
            f"{name} needs the class of each row, but targets have shape {tuple(targets.shape)}: {SHARES}."
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
            f"{name} needs classes, but target {float(targets[~whole][0]):.4g} is none. In regression let "
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
    """Check that targets fit the optimizer's classes.

    Args:
        targets: Classes or memberships.
        classes: Number of classes of the optimizer.
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
    """Compute each row's share in a set of classes, for example the tail, whose classes have the value 1.

    Args:
        targets: Classes, or memberships. For a row whose memberships sum to 1, the values are averaged by them; for any
            other row, with several labels or none, the largest product of membership and value counts.
        values: Value of each class, shape ``(C,)``, at least 0.

    Returns:
        Tensor of shape ``(B,)``; of the values' dtype if targets are classes, else float64.

    Raises:
        OptionError: If the targets do not fit the number of classes.
    """
    if targets.ndim == 1:
        return _of_classes(targets, values)
    checked_classes(targets, len(values))
    weighed, total = targets * values, targets.sum(1)
    return torch.where((total - 1).abs() <= ROUNDING, weighed.sum(1) / total, weighed.amax(1))


def row_weights(targets: Tensor, weights: Tensor) -> Tensor:
    """Compute the weight of each row from the weights of the classes.

    Args:
        targets: Classes, or memberships, by which the weights are averaged; a row without a class has weight 1.
        weights: Weight of each class, shape ``(C,)``, float64.

    Returns:
        Tensor of shape ``(B,)``, float64.

    Raises:
        OptionError: If the targets do not fit the number of classes.
    """
    if targets.ndim == 1:
        return _of_classes(targets, weights)
    checked_classes(targets, len(weights))
    return torch.where(targets.any(1), (targets * weights).sum(1) / targets.sum(1), 1.0)


def _of_classes(targets: Tensor, values: Tensor) -> Tensor:
    try:
        # It refuses classes out of range, so that no check is needed before.
        return values.index_select(0, targets)
    except IndexError:
        checked_classes(targets, len(values))
        raise


def class_shares(targets: Tensor, every: int = 0) -> Iterator[tuple[int, Tensor]]:
    """Yield each class of the batch, in order, with the share that each row has in it.

    Args:
        targets: Classes, or memberships. The shares of a row sum to 1, or to 0 if it has no class.
        every: Number of classes to yield, including those that are not in the batch.

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
