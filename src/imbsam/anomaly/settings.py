"""The choices that make a detector, and their ranges."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch

from imbsam.anomaly.objective import Scaling
from imbsam.anomaly.registry import objective_named
from imbsam.errors import OptionError
from imbsam.optim import METHODS

Precision = Literal["double", "single"]


@dataclass(frozen=True)
class Settings:
    """How a detector is trained; the fields are the options of :class:`~imbsam.anomaly.AnomalyDetector`.

    Raises:
        OptionError: If one is unknown or out of range.
    """

    objective: str = "devnet"
    objective_options: Mapping[str, object] = field(default_factory=dict)
    method: str = "imbsam"
    method_options: Mapping[str, object] = field(default_factory=dict)
    rho: float | None = None
    damping: float = 0.3
    base: str = "adam"
    lr: float | None = None
    weight_decay: float | None = None
    steps: int = 800
    epochs: int | None = None
    pretraining_epochs: int | None = None
    batch_size: int = 128
    anomalies_per_batch: int | None = None
    scaling: Scaling | None = None
    members: int = 1
    contamination: float | Literal["auto"] = "auto"
    strict: bool = False
    precision: Precision | None = None
    device: str = "cpu"

    def __post_init__(self) -> None:
        objective_named(self.objective)
        if self.method not in METHODS:
            raise OptionError(f"there is no method {self.method!r}; there are {', '.join(METHODS)}.")
        for name in ("steps", "epochs", "members"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 1)
        _at_least("batch_size", self.batch_size, 2)
        for name in ("pretraining_epochs", "anomalies_per_batch"):
            if getattr(self, name) is not None:
                _at_least(name, getattr(self, name), 0)
        if self.lr is not None and not (_is_number(self.lr) and self.lr > 0):
            raise OptionError(f"lr must be finite and above 0; got {self.lr!r}.")
        for name in ("weight_decay", "damping", "rho"):
            value = getattr(self, name)
            if value is not None and not (_is_number(value) and value >= 0):
                raise OptionError(f"{name} must be finite and at least 0; got {value!r}.")
        share = self.contamination
        if share != "auto" and not (_is_number(share) and 0 < float(share) <= 0.5):
            raise OptionError(f"contamination must be 'auto' or a share in (0, 0.5]; got {share!r}.")
        if self.precision not in ("double", "single", None):
            raise OptionError(f"precision must be 'double' or 'single'; got {self.precision!r}.")

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and scores."""
        return torch.float32 if self.precision == "single" else torch.float64


def _at_least(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not hasattr(value, "__index__") or int(value) < least:
        raise OptionError(f"{name} must be a whole number of at least {least}; got {value!r}.")


def _is_number(value: object) -> bool:
    return hasattr(value, "__float__") and not isinstance(value, bool | str) and math.isfinite(float(value))
