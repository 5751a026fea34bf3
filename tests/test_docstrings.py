"""The reference lists every public name, and its docstring says what it takes, of which shape, and what it raises."""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Callable
from dataclasses import is_dataclass
from pathlib import Path
from types import ModuleType

import pytest
from docstring_parser import Docstring, DocstringStyle, parse
from pytorch_lightning import LightningModule
from skorch import NeuralNet
from transformers import Trainer

REFERENCE = Path(__file__).parent.parent / "docs/reference"
PAGES = "\n".join(page.read_text(encoding="utf-8") for page in sorted(REFERENCE.glob("*.md")))
LISTED = re.findall(r"^::: (\S+)$", PAGES, flags=re.MULTILINE)
MODULES = [
    "imbsam.anomaly",
    "imbsam.data",
    "imbsam.errors",
    "imbsam.estimators",
    "imbsam.integrations.accelerate",
    "imbsam.integrations.lightning",
    "imbsam.integrations.micro_batches",
    "imbsam.integrations.pyod",
    "imbsam.integrations.skorch",
    "imbsam.integrations.transformers",
    "imbsam.losses",
    "imbsam.metrics",
    "imbsam.models",
    "imbsam.optim",
    "imbsam.optim.schedules",
    "imbsam.priors",
    "imbsam.sharpness",
]
MIXED_INTO = {
    "imbsam.integrations.lightning": LightningModule,
    "imbsam.integrations.skorch": NeuralNet,
    "imbsam.integrations.transformers": Trainer,
}
MADE_BY_A_STEP = ("imbsam.optim.Pass", "imbsam.optim.Passes")
OPTIONS_OF = {"imbsam.anomaly.Settings": "imbsam.anomaly.AnomalyDetector"}
"""A class whose options another one describes."""

Documented = Callable[..., object]


def public_names(module: ModuleType) -> set[str]:
    """Functions and classes that a package re-exports, or that a plain module defines and its package does not list."""
    is_package = hasattr(module, "__path__")
    package = module.__name__.rpartition(".")[0]
    above = vars(importlib.import_module(package)) if package in MODULES else {}
    return {
        name
        for name, thing in ((name, getattr(module, name)) for name in dir(module))
        if name[0] != "_"
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__.startswith(f"{module.__name__}." if is_package else module.__name__)
        and name not in above
    }


def named(path: str) -> Documented:
    module, _, name = path.rpartition(".")
    thing: Documented = getattr(importlib.import_module(module), name)
    return thing


def methods_of(path: str) -> dict[str, Documented]:
    """Public methods of a class, without those that it overrides: what the base says holds for them."""
    kind = named(path)
    if not inspect.isclass(kind):
        return {}
    bases = (*kind.__mro__[1:], MIXED_INTO.get(kind.__module__, object))
    return {
        f"{path}.{name}": getattr(kind, name)
        for name, member in vars(kind).items()
        if name[0] != "_"
        and (inspect.isfunction(member) or isinstance(member, classmethod | staticmethod))
        and not any(hasattr(base, name) for base in bases)
    }


THINGS = {path: thing for listed in LISTED for path, thing in ({listed: named(listed)} | methods_of(listed)).items()}


def described(thing: Documented) -> Docstring:
    return parse(inspect.getdoc(thing) or "", DocstringStyle.GOOGLE)


def parameters_of(path: str) -> dict[str, inspect.Parameter]:
    thing = THINGS[path]
    if path in MADE_BY_A_STEP or (inspect.isclass(thing) and "__init__" not in vars(thing)):
        return {}
    parameters = inspect.signature(thing).parameters
    return {name: each for name, each in parameters.items() if name not in ("self", "args", "kwargs")}


def raised_by(thing: Documented) -> set[str]:
    """Names of the errors in the ``raise`` statements of a function, or of a class's constructor."""
    constructor = "__post_init__" if is_dataclass(thing) else "__init__"
    body = vars(thing).get(constructor) if inspect.isclass(thing) else thing
    if body is None or getattr(thing, "_is_protocol", False):
        return set()
    nodes = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(body))))
    calls = [node.exc for node in nodes if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)]
    return {call.func.id for call in calls if isinstance(call.func, ast.Name)} - {"NotImplementedError"}


@pytest.mark.parametrize("module", MODULES)
def test_the_reference_lists_every_public_name(module: str) -> None:
    listed = {path.rpartition(".")[2] for path in LISTED if path.rpartition(".")[0] == module}
    assert listed == public_names(importlib.import_module(module))


def test_the_reference_lists_no_name_twice() -> None:
    assert sorted(LISTED) == sorted(set(LISTED))


def test_a_docstring_names_every_argument() -> None:
    for path, thing in THINGS.items():
        describing = described(named(OPTIONS_OF[path]) if path in OPTIONS_OF else thing)
        assert describing.short_description, path
        assert parameters_of(path).keys() <= {argument.arg_name.lstrip("*") for argument in describing.params}, path


def test_a_docstring_says_the_shape_of_every_tensor() -> None:
    for path, thing in THINGS.items():
        told = {argument.arg_name: argument.description or "" for argument in described(thing).params}
        for name, parameter in parameters_of(path).items():
            if re.search("^(?!.*Callable).*Tensor", str(parameter)):
                assert re.search(r"[Ss]hape|\([NBb],", told[name]), (path, name)


def test_a_docstring_names_every_error_that_the_body_raises() -> None:
    for path, thing in THINGS.items():
        assert raised_by(thing) <= {error.type_name for error in described(thing).raises}, path
