"""Result of ``--dry-run`` as an answer."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.box import SIMPLE_HEAD
from rich.table import Table

from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.studies.dry_run import ASSUMED, DryRun


def tried(found: DryRun, source: str, seeds: int = 1) -> Answer:
    """Return the answer with the result of a dry run.

    Args:
        found: Result of the dry run of each method.
        source: The data.
        seeds: Number of runs of each method.
    """
    seconds = seeds * sum(each.seconds for each in found.forecasts.values())
    content = {
        "source": source,
        "seeds": seeds,
        **asdict(found),
        "forecasts": {label: {**asdict(each), "ratio": each.cost.ratio} for label, each in found.forecasts.items()},
        "seconds": seconds,
        "assumed": ASSUMED,
    }
    return Answer(content, lambda: _show(found, source, seeds, seconds))


def _show(found: DryRun, source: str, seeds: int, seconds: float) -> None:
    groups = ", ".join(f"{found.groups.count(group)} {group}-shot" for group in ("many", "medium", "few"))
    one = next(iter(found.forecasts.values()))
    network = one.network
    show.lines(
        [
            f"data: {source}",
            f"  {sum(found.counts):,} training rows of {len(found.counts):,} classes ({groups}), {max(found.counts):,} "
            f"in the most frequent and {min(found.counts):,} in the rarest; {show.percent(one.cost.tail_share)} of "
            f"them are of tail classes; {found.validation:,} validation and {found.test:,} test rows",
            *(f"  {note}" for note in found.notes),
            f"tried: one step of each method on {network.rows} rows of {' x '.join(map(str, network.shape))}, with "
            f"{network.parameters:,} parameters; the largest loss was "
            f"{max(each.loss for each in found.forecasts.values()):.2f}",
        ]
    )
    show.out.print(_table(found))
    runs = seeds * len(found.forecasts)
    how = (
        f"measured here on {network.rows} rows at a time; give --samples-per-second of another machine"
        if network.measured
        else "as given"
    )
    show.lines(
        [
            f"{'the run' if runs == 1 else f'all {runs} runs, one after the other'}: {duration(seconds)}, at "
            f"{network.samples_per_second:,.4g} plain training rows a second ({how}).",
            ASSUMED,
            *([show.AT_MOST] if any(each.cost.waits for each in found.forecasts.values()) else []),
            "Nothing was written. The same command without --dry-run trains.",
        ]
    )


def _table(found: DryRun) -> Table:
    table = Table(title="predicted, for one run", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("method", overflow="fold")
    for name in ("forwards", "backwards", "cost", "steps", "memory", "time"):
        table.add_column(name, justify="right", no_wrap=True)
    for label, each in found.forecasts.items():
        cost = each.cost
        row: Sequence[str] = (
            f"{cost.forwards:.2f}",
            f"{cost.backwards:.2f}",
            f"{cost.ratio:.2f}",
            f"{each.steps:,}",
            size(each.memory),
            duration(each.seconds),
        )
        table.add_row(label, *row)
    return table


def size(number: int) -> str:
    """Format bytes in the unit that suits them."""
    return f"{number / 2**30:.1f} GiB" if number >= 2**29 else f"{number / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Format a time in the unit that suits it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"
