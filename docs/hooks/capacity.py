"""What a step of each method takes, as formulas: rows, memory, communication."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod

SYMBOLS: Mapping[str, str] = {
    "B": "rows of the batch of one rank",
    "T": "tail rows among them",
    "K": "context rows that a pass takes along where rows see each other",
    "C": "classes in the batch of all ranks",
    "n": "perturbations that a universal method draws",
    "1/k": "one over the interval of looksam",
    "g": "share of the rows that esam learns from",
    "P": "bytes of the parameters",
    "A": "bytes of activations that a row leaves for its backward",
    "N": "ranks",
}
"""What the letters stand for."""


@dataclass(frozen=True)
class Formula:
    """A sum of products of quantities, as ``B + 2 T + 2 C K``.

    Args:
        terms: The factor of each product, by the letters of :data:`SYMBOLS` in it, with spaces between; ``""`` for the
            constant.
    """

    terms: Mapping[str, float] = field(default_factory=dict)

    def at(self, **quantities: float) -> float:
        """Its value.

        Args:
            quantities: By letter; ``k`` stands for ``1/k``.
        """
        known = {**quantities, **({"1/k": 1 / quantities["k"]} if "k" in quantities else {})}
        return sum(factor * prod(known[letter] for letter in name.split()) for name, factor in self.terms.items())

    def __add__(self, other: "Formula") -> "Formula":
        names = dict.fromkeys([*self.terms, *other.terms])
        return Formula({name: self.terms.get(name, 0) + other.terms.get(name, 0) for name in names})

    def __str__(self) -> str:
        text = ""
        for name, factor in self.terms.items():
            if factor:
                size = f"{abs(factor):g}" if abs(factor) != 1 or not name else ""
                if name.startswith("1/"):
                    size, name = f"{abs(factor):g}{name[1 : name.find(' ') if ' ' in name else None]}", name[3:].strip()
                sign = ("- " if factor < 0 else "+ ") if text else "-" if factor < 0 else ""
                text += f"{' ' if text else ''}{sign}{size}{' ' if size and name else ''}{name}"
        return text or "0"


def _sum(text: str) -> Formula:
    """Read ``B + 2 T``."""
    terms: dict[str, float] = {}
    for part in text.replace("- ", "+ -").split("+ "):
        first, *rest = part.split()
        negative, first = first.startswith("-"), first.removeprefix("-")
        number = first.replace(".", "").isdigit()
        factor = float(first) if number else 1.0
        terms[" ".join(rest if number else [first, *rest])] = -factor if negative else factor
    return Formula(terms)


@dataclass(frozen=True)
class Counts:
    """Rows forwarded, and rows backpropagated through.

    Args:
        forwards: In one process, where backwards may share a forward.
        backwards: In one process or several.
    """

    forwards: Formula
    backwards: Formula

    @classmethod
    def of(cls, forwards: str, backwards: str | None = None) -> "Counts":
        """Read both; the same where one is given."""
        return cls(_sum(forwards), _sum(backwards or forwards))

    def work(self, **quantities: float) -> float:
        """Forward-backwards of a row, where a backward is as much work as two forwards."""
        return (self.forwards.at(**quantities) + 2 * self.backwards.at(**quantities)) / 3


@dataclass(frozen=True)
class Work:
    """What a step of a method takes, in a batch that holds tail rows, with fewer than B - K of them.

    Args:
        alone: Rows where they do not see each other.
        context: Rows beside BatchNorm, passes with a few context rows.
        batch: Rows beside BatchNorm, passes with whole batches.
        directions: Gradients that perturbations point along; ranks that climb together share each.
        sums: Gradients that the step is combined of; ranks share each once, whatever passes add up to it.
        parts: Passes whose gradients add up to those sums.
        looks: Forwards of the whole batch without a backward.
        settles: Those beside BatchNorm alone, at the weights, for its statistics.
        remembers: Whether a direction is kept, for the step or for later ones, so that ranks cannot climb apart.
        kept: Copies of the parameters that live between steps, beside weights, gradient and the base optimizer's state.
        working: Further ones at the step's highest where rows do not see each other.
        working_coupled: The same beside BatchNorm.
    """

    alone: Counts
    context: Counts
    batch: Counts
    directions: Formula
    sums: Formula
    parts: Formula
    looks: int = 0
    settles: int = 0
    remembers: bool = False
    kept: int = 1
    working: Formula = field(default_factory=Formula)
    working_coupled: Formula = field(default_factory=Formula)

    def rows(self, policy: str) -> Counts:
        """By ``"alone"``, ``"context"`` or ``"batch"``."""
        return {"alone": self.alone, "context": self.context, "batch": self.batch}[policy]

    def rows_of_a_rank(self, policy: str) -> Counts:
        """Over several ranks no forward is shared: each backward has its own."""
        backwards = self.rows(policy).backwards
        looks = self.looks + (0 if policy == "alone" else self.settles)
        return Counts(backwards + Formula({"B": looks}), backwards)

    @property
    def all_reduces(self) -> Formula:
        """Of the whole gradient, over ranks that hold replicas."""
        return self.directions + self.sums

    @property
    def gathers(self) -> Formula:
        """All-gathers of all weights that ``fully_shard`` spreads: one for each forward, one for each backward."""
        passes = self.directions + self.parts
        return passes + passes + Formula({"": self.looks})

    @property
    def scatters(self) -> Formula:
        """Reduce-scatters of the gradient where ``fully_shard`` spreads the weights: one for each backward."""
        return self.directions + self.parts

    def copies(self, base: int, *, coupled: bool) -> tuple[int, Formula]:
        """Copies of the parameters, the weights among them, between steps and at the highest.

        Args:
            base: Of the base optimizer's state: 1 for SGD with momentum, 2 for AdamW.
            coupled: Whether there is BatchNorm.
        """
        between = 2 + base + self.kept
        return between, Formula({"": between}) + (self.working_coupled if coupled else self.working)


def _work(
    alone: Counts,
    context: Counts | None = None,
    batch: Counts | None = None,
    *,
    directions: str = "1",
    sums: str = "1",
    parts: str | None = None,
    looks: int = 0,
    settles: int = 0,
    remembers: bool = False,
    kept: int = 1,
    working: str = "0",
    working_coupled: str | None = None,
) -> Work:
    context = context or alone
    return Work(
        alone,
        context,
        batch or context,
        _sum(directions),
        _sum(sums),
        _sum(parts or sums),
        looks,
        settles,
        remembers,
        kept,
        _sum(working),
        _sum(working_coupled or working),
    )


_SAM = Counts.of("2 B")
_ONCE = _work(Counts.of("B"), Counts.of("2 B", "B"), directions="0", settles=1)
_UNIVERSAL = _work(Counts.of("B + n B"), directions="0", sums="1 + n", working="1 + n")

WORK: Mapping[str, Work] = {
    "plain": _work(Counts.of("B"), directions="0", kept=0),
    "sam": _work(_SAM),
    "asam": _work(_SAM, working="3"),
    "gsam": _work(_SAM, remembers=True, working="2"),
    "friendly-sam": _work(_SAM, remembers=True, kept=2, working="2"),
    "vasso": _work(_SAM, remembers=True, kept=2, working="2"),
    "le-sam": _work(_SAM),
    "sampa": _work(
        _SAM,
        Counts.of("3 B", "2 B"),
        directions="0",
        sums="2",
        settles=1,
        remembers=True,
        kept=2,
        working="3",
    ),
    "looksam": _work(Counts.of("B + 1/k B"), directions="1/k", remembers=True, kept=2, working="2"),
    "esam": _work(
        Counts.of("2 B + g B", "B + g B"),
        Counts.of("2 B + g B + K", "B + g B + K"),
        Counts.of("3 B", "2 B"),
        looks=1,
    ),
    "msam": _ONCE,
    "gnm": _ONCE,
    "trace-sam": _UNIVERSAL,
    "frob-sam": _UNIVERSAL,
    "det-sam": _UNIVERSAL,
    "imbsam": _work(
        Counts.of("B + T"), Counts.of("B + 2 T + 2 K"), Counts.of("2 B", "3 B"), parts="2", working_coupled="1"
    ),
    "imbsam, reuse": _work(
        Counts.of("B"),
        Counts.of("B + T + K"),
        Counts.of("2 B"),
        directions="0",
        sums="2",
        remembers=True,
        kept=2,
        working="1",
    ),
    "cc-sam": _work(
        Counts.of("3 B"),
        Counts.of("3 B + 2 C K"),
        Counts.of("B + C B", "B + 2 C B"),
        directions="C",
        parts="1 + C",
        working="1",
    ),
    "focal-sam": _work(Counts.of("2 B", "3 B"), parts="2", working="1"),
    "sse-sam": _work(
        Counts.of("2 B"), Counts.of("2 B + T + 3 K"), Counts.of("3 B", "4 B"), directions="2", parts="2", working="1"
    ),
    "sse-sam, late": _work(
        Counts.of("B + T"), Counts.of("B + 2 T + 2 K"), Counts.of("2 B", "3 B"), parts="2", working_coupled="1"
    ),
    "sam-a": _work(_SAM),
    "tail-sam-a": _work(Counts.of("B + T"), _SAM),
    "sam-drw": _work(_SAM),
    "balanced-sam": _work(_SAM),
}
"""By the names of :data:`imbsam.optim.METHODS`, and two that differ with an option or with time."""


def ring(size: float, ranks: int) -> float:
    """Bytes that each rank sends in an all-reduce of so many bytes around a ring: ``2 (N - 1) / N`` of them.

    An all-gather and a reduce-scatter are half of that each.
    """
    return 2 * (ranks - 1) / ranks * size
