"""What a decision is expected to give and to cost, on rows that were not trained on."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.decisions.wanted import Wanted


@dataclass(frozen=True)
class Share:
    """A share of rows.

    Args:
        hits: Rows that it counts.
        rows: Of how many.
        low: Of its 95 % interval (Clopper and Pearson).
        high: Of the same.
    """

    hits: int
    rows: int
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, rows: int) -> "Share | None":
        """A share of some rows; None of none."""
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
    """A class for which something was wanted, on held-out rows.

    Args:
        name: Of the class.
        wanted: What was.
        recall: Of the class.
        precision: Of the class; None where no row is called it.
        recall_before: Without what was wanted.
        precision_before: The same.
        balanced: Mean recall of the classes.
        balanced_before: The same, without what was wanted.
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
            return "none is called it" if share is None else f"{100 * share.hits / share.rows:.1f} %"

        return (
            f"{self.name}, at least {' and '.join(self.wanted)}: on the held-out rows recall {self.recall}, before "
            f"{before(self.recall_before)}; precision {self.precision}, before {before(self.precision_before)}; "
            f"balanced accuracy {100 * self.balanced:.1f} %, before {100 * self.balanced_before:.1f} %. The threshold "
            "was chosen on these rows, so that recall and precision on others tend to be a little lower."
        )


def prices(before: Tensor, after: Tensor, targets: Tensor, wanted: Sequence[Wanted]) -> tuple[Price, ...]:
    """Say what each class that something is wanted of reaches, and what the others pay for it.

    Args:
        before: Scores without what is wanted, shape ``(N, C)``.
        after: Scores with it, shape ``(N, C)``.
        targets: Shape ``(N,)``, int64; some.
        wanted: What is.
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
