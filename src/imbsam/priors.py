"""Class priors: the number of training samples of each class, and which classes are rare."""

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from imbsam.errors import PriorsError, PriorsWarning
from imbsam.notebook.tables import SHOWN, Cell, Share, table

ShotGroup = Literal["many", "medium", "few"]
SHOT_GROUPS: tuple[ShotGroup, ...] = ("many", "medium", "few")

CUSTOMARY_BOUNDS = (100, 20)
"""Classes with more training samples are many-shot, those with fewer few-shot (Liu et al. 2019)."""


class ClassPriors:
    """Training counts per class, and the rules that split classes into head and tail.

    Args:
        counts: Samples per class, shape ``(C,)``, non-negative integers, at least one of them positive.

    Raises:
        PriorsError: If ``counts`` is empty, all zero, negative, not one-dimensional, or not integral.

    Example:
        >>> priors = ClassPriors.from_counts([500, 80, 7])
        >>> priors.imbalance_factor
        71.42857142857143
        >>> priors.tail(fewer_than=20)
        tensor([False, False,  True])
        >>> priors.shot_groups()
        ('many', 'medium', 'few')
    """

    def __init__(self, counts: Tensor) -> None:
        self.counts = _checked_counts(counts)

    @classmethod
    def from_counts(cls, counts: Sequence[int] | Tensor) -> "ClassPriors":
        """Make class priors from counts.

        Args:
            counts: Samples per class, shape ``(C,)``.

        Returns:
            The priors of these counts.

        Raises:
            PriorsError: If the counts are empty, all zero, negative, or not integral.
        """
        return cls(_tensor("counts", counts))

    @classmethod
    def from_targets(cls, targets: Sequence[int] | Tensor, num_classes: int | None = None) -> "ClassPriors":
        """Make class priors by counting the training targets.

        Args:
            targets: Class of each training sample, shape ``(N,)``, integers from 0.
            num_classes: Number of classes C; by default the largest target plus one.

        Returns:
            The priors of these targets.

        Raises:
            PriorsError: If there are no targets, or one is not an integer in ``[0, num_classes)``.
        """
        targets = _tensor("targets", targets).detach().cpu()
        if targets.ndim != 1 or targets.numel() == 0:
            raise PriorsError(f"targets must be one class per sample, shape (N,), N > 0; got {tuple(targets.shape)}.")
        if targets.is_floating_point() and not torch.equal(targets, targets.long().to(targets)):
            raise PriorsError("targets must be integer class indices; got fractions. Encode the classes as 0..C-1.")
        targets = targets.long()
        lowest, highest = int(targets.min()), int(targets.max())
        if lowest < 0:
            raise PriorsError(f"targets must be at least 0; the lowest is {lowest}. Encode the classes as 0..C-1.")
        if num_classes is not None and highest >= num_classes:
            raise PriorsError(f"target {highest} is outside the {num_classes} classes (0..{num_classes - 1}).")
        return cls(torch.bincount(targets, minlength=num_classes or 0))

    @property
    def num_classes(self) -> int:
        """Number of classes C, including classes without a sample."""
        return self.counts.numel()

    @property
    def total(self) -> int:
        """Number of training samples N."""
        return int(self.counts.sum())

    @property
    def imbalance_factor(self) -> float:
        """Largest count divided by the smallest positive count (Cui et al. 2019)."""
        present = self.counts[self.counts > 0]
        return float(present.max()) / float(present.min())

    @property
    def priors(self) -> Tensor:
        """Share of each class, shape ``(C,)``, float64, sums to one."""
        return self.counts.double() / self.total

    @property
    def log_priors(self) -> Tensor:
        """Natural logarithm of :attr:`priors`, shape ``(C,)``, float64; -inf for a class without a sample."""
        return self.priors.log()

    def class_balanced_weights(self, beta: float) -> Tensor:
        """Compute weights by the effective number of samples, ``(1 - beta) / (1 - beta^n_c)``, that sum to C.

        Args:
            beta: Parameter in [0, 1): 0 weights all classes alike, and towards 1 the weights tend to 1 / n_c (Cui et
                al. 2019).

        Returns:
            Weight of each class, shape ``(C,)``, float64; they are finite only if every class has a sample.
        """
        weights = (1 - beta) / (1 - beta ** self.counts.double())
        return weights * (self.num_classes / weights.sum())

    def repeat_factors(self, threshold: float | None = None) -> Tensor:
        """Compute how often an epoch repeats each class, ``max(1, sqrt(threshold / pi_c))`` (Gupta et al. 2019, LVIS).

        Args:
            threshold: Share of the samples below which a class is repeated, in (0, 1]; by default the share that each
                class with samples would have in balanced data, 1 / C.

        Returns:
            Factor of each class, shape ``(C,)``, float64, at least 1; 1 for a class without a sample.

        Raises:
            PriorsError: If ``threshold`` is out of range.
        """
        if threshold is None:
            threshold = 1 / int((self.counts > 0).sum())
        if not 0 < threshold <= 1:
            raise PriorsError(f"threshold must be a share above 0, at most 1; got {threshold}.")
        factors = (threshold / self.priors).sqrt().clamp(min=1.0)
        return torch.where(self.counts > 0, factors, 1.0)

    def shot_groups(self, *, many_above: int = 100, few_below: int = 20) -> tuple[ShotGroup, ...]:
        """Label each class as many-, medium- or few-shot (Liu et al. 2019: more than 100, fewer than 20).

        Args:
            many_above: Classes with strictly more samples are many-shot.
            few_below: Classes with strictly fewer samples are few-shot.

        Returns:
            One of ``"many"``, ``"medium"``, ``"few"`` for each class, length C.

        Raises:
            PriorsError: If the two bounds cross, so that a class would be both many- and few-shot.
        """
        if few_below > many_above + 1:
            raise PriorsError(
                f"few_below={few_below} overlaps many_above={many_above}: choose few_below <= many_above."
            )
        counts: list[int] = self.counts.tolist()
        return tuple("many" if n > many_above else "few" if n < few_below else "medium" for n in counts)

    def shot_bounds(self) -> tuple[int, int]:
        """Return bounds of the shot groups that separate these classes.

        Returns:
            ``(many_above, few_below)`` for :meth:`shot_groups`. These are the customary (100, 20), unless they put all
            classes into one group although the counts differ; then the most frequent third of the classes is many-shot
            and the rarest third few-shot.
        """
        many_above, few_below = CUSTOMARY_BOUNDS
        groups = self.shot_groups(many_above=many_above, few_below=few_below)
        if len(set(groups)) > 1 or int(self.counts.min()) == int(self.counts.max()):
            return many_above, few_below
        third, ordered = max(1, round(self.num_classes / 3)), self.counts.sort().values.tolist()
        few_below = ordered[third - 1] + 1
        return max(ordered[-third], few_below) - 1, few_below

    def tail(
        self,
        *,
        fewer_than: int | None = None,
        rarest_classes: float | None = None,
        rarest_samples: float | None = None,
        classes: Sequence[int] | None = None,
    ) -> Tensor:
        """Mark the tail classes by exactly one rule.

        Warns with :class:`~imbsam.errors.PriorsWarning` if the rule marks no class or every class: sharpness-aware
        minimisation of the tail is then plain training, or SAM.

        Args:
            fewer_than: Classes with strictly fewer samples than this (eta in Zhou et al. 2023).
            rarest_classes: Share of the classes to mark, rarest first, in (0, 1), rounded to the nearest number of
                classes, at least one; classes as rare as the last one marked are marked too.
            rarest_samples: Largest share of the samples that the marked classes hold together, rarest first, in (0, 1).
            classes: Indices of the tail classes.

        Returns:
            Boolean mask over classes, shape ``(C,)``; ``True`` marks a tail class.

        Raises:
            PriorsError: If no rule or more than one is given, or a value is out of range.
        """
        rules = {
            "fewer_than": fewer_than,
            "rarest_classes": rarest_classes,
            "rarest_samples": rarest_samples,
            "classes": classes,
        }
        given = {name: value for name, value in rules.items() if value is not None}
        if len(given) != 1:
            raise PriorsError(f"give exactly one tail rule of {', '.join(rules)}; got {', '.join(given) or 'none'}.")
        if fewer_than is not None:
            if fewer_than < 1:
                raise PriorsError(f"fewer_than must be at least 1; got {fewer_than}.")
            mask = self.counts < fewer_than
        elif rarest_classes is not None:
            mask = self._rarest_classes(_checked_share("rarest_classes", rarest_classes))
        elif rarest_samples is not None:
            mask = self._rarest_samples(_checked_share("rarest_samples", rarest_samples))
        else:
            mask = self._listed(classes if classes is not None else ())
        ((name, value),) = given.items()
        self._warn_if_trivial(mask, f"{name}={value}")
        return mask

    def _rarest_classes(self, share: float) -> Tensor:
        number = max(1, round(share * self.num_classes))
        return self.counts <= self.counts.sort().values[number - 1]

    def _rarest_samples(self, share: float) -> Tensor:
        # Classes of equal count stand or fall together, so that the mask does not hang on their order.
        rarest_first = torch.unique(self.counts)
        held = torch.stack([self.counts[self.counts <= n].sum() for n in rarest_first])
        within = rarest_first[held <= share * self.total]
        return self.counts <= (within[-1] if len(within) else -1)

    def _listed(self, classes: Sequence[int]) -> Tensor:
        mask = torch.zeros(self.num_classes, dtype=torch.bool)
        for index in torch.as_tensor(classes).tolist():
            if not isinstance(index, int) or isinstance(index, bool):
                raise PriorsError(
                    f"classes must be the indices of the tail classes, such as [3, 7]; got {index!r} among them."
                )
            if not 0 <= index < self.num_classes:
                raise PriorsError(f"tail class {index} is outside the {self.num_classes} classes of the priors.")
            mask[index] = True
        return mask

    def _warn_if_trivial(self, mask: Tensor, rule: str) -> None:
        if mask.any() and not mask.all():
            return
        marks, like = ("no class", "the base optimizer") if not mask.any() else ("every class", "SAM")
        ordered: list[int] = self.counts.sort().values.tolist()
        shown = ", ".join(map(str, ordered[:10])) + (", ..." if len(ordered) > 10 else "")
        rarer = int((self.counts < self.counts.max()).sum())
        marked = min(int(self._rarest_classes(1 / 3).sum()), rarer)
        advice = "classes=[...], the classes you mean: their counts are equal"
        if marked:
            advice = f"fewer_than={ordered[marked - 1] + 1} (marks {marked} of {self.num_classes} classes)"
        warnings.warn(
            f"the tail rule {rule} marks {marks}, so ImbSAM equals {like} here. "
            f"Samples per class, rarest first: {shown}. Choose, for example, {advice}.",
            PriorsWarning,
            stacklevel=3,
        )

    def __repr__(self) -> str:
        return (
            f"ClassPriors({self.num_classes} classes, {self.total} samples, "
            f"imbalance factor {self.imbalance_factor:.4g})"
        )

    def _repr_html_(self) -> str:
        """A table for notebooks: the classes, most frequent first, those in the middle left out of a long one."""
        counts: list[int] = self.counts.tolist()
        many_above, few_below = self.shot_bounds()
        groups = self.shot_groups(many_above=many_above, few_below=few_below)
        rows: list[tuple[Cell, ...]] = [
            (f"class {c}", counts[c], Share(counts[c] / self.total), f"{groups[c]}-shot")
            for c in sorted(range(len(counts)), key=lambda c: (-counts[c], c))
        ]
        if len(rows) > SHOWN:
            left_out = (f"{len(rows) - SHOWN} others", None, None, None)
            rows = [*rows[: SHOWN // 2], left_out, *rows[-SHOWN // 2 :]]
        caption = (
            f"{self.num_classes} classes, {self.total:,} samples, imbalance factor {self.imbalance_factor:.4g}: "
            f"many-shot above {many_above}, few-shot below {few_below}"
        )
        return table(caption, ["class", "samples", "share", "group"], rows)


def _tensor(name: str, values: Sequence[int] | Tensor) -> Tensor:
    try:
        return torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PriorsError(f"{name} must be integers, one dimension of them; got {str(values)[:60]}.") from error


def _checked_counts(counts: Tensor) -> Tensor:
    counts = counts.detach().cpu()
    if counts.ndim != 1 or counts.numel() == 0:
        raise PriorsError(f"counts must be one number per class, shape (C,), C > 0; got {tuple(counts.shape)}.")
    if counts.is_floating_point() and not torch.equal(counts, counts.long().to(counts)):
        raise PriorsError("counts must be integers: how many training samples each class has.")
    counts = counts.long()
    if int(counts.min()) < 0:
        raise PriorsError(f"counts must not be negative; class {int(counts.argmin())} has {int(counts.min())}.")
    if int(counts.sum()) == 0:
        raise PriorsError("counts are all zero: there is no training sample of any class.")
    return counts


def _checked_share(name: str, share: float) -> float:
    if not 0 < share < 1:
        raise PriorsError(f"{name} must lie strictly between 0 and 1; got {share}.")
    return share
