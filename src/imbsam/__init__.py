"""Sharpness-aware training for data where some classes are rare.

The optimizers (:class:`ImbSAM`, :class:`SAM`) wrap any PyTorch optimizer in your own training loop;
:class:`ClassPriors` says which classes are rare; :mod:`imbsam.losses` holds the losses for imbalanced classes;
:class:`SharpClassifier` and :class:`BlendClassifier` are scikit-learn estimators for arrays and data frames.
The command ``imbsam`` trains, compares and reports.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imbsam import data as data
    from imbsam import estimators as estimators
    from imbsam import losses as losses
    from imbsam import metrics as metrics
    from imbsam import models as models
    from imbsam import optim as optim
    from imbsam import sharpness as sharpness
    from imbsam.estimators import BlendClassifier as BlendClassifier
    from imbsam.estimators import SharpClassifier as SharpClassifier
    from imbsam.optim import SAM as SAM
    from imbsam.optim import Gradient as Gradient
    from imbsam.optim import ImbSAM as ImbSAM
    from imbsam.optim import Plain as Plain
    from imbsam.optim import SharpnessAware as SharpnessAware
    from imbsam.priors import ClassPriors as ClassPriors

# Loaded at first use (PEP 562): the command's help must not wait for torch.
_HOMES = {
    "BlendClassifier": "imbsam.estimators",
    "ClassPriors": "imbsam.priors",
    "Gradient": "imbsam.optim",
    "ImbSAM": "imbsam.optim",
    "Plain": "imbsam.optim",
    "SAM": "imbsam.optim",
    "SharpClassifier": "imbsam.estimators",
    "SharpnessAware": "imbsam.optim",
    "data": "imbsam",
    "errors": "imbsam",
    "estimators": "imbsam",
    "losses": "imbsam",
    "metrics": "imbsam",
    "models": "imbsam",
    "optim": "imbsam",
    "sharpness": "imbsam",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("imbsam")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'imbsam' has no attribute {name!r}")
    found = (
        importlib.import_module(f"imbsam.{name}") if home == "imbsam" else getattr(importlib.import_module(home), name)
    )
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
