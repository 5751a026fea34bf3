"""The choices that make a detector, and their ranges; light, so that the command reads them without torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from imbsam.errors import OptionError

if TYPE_CHECKING:
    import torch

Scaling = Literal["standard", "minmax", "none"]
Precision = Literal["double", "single"]


@dataclass(frozen=True)
class Settings:
    """Detector: network, loss and score, and how they are trained.

    The options of AnomalyDetector and of `imbsam anomaly fit`; names are looked up where what they name is made.

    Raises:
        OptionError: If one is out of range.
    """

    objective: str = "auto"
    """Network, loss and score: blend, devnet, hsc, bce, focal, deep-sad, deep-svdd, feawad, prenet or rosas. auto: for
    tables blend, several networks of devnet and a forest; for images devnet."""
    objective_options: Mapping[str, object] = field(default_factory=dict)
    """The objective's own options, as margin=3."""
    method: str = "imbsam"
    """Optimizer over the base; plain is the base alone. `imbsam methods` lists them."""
    method_options: Mapping[str, object] = field(default_factory=dict)
    """The method's own options, as tail-weight=2."""
    rho: float | None = None
    """Neighbourhood size. Default: what suits the objective, or the method where its rho is no length."""
    damping: float = 0.3
    """Keeps the perturbation short where the gradient is."""
    base: str = "adam"
    """Base optimizer: adam, adamw, sgd, rmsprop or muon (matrices of hidden layers; AdamW for the rest)."""
    lr: float | None = None
    """Learning rate. Default: what suits the objective."""
    weight_decay: float | None = None
    """Of the base optimizer. Default: what suits the objective."""
    steps: int = 800
    """Steps of the training, however many rows there are."""
    epochs: int | None = None
    """Instead of steps: times over the rows that are no labelled anomalies."""
    pretraining_epochs: int | None = None
    """Of the auto-encoder, where the objective has one. Default: as epochs or steps."""
    batch_size: int = 128
    """Rows in a batch."""
    anomalies_per_batch: int | None = None
    """How many of them are labelled anomalies; 0 leaves it to chance. Default: the objective's share."""
    scaling: Scaling | None = None
    """Of the columns. Default: what the objective is made for."""
    members: int = 1
    """Networks whose scores are averaged."""
    contamination: float | Literal["auto"] = "auto"
    """Share of rows to call anomalies, as 0.02; auto: the threshold is chosen on held-out labelled anomalies."""
    strict: bool = False
    """Refuse data without a labelled anomaly, rather than fit without labels."""
    precision: Precision | None = None
    """Of weights and scores. Default: double for tables, single for images."""
    device: str = "cpu"
    """cpu, cuda, ..."""

    def __post_init__(self) -> None:
        for name, (range_, holds) in RANGES.items():
            value = getattr(self, name)
            if not holds(value) and (value is not None or getattr(Settings, name) is not None):
                raise OptionError(f"{name} must be {range_}; got {value!r}.")

    @property
    def dtype(self) -> "torch.dtype":
        """Of weights and scores."""
        import torch

        return torch.float32 if self.precision == "single" else torch.float64


Range = tuple[str, Callable[[object], bool]]
"""In words, and whether it holds a value; an option whose default is None may be None besides."""


def _whole(least: int) -> Range:
    return f"a whole number of at least {least}", lambda value: hasattr(value, "__index__") and _number(value) >= least


def _number(value: object) -> float:
    """NaN, which no range holds, for what is no finite number."""
    if not hasattr(value, "__float__") or isinstance(value, bool | str) or not math.isfinite(float(value)):
        return math.nan
    return float(value)


AT_LEAST_0: Range = ("finite and at least 0", lambda value: _number(value) >= 0)

RANGES: Mapping[str, Range] = {
    "rho": AT_LEAST_0,
    "damping": AT_LEAST_0,
    "lr": ("finite and above 0", lambda value: _number(value) > 0),
    "weight_decay": AT_LEAST_0,
    "steps": _whole(1),
    "epochs": _whole(1),
    "pretraining_epochs": _whole(0),
    "batch_size": _whole(2),
    "anomalies_per_batch": _whole(0),
    "members": _whole(1),
    "contamination": ("'auto' or a share in (0, 0.5]", lambda value: value == "auto" or 0 < _number(value) <= 0.5),
    "precision": ("'double' or 'single'", lambda value: value in ("double", "single")),
}
