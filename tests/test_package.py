import importlib
import subprocess
import sys

import pytest

import imbsam

PUBLIC = [
    "BlendClassifier",
    "ClassPriors",
    "Gradient",
    "ImbSAM",
    "Plain",
    "SAM",
    "SharpClassifier",
    "SharpnessAware",
    "__version__",
    "data",
    "errors",
    "estimators",
    "losses",
    "metrics",
    "models",
    "optim",
    "sharpness",
]
HEAVY = {"torch", "numpy", "pandas", "sklearn", "matplotlib", "pyarrow", "PIL", "joblib"}


def modules_after(program: str) -> set[str]:
    """Top-level modules that a fresh Python has imported after a program."""
    listing = "\nimport sys; sys.stderr.write(' '.join({name.partition('.')[0] for name in sys.modules}))"
    ran = subprocess.run([sys.executable, "-c", program + listing], capture_output=True, text=True, check=True)
    return set(ran.stderr.split())


def test_the_public_names_are_these():
    assert dir(imbsam) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there(name):
    assert getattr(imbsam, name) is not None


def test_a_star_import_gives_the_public_names():
    names: dict[str, object] = {}
    exec("from imbsam import *", names)
    assert set(PUBLIC) <= set(names)


def test_other_names_are_refused():
    with pytest.raises(AttributeError, match="module 'imbsam' has no attribute 'ImbSam'"):
        imbsam.ImbSam  # noqa: B018


def test_the_version_is_that_of_the_installed_package():
    from importlib.metadata import version

    assert imbsam.__version__ == version("imbsam")


def test_importing_the_package_imports_nothing_heavy():
    assert not modules_after("import imbsam") & HEAVY


def test_the_optimizers_need_torch_alone():
    loaded = modules_after("from imbsam import ClassPriors, ImbSAM, SAM, errors")
    assert "torch" in loaded
    assert not loaded & {"pandas", "sklearn", "matplotlib", "pydantic", "tyro", "rich", "yaml", "pyarrow"}


def test_every_error_is_one_of_ours():
    errors = importlib.import_module("imbsam.errors")
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type)]
    assert all(issubclass(kind, errors.ImbsamError | UserWarning) for kind in kinds)


def test_types_are_shipped():
    from importlib.resources import files

    assert files("imbsam").joinpath("py.typed").is_file()
