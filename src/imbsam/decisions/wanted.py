"""Goals for the recall or precision of a class, and thresholds from held-out rows that reach them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from imbsam.decisions.class_prior import parsed_numbers
from imbsam.errors import OptionError

FORM = "recall:CLASS=SHARE or precision:CLASS=SHARE, for example recall:melanoma=0.9"
ROUNDS = 50


@dataclass(frozen=True)
class Wanted:
    """Recall or precision that a class is to reach.

    Args:
        measure: ``"recall"`` or ``"precision"`` of the class.
        index: Index of the class.
        name: Name of the class.
        share: Least value of the measure, in (0, 1].
    """

    measure: Literal["recall", "precision"]
    index: int
    name: str
    share: float

    def __str__(self) -> str:
        return f"{self.measure}:{self.name}={self.share:g}"


def parsed_wanted(words: Sequence[str], classes: Sequence[str]) -> tuple[Wanted, ...]:
    """Read goals from the words of the command line.

    Args:
        words: Goals, each ``recall:CLASS=SHARE`` or ``precision:CLASS=SHARE``.
        classes: Names of the classes, length C.

    Raises:
        OptionError: If a word has another form, or there is no such class.
    """
    found = []
    for word, share in parsed_numbers("--at-least", words, FORM).items():
        measure, _, name = word.partition(":")
        if measure not in ("recall", "precision") or not name:
            raise OptionError(f"--at-least {word}: give {FORM}.")
        if not 0 < share <= 1:
            raise OptionError(f"--at-least {word}={share:g}: the share must be in (0, 1], for example 0.9.")
        found.append(Wanted("recall" if measure == "recall" else "precision", _index(name, classes), name, share))
    return tuple(found)


def parsed_costs(words: Sequence[str], classes: Sequence[str]) -> Tensor | None:
    """Read the costs of missing a row of a class.

    Args:
        words: Costs, each ``CLASS=COST``.
        classes: Names of the classes, length C.

    Returns:
        Tensor of shape ``(C,)``, 1 for classes that are not named; None for no words.

    Raises:
        OptionError: If a word has another form, there is no such class, or a cost is not above 0.
    """
    costs = torch.ones(len(classes), dtype=torch.float64)
    for name, cost in parsed_numbers("--cost", words, "CLASS=COST, for example melanoma=10").items():
        if not 0 < cost < float("inf"):
            raise OptionError(f"--cost {name}={cost:g}: a cost must be above 0.")
        costs[_index(name, classes)] = cost
    return costs if words else None


def wanted_weights(scores: Tensor, targets: Tensor, wanted: Sequence[Wanted]) -> Tensor:
    """Find what to add to each class's scores so that every class reaches its goal, and no more.

    The weight of a class moves to the nearest value, up or down, at which its recall and precision on the rows reach
    the goal. With several classes this is repeated until all goals hold together.

    Args:
        scores: Scores that decide the class, on held-out rows, shape ``(N, C)``.
        targets: Class of each sample, shape ``(N,)``, int64.
        wanted: Goals of some classes.

    Returns:
        Addend of each class, shape ``(C,)``, float64.

    Raises:
        OptionError: If there is no row of a class, or its goal cannot be reached.
    """
    weights = torch.zeros(scores.shape[1], dtype=torch.float64)
    by_class = {index: [each for each in wanted if each.index == index] for index in sorted({w.index for w in wanted})}
    for index, its in by_class.items():
        if not bool((targets == index).any()):
            raise OptionError(f"--at-least {its[0]}: no held-out row has this class. Hold out more rows.")
    for _ in range(ROUNDS):
        before = weights.clone()
        for index, its in by_class.items():
            weights[index] = _weight(scores + weights, targets, its, float(weights[index]))
        if torch.equal(before, weights):
            return weights
    raise OptionError(f"--at-least {' '.join(map(str, wanted))}: no thresholds reach all of them together.")


def _weight(scores: Tensor, targets: Tensor, wanted: Sequence[Wanted], now: float) -> float:
    """Find the weight of one class that reaches its goal and is nearest to the present weight."""
    index = wanted[0].index
    others = scores.double().clone()
    others[:, index] = -torch.inf
    # The class is chosen where more than this is added to it.
    margin, order = (others.max(dim=1).values - scores[:, index]).sort()
    hits = (targets[order] == index).long().cumsum(0)
    called = torch.arange(1, len(margin) + 1)
    shares = {"recall": hits / hits[-1], "precision": hits / called}
    # Rows of equal margin are called together; between two margins the halfway point is safest.
    last = torch.cat([margin[1:] > margin[:-1], torch.tensor([True])])
    above = torch.cat([margin[1:], margin[-1:] + 1.0])
    fits = last.clone()
    for each in wanted:
        fits &= shares[each.measure] >= each.share
    if not fits.any():
        best = {each: float(shares[each.measure][last].max()) for each in wanted}
        reached = ", ".join(f"{each.measure} {share:.2f}" for each, share in best.items())
        raise OptionError(
            f"--at-least {' '.join(map(str, wanted))}: no threshold reaches this on the {len(targets)} held-out rows; "
            f"the most is {reached}{' each alone' if len(wanted) > 1 else ''}."
        )
    # Of two classes with one score the first is chosen: either way has to do.
    as_it_is = last & (margin <= 0) & (above >= 0)
    if margin[0] < 0 and as_it_is.any() and bool(fits[as_it_is].all()):
        return now
    moves = (margin[fits] + above[fits]) / 2
    return now + float(moves[moves.abs().argmin()])


def _index(name: str, classes: Sequence[str]) -> int:
    if name not in classes:
        raise OptionError(f"there is no class {name!r}. The classes are {', '.join(map(str, classes[:20]))}.")
    return list(classes).index(name)
