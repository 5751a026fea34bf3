"""The command ``imbsam reproduce``: a recipe as a comparison, or tried beforehand."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from rich.box import SIMPLE_HEAD
from rich.table import Table

from imbsam.cli import show
from imbsam.cli.answer import Answer
from imbsam.cli.commands import Compare, Reproduce
from imbsam.config import to_yaml
from imbsam.errors import OptionError
from imbsam.storage.files import write_atomically
from imbsam.studies.compare import Variant, plan_runs
from imbsam.studies.dry_run import ROWS, DryRun, dry_run
from imbsam.studies.recipes import Recipe, recipe_named

ASSUMED = (
    "Assumed: a run is its steps, each a plain step's work times its cost ratio (a backward counts as two forwards); "
    "an image that is only evaluated counts a third; decoding keeps up. Memory: weights, gradient and momentum, two "
    "copies more where weights are perturbed, and the activations of one batch in float32, counted on the real model; "
    "the workspace of kernels and the driver's own (1 to 2 GiB on CUDA) come on top."
)


@dataclass(frozen=True)
class Planned:
    """A recipe with its data found and checked.

    Args:
        recipe: What to make, its options those of this machine.
        command: What the user asked for.
        source: The data, as other commands take them.
        labels: The methods.
        seeds: How many.
    """

    recipe: Recipe
    command: Reproduce
    source: str
    labels: tuple[str, ...]
    seeds: int

    @classmethod
    def of(cls, command: Reproduce, recipe: Recipe | None = None) -> "Planned":
        """Find the data and compare them with the recipe.

        Args:
            command: What the user asked for.
            recipe: By default the one that is named.

        Raises:
            ImbsamError: If the recipe is unknown, an option cannot be used, or the data are not the recipe's.
        """
        recipe = recipe or recipe_named(command.recipe, command.variant)
        if command.data is None:
            raise OptionError(f"name the data: imbsam reproduce {recipe.name} --data FOLDER. {recipe.layout.needed}")
        seeds = recipe.written.seeds if command.seeds is None else command.seeds
        if seeds < 1:
            raise OptionError(f"--seeds must be at least 1; got {seeds}.")
        rate = command.samples_per_second
        if rate is not None and not (math.isfinite(rate) and rate > 0):
            raise OptionError(f"--samples-per-second must be a number above 0; got {rate}.")
        if rate is not None and not command.dry_run:
            raise OptionError("--samples-per-second is for the prediction of --dry-run; training takes its time.")
        options = recipe.options.updated({"device": command.device, "workers": command.workers})
        labels = tuple(recipe.labels(command.methods))
        # Before the data are gone through: a wrong method is told at once.
        plan_runs(Path(), options, [Variant.parse(label) for label in labels], [options.training.seed])
        source = recipe.layout.source(command.data)
        recipe.layout.check(source)
        return cls(replace(recipe, options=options), command, source, labels, seeds)

    @property
    def folder(self) -> Path:
        """Where the runs go."""
        return self.command.out or Path("runs") / f"reproduce-{self.recipe.name}-{self.recipe.variant}"

    def comparison(self) -> Compare:
        """The comparison that makes the runs."""
        return Compare(
            source=self.source,
            methods=self.labels,
            seeds=self.seeds,
            out=self.folder,
            jobs=self.command.jobs,
            quiet=self.command.quiet,
            options=self.recipe.options,
            json=self.command.json,
        )

    def tried(self, samples_per_second: float | None) -> Answer:
        """Make a step of each method and predict the rest; nothing is written.

        Raises:
            ImbsamError: If something of the recipe does not work on these data.
        """
        options = self.recipe.options
        variants = [Variant.parse(label) for label in self.labels]
        runs = plan_runs(Path(), options, variants, [options.training.seed])
        found = dry_run(self.source, runs, samples_per_second=samples_per_second)
        content = {
            **self.about(),
            "source": self.source,
            "config": options.flat(),
            "methods": list(self.labels),
            "seeds": self.seeds,
            "counts": list(found.counts),
            "parameters": found.parameters,
            "samples_per_second": found.speed.samples_per_second,
            "forecasts": {label: {**asdict(each), "ratio": each.cost.ratio} for label, each in found.forecasts.items()},
            "seconds": self.seeds * sum(each.seconds for each in found.forecasts.values()),
            "assumed": ASSUMED,
        }
        return Answer(content, lambda: self._show(found))

    def about(self) -> dict[str, object]:
        """What the recipe says of itself, plain values."""
        written = self.recipe.written
        return {
            "recipe": self.recipe.name,
            "variant": self.recipe.variant,
            "about": written.about,
            "origin": list(written.origin),
            "differs": list(written.differs),
            "reported": list(written.reported),
        }

    def show_about(self) -> None:
        """Print it."""
        written = self.recipe.written
        show.lines([f"{self.recipe.name}, {self.recipe.variant}: {written.about}"])
        for title, sentences in (
            ("where its values are from", written.origin),
            ("what differs from what was published", written.differs),
            ("what others report", written.reported),
        ):
            show.lines(["", f"{title}:", *(f"  - {sentence}" for sentence in sentences)] if sentences else [])

    def _show(self, found: DryRun) -> None:
        self.show_about()
        options = self.recipe.options
        groups = ", ".join(f"{found.groups.count(group)} {group}-shot" for group in ("many", "medium", "few"))
        most, least = max(found.counts), min(found.counts)
        one = next(iter(found.forecasts.values()))
        show.lines(
            [
                "",
                f"data: {self.source} has the recipe's files and numbers.",
                f"  {sum(found.counts):,} training images of {len(found.counts):,} classes ({groups}), {most:,} in the "
                f"most frequent and {least:,} in the rarest; {show.percent(one.cost.tail_share)} of them are of tail "
                f"classes; {found.validation:,} validation and {found.test:,} test images",
                *(f"  {note}" for note in found.notes),
                "",
                "configuration, for `imbsam compare SOURCE --config FILE`:",
                "",
                self.recipe.config(self.labels, self.seeds),
                f"model: {options.model.model}, {found.parameters / 1e6:.3f} million parameters",
                f"tried: one step of each method on {ROWS} images of {' x '.join(map(str, found.shape))}; the largest "
                f"loss was {max(each.loss for each in found.forecasts.values()):.2f}",
            ]
        )
        show.out.print(_table(found))
        total = self.seeds * sum(each.seconds for each in found.forecasts.values())
        rate = found.speed
        how = (
            f"measured here on {ROWS} images at a time; give --samples-per-second of the machine that will train"
            if rate.measured
            else "as given"
        )
        show.lines(
            [
                f"all {self.seeds * len(self.labels)} runs, one after the other: {duration(total)}, at "
                f"{rate.samples_per_second:,.4g} plain training images a second ({how}).",
                ASSUMED,
                "Nothing was written. The runs themselves: the same command without --dry-run.",
            ]
        )


def with_recipe(planned: Planned, found: Answer | int) -> Answer | int:
    """What a comparison found, beside what the recipe says of itself, which is kept in its folder, too."""
    write_atomically(planned.folder / "recipe.yaml", to_yaml(planned.about()))
    if isinstance(found, int):
        return found

    def shown() -> None:
        planned.show_about()
        print()
        found.show()

    return Answer({**cast(dict[str, object], found.content), **planned.about()}, shown, found.code)


def duration(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, length in (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.1f} {unit}"
    return f"{seconds:.0f} seconds"


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
            f"{each.memory / 2**30:.1f} GiB",
            duration(each.seconds),
        )
        table.add_row(label.replace("[", r"\["), *row)
    return table
