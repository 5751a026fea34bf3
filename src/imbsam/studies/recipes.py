"""Recipes: the settings of a comparison and the source of each value, in one YAML file each."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from imbsam.config import STRICT, checked, read_yaml
from imbsam.data.layouts import LAYOUTS, Layout
from imbsam.errors import OptionError

SHIPPED = Path(__file__).parents[1] / "recipes"
"""Files of the recipes in the package, ``NAME.VARIANT.yaml``."""

USUAL = "published"
"""The variant of a recipe that is named without one."""

RECIPES = tuple(sorted(path.stem for path in SHIPPED.glob("*.yaml")))
"""Names of the recipes in the package, ``NAME.VARIANT``."""


@dataclass(frozen=True)
class RecipeHead:
    """Description in a recipe's file, beside the settings of the comparison."""

    __pydantic_config__ = STRICT

    about: str = ""
    """What it is."""
    layout: str | None = None
    """Name of the data's layout, which is then checked."""
    others: tuple[str, ...] = ()
    """Further methods with their options, made if they are named."""
    origin: tuple[str, ...] = ()
    """Where each value is from, and what was not published."""
    differs: tuple[str, ...] = ()
    """What differs from what was published."""
    reported: tuple[str, ...] = ()
    """Results of others."""


@dataclass(frozen=True)
class Recipe:
    """Recipe in the form of its file.

    Args:
        name: One of :data:`RECIPES`, or the name of a file of your own.
        head: Description of the recipe.
        settings: Settings of the comparison, as ``imbsam compare --config FILE`` reads them.
        text: The whole file.
    """

    name: str
    head: RecipeHead
    settings: Mapping[str, object]
    text: str

    @classmethod
    def read(cls, name: str) -> "Recipe":
        """Read a recipe.

        Args:
            name: ``NAME``, ``NAME.VARIANT`` or the path of a YAML file.

        Raises:
            OptionError: If there is no such recipe, or its head cannot be read.
        """
        path = _file_of(name)
        values = read_yaml(path)
        names = {field.name for field in dataclasses.fields(RecipeHead)}
        try:
            head = checked(RecipeHead, {key: value for key, value in values.items() if key in names})
        except OptionError as error:
            raise OptionError(f"{path}: {error}") from None
        if head.layout is not None and head.layout not in LAYOUTS:
            raise OptionError(f"{path}: there is no layout {head.layout!r}; there are {', '.join(LAYOUTS)}.")
        settings = {key: value for key, value in values.items() if key not in names}
        return cls(path.stem, head, settings, path.read_text(encoding="utf-8"))

    @property
    def layout(self) -> Layout | None:
        """Layout that the data must have."""
        return None if self.head.layout is None else LAYOUTS[self.head.layout]

    def labels(self, methods: Sequence[str]) -> list[str]:
        """Return the methods to compare, with the recipe's options of each.

        Args:
            methods: Names of methods, which get the recipe's options, or ``METHOD:OPTION=VALUE,...``, which are used
                unchanged.
        """
        held = self.settings.get("methods", ())
        labels = [*([held] if isinstance(held, str) else held if isinstance(held, list) else ()), *self.head.others]
        own = {str(label).partition(":")[0]: str(label) for label in reversed(labels)}
        return [method if method in labels else own.get(method, method) for method in methods]

    def source(self, place: str) -> str:
        """Find the data and compare them with the layout, if there is one.

        Args:
            place: Place that the user named.

        Returns:
            The source, as for :func:`imbsam.data.load`.

        Raises:
            DataError: If a file is missing, or a number of classes or samples differs.
        """
        if self.layout is None:
            return place
        source = self.layout.source(place)
        self.layout.check(source)
        return source


def _file_of(name: str) -> Path:
    for each in (name, f"{name}.{USUAL}"):
        if each in RECIPES:
            return SHIPPED / f"{each}.yaml"
    path = Path(name)
    if not path.is_file():
        raise OptionError(f"there is no recipe {name!r}; there are {', '.join(RECIPES)}, or name a YAML file.")
    return path
