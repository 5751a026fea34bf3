"""Output of the command: tables on standard output; progress, warnings and everything else on standard error."""

import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO, get_args

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from imbsam.metrics import MEASURES, Metrics
from imbsam.notebook.kernel import is_under_kernel
from imbsam.optim import ASCENTS, METHODS, options_of
from imbsam.optim.registry import Family, PassNumber
from imbsam.report.summary import Summary, summarise
from imbsam.report.words import answer, decided, seeds
from imbsam.runs.cost import Cost
from imbsam.runs.folder import RunFolder
from imbsam.runs.onset import unperturbed
from imbsam.runs.outcome import not_learnt
from imbsam.runs.records import BlendMember, Result, Split
from imbsam.runs.trained import Trained
from imbsam.storage.texts import READABLE, printable
from imbsam.studies.comparison import Comparison
from imbsam.training.methods import BLENDS, FAMILIES, MEMBERS, PLAIN

MEASURE_TITLES = tuple(measure.replace("_f1", " F1") for measure in MEASURES)


class NamesConsole(Console):
    """Console of rich for texts with names in them: no markup, no emoji, and room for escaped letters."""

    def __init__(self, *, stderr: bool = False) -> None:
        # A notebook asks for colours, and would show every state of a bar below the one before.
        is_terminal = False if is_under_kernel() else None
        super().__init__(
            stderr=stderr,
            force_terminal=is_terminal,
            force_jupyter=False,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )

    def render_str(self, text: str, **how: object) -> Text:
        """Replace what the terminal lacks before columns are measured."""
        return super().render_str(text.encode(self.encoding, READABLE).decode(self.encoding), **how)  # type: ignore[arg-type]


out = NamesConsole()
out.width = max(out.width, 110)
err = NamesConsole(stderr=True)

TITLES: Mapping[Family, str] = {
    "plain": "plain: the base optimizers, the controls",
    "all-classes": "all classes",
    "class-aware": "class-aware",
}


def warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one sentence, without its place in the code."""
    warn(str(message))


def warn(note: str) -> None:
    """Print a sentence as a warning."""
    print(f"warning: {printable(note)}", file=sys.stderr)


@contextmanager
def noted() -> Iterator[list[str]]:
    """Collect warnings, and print them when the work has ended."""
    notes: list[str] = []
    with warnings.catch_warnings(record=True) as caught:
        try:
            yield notes
        finally:
            notes += [str(each.message) for each in caught]
            for note in notes:
                warn(note)


def result(found: Result) -> None:
    """Show a finished run: its scores on the test data, else on the validation data."""
    split: Split = "test" if found.test is not None else "validation"
    scores = found.scores(split)
    if scores is None:
        out.print("no test or validation data: nothing was evaluated.")
        return
    epoch = "" if found.best_epoch is None else f", epoch {found.best_epoch}"
    table = _table(f"{found.label} on {found.source}, {split} data{epoch}", "")
    table.add_row("recall / score, %", *(_share(scores.of(measure)) for measure in MEASURES))
    out.print(table)
    if len(found.members) > 1:
        each = (_member(member) for member in found.members)
        lines([f"Members: share, in brackets balanced accuracy alone out of fold: {', '.join(each)}."])
    on_the_tail = [*unperturbed(found.notes), *not_learnt(found.validation or found.test, found.tail, found.config)]
    lines([*decided(found), *on_the_tail])


def _member(found: BlendMember) -> str:
    """Describe a member of a blend in a few words."""
    alone = "" if found.score is None else f" ({percent(found.score)})"
    return f"{found.name} {percent(found.share)}{alone}"


def summary_of(folder: Path, runs: Sequence[Path]) -> Summary:
    """Average the finished runs of a comparison."""
    labels = Comparison.read(folder).methods
    results = [RunFolder(run).read_result() for run in runs if RunFolder(run).result.exists()]
    return summarise(results, labels=[label for label in labels if any(r.label == label for r in results)])


def comparison(summary: Summary, source: str) -> None:
    """Show a comparison: mean and interval of each method, and the answer in a sentence."""
    every = [estimate for scores in summary.scores.values() for estimate in scores.values() if estimate is not None]
    number = max((estimate.n for estimate in every), default=0)
    measures = [m for m in MEASURES if any(scores[m] is not None for scores in summary.scores.values())]
    names = {measure: title for measure, title in zip(MEASURES, MEASURE_TITLES, strict=True) if measure in measures}
    if "few" in names and summary.tail_is_few:
        names["few"] = "few = tail"
        del names["tail"]
    title = f"{source}: {summary.split} data, mean ± 95 % interval over {seeds(number)}, %"
    table = _table(title, "method", list(names.values()))
    for label in summary.labels:
        cells = []
        for measure in names:
            estimate = summary.scores[label][measure]
            half = "" if estimate is None or estimate.half_width is None else f" ± {100 * estimate.half_width:.1f}"
            cells.append("-" if estimate is None else f"{100 * estimate.mean:.1f}{half}")
        table.add_row(label, *cells)
    out.print(table)
    for sentence in answer(summary):
        out.print(sentence)


AT_MOST = (
    "The weights are perturbed only once the tail's training recall reaches --sharp-recall: a run in which this is "
    "late costs less, down to a plain one."
)
"""Limit of the cost of runs that wait for the tail to be learned."""


def costs(found: Mapping[str, Cost]) -> None:
    """Show the cost of steps relative to plain ones."""
    one = next(iter(found.values()))
    table = Table(
        title=f"a step of {one.batch_size} rows, {percent(one.tail_share)} of them tail, beside a plain one",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("method", no_wrap=True)
    for name in ("forwards", "backwards", "cost"):
        table.add_column(name, justify="right")
    for label, cost in found.items():
        table.add_row(label, f"{cost.forwards:.2f}", f"{cost.backwards:.2f}", f"{cost.ratio:.2f}")
    out.print(table)
    out.print(
        f"Counted on the classes of real batches; {percent(one.with_tail)} of them contain a tail row. "
        + ("The model has BatchNorm: a tail pass includes context rows. " if one.couples_rows else "")
        + "A backward counts as two forwards."
        + (f" {AT_MOST}" if any(cost.waits for cost in found.values()) else "")
    )


def metrics(trained: Trained, found: Metrics) -> None:
    """Show scores, and the recall of each class, rarest first."""
    table = _table(f"{found.samples} samples", "")
    table.add_row("recall / score, %", *(_share(found.of(measure)) for measure in MEASURES))
    out.print(table)
    lines([*trained.read.prices, *mirrored(trained)])
    each = Table(
        Column("class", overflow="fold"),
        "training samples",
        "group",
        "recall, %",
        title="rarest first",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    order = trained.priors.counts.argsort(stable=True).tolist()
    for index in order[:100]:
        count = str(int(trained.priors.counts[index]))
        each.add_row(printable(trained.classes[index]), count, trained.groups[index], _share(found.per_class[index]))
    out.print(each)
    if len(order) > 100:
        out.print(f"... and {len(order) - 100} more classes; --json has them all.")


def mirrored(trained: Trained) -> list[str]:
    """Say that outputs are averaged over an image and its mirror image; empty if they are not."""
    return ["Outputs are the mean over each image and its mirror (--tta flip)."] if trained.tta == "flip" else []


def predictions(path: Path, classes: Sequence[str], per_class: Sequence[int]) -> None:
    """Show the predicted classes, most frequent first."""
    out.print(f"{sum(per_class)} predictions: {path}")
    ranked = sorted(zip(per_class, map(printable, classes), strict=True), reverse=True)[:10]
    out.print("  " + ", ".join(f"{name} {n}" for n, name in ranked if n))


def about_methods() -> list[dict[str, object]]:
    """Return every method of the family as plain values."""
    return [
        {
            "name": name,
            "family": method.family,
            "passes": method.passes,
            "cost": method.cost,
            "does": method.does,
            "take": method.take,
            "options": options_of(name),
            "source": method.source,
            "link": method.link,
        }
        for name, method in METHODS.items()
    ]


def methods() -> None:
    """Show every method of the family in a paragraph, ordered by whose loss it makes flat and by its passes."""
    print(f"{'method':<14}{'cost':<14}what it does, and when to choose it")
    print(f"\n{TITLES['plain']}\n{', '.join(PLAIN):<18}{'1':<10}{METHODS['plain'].take}")
    for family, title in TITLES.items():
        for passes in get_args(PassNumber):
            own = [n for n, each in METHODS.items() if (each.family, each.passes) == (family, passes) and n != "plain"]
            if own:
                print(f"\n{title}, {passes}")
            for name in own:
                method = METHODS[name]
                options = ", ".join(f"{option}={value}" for option, value in options_of(name).items())
                print(f"{name:<14}{method.cost:<14}{method.does}")
                for line in (f"when: {method.take}", options, f"{method.source}, {method.link}"):
                    print(f"{'':<28}{line}")
    print("\nfor tables")
    print(f"{BLENDS[0]:<28}our network, boosting and a forest combined, members={MEMBERS}")
    print(f"{', '.join(BLENDS[1:]):<28}scikit-learn's classifiers alone, calibrated like the blend")
    print("\ncost: forward-backwards of a row in a step where rows do not see each other; t: share of tail rows.")
    print(f"ascents, for --ascent: {', '.join(ASCENTS)}.")
    print(f"families, usable in --methods of imbsam compare: {', '.join(FAMILIES)}.")


def lines(sentences: Sequence[str]) -> None:
    """Show sentences, a line each."""
    for sentence in sentences:
        out.print(sentence)


def _table(title: str, first: str, names: Sequence[str] = MEASURE_TITLES) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD)
    # Where the table is too wide, rich narrows what may wrap: a long label, and no number.
    table.add_column(first, overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def percent(value: float) -> str:
    """Format a share as percent."""
    return f"{100 * value:.1f} %"
