"""Recipes of papers: data, options, methods, and what is known and what differs, a YAML file each."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

import yaml

from imbsam.config import Options, checked, to_yaml
from imbsam.data.layouts import LAYOUTS, Layout
from imbsam.errors import OptionError
from imbsam.studies.compare import Variant

RecipeVariant = Literal["published", "corrected"]

VARIANTS: tuple[RecipeVariant, ...] = ("published", "corrected")
RECIPES = ("cifar100-lt", "imagenet-lt", "inaturalist-2018")


@dataclass(frozen=True)
class Written:
    """A recipe as its file has it.

    Args:
        about: What it is.
        data: Name of the layout.
        options: Of every run, those of the method aside.
        methods: ``METHOD`` or ``METHOD:OPTION=VALUE,...``; the first is the baseline.
        others: Further methods with their options, made if they are named.
        seeds: How many, from ``options["seed"]`` on.
        origin: Where each value is from, and what was not published.
        differs: What differs from what was published, a sentence each.
        reported: Results of others.
    """

    about: str
    data: str
    options: dict[str, object]
    methods: tuple[str, ...]
    others: tuple[str, ...]
    seeds: int
    origin: tuple[str, ...]
    differs: tuple[str, ...]
    reported: tuple[str, ...]


@dataclass(frozen=True)
class Recipe:
    """A recipe ready to be made.

    Args:
        name: One of :data:`RECIPES`.
        variant: One of :data:`VARIANTS`.
        layout: What the data have to be.
        options: Of every run, those of the method aside.
        written: All that its file says.
    """

    name: str
    variant: RecipeVariant
    layout: Layout
    options: Options
    written: Written

    def labels(self, methods: Sequence[str] = ()) -> list[str]:
        """The methods to compare, with the recipe's options of each.

        Args:
            methods: Names, for which the recipe's options of that method stand, or ``METHOD:OPTION=VALUE,...``, which
                stand for themselves; by default the recipe's.
        """
        own = {Variant.parse(label).values["method"]: label for label in (*self.written.methods, *self.written.others)}
        return [own.get(method, method) for method in methods] or list(self.written.methods)

    def config(self, labels: Sequence[str], seeds: int) -> str:
        """What makes the same runs by ``imbsam compare SOURCE --config FILE``, YAML."""
        return to_yaml({"methods": list(labels), "seeds": seeds, **self.options.flat()})


def recipe_named(name: str, variant: RecipeVariant) -> Recipe:
    """Read a recipe.

    Args:
        name: One of :data:`RECIPES`.
        variant: As published, or corrected.

    Raises:
        OptionError: If there is no such recipe.
    """
    if name not in RECIPES:
        raise OptionError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}.")
    written = checked(Written, yaml.safe_load(recipe_text(name, variant)))
    return Recipe(name, variant, LAYOUTS[written.data], Options().updated(written.options), written)


def recipe_text(name: str, variant: RecipeVariant) -> str:
    """The recipe's file."""
    return files("imbsam").joinpath("recipes", f"{name}.{variant}.yaml").read_text(encoding="utf-8")
