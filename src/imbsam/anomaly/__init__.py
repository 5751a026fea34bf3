"""Anomaly detection with a few labelled anomalies, which are the tail of a sharpness-aware method."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imbsam.anomaly.core import Detector as Detector
    from imbsam.anomaly.core import Member as Member
    from imbsam.anomaly.core import fit as fit
    from imbsam.anomaly.detector import AnomalyDetector as AnomalyDetector
    from imbsam.anomaly.objective import Objective as Objective
    from imbsam.anomaly.registry import OBJECTIVES as OBJECTIVES
    from imbsam.anomaly.registry import create_objective as create_objective
    from imbsam.anomaly.registry import objective_options as objective_options
    from imbsam.anomaly.settings import Settings as Settings
    from imbsam.anomaly.threshold import Threshold as Threshold
    from imbsam.integrations.pyod import PyODDetector as PyODDetector

# Loaded at first use (PEP 562): the command reads Settings without torch, and PyOD is an extra.
_HOMES = {
    "AnomalyDetector": "imbsam.anomaly.detector",
    "Detector": "imbsam.anomaly.core",
    "Member": "imbsam.anomaly.core",
    "OBJECTIVES": "imbsam.anomaly.registry",
    "Objective": "imbsam.anomaly.objective",
    "PyODDetector": "imbsam.integrations.pyod",
    "Settings": "imbsam.anomaly.settings",
    "Threshold": "imbsam.anomaly.threshold",
    "create_objective": "imbsam.anomaly.registry",
    "fit": "imbsam.anomaly.core",
    "objective_options": "imbsam.anomaly.registry",
}

# Without the name that needs an extra: whoever asks for all of them may not have it.
__all__ = [name for name in _HOMES if name != "PyODDetector"]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        found = getattr(importlib.import_module(_HOMES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "pyod":
            raise
        raise ImportError(f"{name} needs the package pyod: pip install 'imbsam[pyod]'") from None
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
