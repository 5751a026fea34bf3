"""The tables of ``capacity.md``, out of the formulas: ``python docs/hooks/capacity_tables.py`` writes them anew."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from capacity import SYMBOLS, WORK, Counts, Formula, ring

from imbsam.optim import options_of

PAGE = Path(__file__).parents[1] / "capacity.md"

RESNET50 = 23_508_032
"""Parameters below the classifier, which has 2049 more for each class."""

ACTIVATIONS = 85_909_504
"""Bytes that a row of 224 x 224 pixels leaves for the backward of a ResNet-50, float32."""

BYTES = 4
"""Of a number in float32."""

SHOWN = (
    "plain",
    "sam",
    "gsam",
    "looksam",
    "imbsam",
    "imbsam, reuse",
    "focal-sam",
    "sse-sam",
    "sse-sam, late",
    "cc-sam",
)


@dataclass(frozen=True)
class Workload:
    """A published set-up.

    Args:
        samples: Of the training data.
        classes: How many.
        tail_classes: Those with fewer than 20 samples.
        tail_samples: In these, counted or assumed.
        least: Samples of the rarest class.
        batch: Rows of all ranks.
        ranks: GPUs.
        context_rows: That a pass takes along.
    """

    samples: int
    classes: int
    tail_classes: int
    tail_samples: float
    least: int
    batch: int
    ranks: int
    context_rows: int = 8

    @property
    def tail_share(self) -> float:
        """Of the training data."""
        return self.tail_samples / self.samples

    @property
    def with_tail(self) -> float:
        """Share of the steps in which any rank has a tail row."""
        return 1 - (1 - self.tail_share) ** self.batch

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which the tail share lies, whatever the counts below 20 are."""
        return self.tail_classes * self.least / self.samples, self.tail_classes * 19 / self.samples

    @property
    def size(self) -> int:
        """Bytes of the parameters."""
        return BYTES * (RESNET50 + 2049 * self.classes)

    def quantities(self, name: str) -> dict[str, float]:
        """Of a mean step with tail rows, on one rank."""
        rows = self.batch / self.ranks
        return {
            "B": rows,
            "T": self.tail_share * rows / self.with_tail,
            "K": self.context_rows,
            "C": min(self.classes, self.batch),
            **own_options(name),
        }

    def rows(self, name: str, policy: str = "context") -> Counts:
        """That a rank forwards and backpropagates."""
        work = WORK[name]
        return work.rows(policy) if self.ranks == 1 else work.rows_of_a_rank(policy)

    def ratio(self, name: str, policy: str = "context") -> float:
        """Work of a step with tail rows, over that of a plain one."""
        return self.rows(name, policy).work(**self.quantities(name)) / (self.batch / self.ranks)


def own_options(name: str) -> dict[str, float]:
    """The options that a method's formulas name, as they are by default."""
    options = options_of(name.partition(",")[0])
    named = {"n": "samples", "k": "interval", "g": "gamma"}
    return {
        letter: float(str(options[option]))
        for letter, option in named.items()
        if option in options and letter_in(name, letter)
    }


def letter_in(name: str, letter: str) -> bool:
    """Whether a method's formulas hold a letter."""
    work = WORK[name]
    formulas = [work.alone.forwards, work.context.forwards, work.batch.forwards, work.sums, work.directions]
    letters = {part for formula in formulas for product in formula.terms for part in product.split()}
    return letter in letters or f"1/{letter}" in letters


IMAGENET_LT = Workload(samples=115_846, classes=1000, tail_classes=136, tail_samples=1643, least=5, batch=256, ranks=8)

AS_THERE = IMAGENET_LT.tail_samples / IMAGENET_LT.tail_classes
"""Samples of a tail class, taken from where they were counted."""

INATURALIST = Workload(
    samples=437_513, classes=8142, tail_classes=3224, tail_samples=3224 * AS_THERE, least=2, batch=512, ranks=8
)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shown(rows: Counts) -> str:
    """Forwards and backwards, once where they are the same."""
    forwards, backwards = str(rows.forwards), str(rows.backwards)
    return f"`{forwards}`" if forwards == backwards else f"`{forwards}` / `{backwards}`"


def letters() -> str:
    """What they stand for."""
    return table(["", ""], [[f"`{letter}`", meaning] for letter, meaning in SYMBOLS.items()])


def rows_table() -> str:
    """Rows of a step by method and policy."""
    head = ["method", "no BatchNorm", "BatchNorm, context", "BatchNorm, whole batches"]
    return table(head, [[name, shown(w.alone), shown(w.context), shown(w.batch)] for name, w in WORK.items()])


def memory_table() -> str:
    """Copies of the parameters by method."""
    rows = []
    for name, work in WORK.items():
        between, most = work.copies(1, coupled=False)
        _, coupled = work.copies(1, coupled=True)
        rows.append([name, str(between), f"`{most}`", f"`{coupled}`"])
    return table(["method", "between steps", "highest, no BatchNorm", "highest, BatchNorm"], rows)


def communication_table() -> str:
    """Collectives by method."""

    def of(formula: Formula) -> str:
        return f"`{formula}`"

    rows = [
        [name, of(w.all_reduces), "–" if w.remembers else of(w.sums), of(w.gathers), of(w.scatters)]
        for name, w in WORK.items()
    ]
    head = ["method", "all-reduces", 'with `climb="apart"`', "sharded: all-gathers", "sharded: reduce-scatters"]
    return table(head, rows)


def filled_in(load: Workload) -> str:
    """A published set-up in numbers."""
    rows = []
    for name in SHOWN:
        work, given = WORK[name], load.quantities(name)
        own = load.rows(name)
        _, most = work.copies(1, coupled=True)
        memory = most.at(**given) * load.size + load.quantities(name)["B"] * ACTIVATIONS
        sent = ring(load.size, load.ranks) * work.all_reduces.at(**given)
        sharded = ring(load.size, load.ranks) / 2 * (work.gathers + work.scatters).at(**given)
        rows.append(
            [
                name,
                f"{own.forwards.at(**given):.1f}",
                f"{own.backwards.at(**given):.1f}",
                f"{load.ratio(name):.2f}",
                f"{memory / 1e9:.2f}",
                f"{work.all_reduces.at(**given):.1f}",
                f"{sent / 1e6:,.0f}",
                f"{sharded / 1e6:,.0f}",
            ]
        )
    return table(
        [
            "method",
            "rows forwarded",
            "rows backpropagated",
            "work",
            "memory, GB",
            "all-reduces",
            "sent, MB",
            "sharded: sent, MB",
        ],
        rows,
    )


def about(load: Workload) -> str:
    """What the numbers of a set-up go by."""
    given, (low, high) = load.quantities("imbsam"), load.bounds
    few = f"{load.tail_classes:,} of the classes"
    counted = f"{few} have fewer than 20 images, {load.tail_samples:,.0f} together."
    assumed = (
        f"{few} are taken to have fewer than 20 images (not counted here), and "
        f"how many together is assumed: as many to a class as in ImageNet-LT, {AS_THERE:.1f} (2 to 19 each make "
        f"{100 * low:.1f} to {100 * high:.1f} % of the data)."
    )
    return (
        f"{load.samples:,} images, {load.classes:,} classes; {counted if load is IMAGENET_LT else assumed} "
        f"Batches of {load.batch} on {load.ranks} GPUs, {given['B']:g} rows each. The tail's share is "
        f"{100 * load.tail_share:.1f} %: {100 * load.with_tail:.1f} % of the steps hold a tail row on some rank, and a "
        f"rank has {given['T']:.2f} of them then. ResNet-50 with {load.size / BYTES / 1e6:.1f} million parameters, "
        f"{load.size / 1e6:.0f} MB in float32, and {ACTIVATIONS / 1e6:.1f} MB of activations a row, measured on "
        f"224 x 224 pixels. `1 + t` would be {1 + load.tail_share:.3f}; with {load.context_rows} context rows on every "
        f"rank a step of ImbSAM is {load.ratio('imbsam'):.2f}."
    )


def by_ranks() -> str:
    """What context rows cost ImbSAM as the batch is spread."""
    policies = [("no BatchNorm", "alone", 8), ("8 context rows", "context", 8), ("2 context rows", "context", 2)]
    policies.append(("whole batches", "batch", 8))

    def ratio(load: Workload, ranks: int, policy: str, context: int) -> str:
        spread = replace(load, ranks=ranks, context_rows=context)
        return f"{spread.ratio('imbsam', policy):.2f}"

    rows = [
        [what, *(ratio(load, ranks, policy, context) for load in (IMAGENET_LT, INATURALIST) for ranks in (1, 8))]
        for what, policy, context in policies
    ]
    return table(["", "ImageNet-LT, 1 GPU", "8 GPUs", "iNaturalist 2018, 1 GPU", "8 GPUs"], rows)


TABLES: Mapping[str, Callable[[], str]] = {
    "letters": letters,
    "rows": rows_table,
    "memory": memory_table,
    "communication": communication_table,
    "about imagenet-lt": lambda: about(IMAGENET_LT),
    "imagenet-lt": lambda: filled_in(IMAGENET_LT),
    "about inaturalist": lambda: about(INATURALIST),
    "inaturalist": lambda: filled_in(INATURALIST),
    "ranks": by_ranks,
}


def rendered(page: str) -> str:
    """The page with every table made anew."""
    for name, made in TABLES.items():
        mark = re.compile(f"(<!-- {name} -->\n).*?(<!-- /{name} -->)", re.DOTALL)
        assert len(mark.findall(page)) == 1, name
        page = mark.sub(lambda found, made=made: f"{found[1]}{made()}\n{found[2]}", page)
    return page


if __name__ == "__main__":
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
