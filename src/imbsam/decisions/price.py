"""Expected gains and costs of a decision, on held-out rows."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.decisions.wanted import Wanted
from imbsam.notebook import tables


@dataclass(frozen=True)
class Share:
    """Share of rows with its 95 % interval.

    Args:
        hits: Number of rows that count.
        rows: Number of all rows.
        low: Lower end of the 95 % interval (Clopper and Pearson).
        high: Upper end of the interval.
    """

    hits: int
    rows: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, rows: int) -> "Share | None":
        """Make the share of some rows; None for no rows."""
        if not rows:
            return None
        # Late: a run tells prices at its end alone, and SciPy takes a while to import.
        from scipy.stats import binomtest

        bounds = binomtest(hits, rows).proportion_ci()
        return cls(hits, rows, float(bounds.low), float(bounds.high))

    def __str__(self) -> str:
        interval = f"95 % interval {100 * self.low:.0f} to {100 * self.high:.0f}"
        return f"{100 * self.hits / self.rows:.1f} % ({self.hits} of {self.rows}; {interval})"


@dataclass(frozen=True)
class Price:
    """Recall and precision of a class with a goal, with the goal and without it, on held-out rows.

    Args:
        name: Name of the class.
        wanted: Goals of the class, in words.
        recall: Recall of the class.
        precision: Precision of the class; None where no row is predicted as it.
        recall_before: Recall without the goals.
        precision_before: Precision without the goals.
        balanced: Mean recall of the classes.
        balanced_before: Mean recall of the classes without the goals.
    """

    name: str
    wanted: tuple[str, ...]
    recall: Share | None
    precision: Share | None
    recall_before: Share | None
    precision_before: Share | None
    balanced: float
    balanced_before: float

    def __str__(self) -> str:
        def before(share: Share | None) -> str:
            return "no row is predicted as it" if share is None else f"{100 * share.hits / share.rows:.1f} %"

        return (
            f"{self.name}, at least {' and '.join(self.wanted)}: on the held-out rows recall {self.recall}, before "
            f"{before(self.recall_before)}; precision {self.precision}, before {before(self.precision_before)}; "
            f"balanced accuracy {100 * self.balanced:.1f} %, before {100 * self.balanced_before:.1f} %. The threshold "
            "was chosen on these rows, so recall and precision on other rows tend to be a little lower."
        )

    def _repr_html_(self) -> str:
        """A table for notebooks."""

        def row(name: str, before: Share | None, now: Share | None) -> Sequence[tables.Cell]:
            interval = "" if now is None else f"{100 * now.low:.0f} to {100 * now.high:.0f}"
            found = (tables.Share(None if each is None else each.hits / each.rows) for each in (before, now))
            return (name, *found, interval)

        rows = [
            row("recall", self.recall_before, self.recall),
            row("precision", self.precision_before, self.precision),
            ("balanced accuracy, all classes", tables.Share(self.balanced_before), tables.Share(self.balanced), ""),
        ]
        caption = f"{self.name}, at least {' and '.join(self.wanted)}: on the rows the threshold was chosen on"
        return tables.table(caption, ["", "before", "now", "95 % interval"], rows)


def prices(before: Tensor, after: Tensor, targets: Tensor, wanted: Sequence[Wanted]) -> tuple[Price, ...]:
    """Compute what each class with a goal reaches, and what the other classes pay for it.

    Args:
        before: Scores without the goals, shape ``(N, C)``.
        after: Scores with the goals, shape ``(N, C)``.
        targets: Class of each sample, shape ``(N,)``, int64; at least one.
        wanted: Goals of the classes.
    """
    found = []
    old, new = before.argmax(dim=1), after.argmax(dim=1)
    for index in sorted({each.index for each in wanted}):
        its = [each for each in wanted if each.index == index]
        found.append(
            Price(
                its[0].name,
                tuple(f"{each.measure} {each.share:g}" for each in its),
                *_shares(new, targets, index),
                *_shares(old, targets, index),
                _balanced(new, targets),
                _balanced(old, targets),
            )
        )
    return tuple(found)


def _shares(called: Tensor, targets: Tensor, index: int) -> tuple[Share | None, Share | None]:
    hits = int(((called == index) & (targets == index)).sum())
    return Share.of(hits, int((targets == index).sum())), Share.of(hits, int((called == index).sum()))


def _balanced(called: Tensor, targets: Tensor) -> float:
    recalls = [(called[targets == index] == index).double().mean() for index in torch.unique(targets)]
    return float(torch.stack(recalls).mean())
