"""Options of a detector, and their ranges; without torch, so that the command reads them fast."""

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
        OptionError: If an option is out of range.
    """

    objective: str = "auto"
    """Network, loss and score: blend, devnet, hsc, bce, focal, deep-sad, deep-svdd, feawad, prenet or rosas. auto:
    blend for tables (several devnet networks and a forest), devnet for images."""
    objective_options: Mapping[str, object] = field(default_factory=dict)
    """The objective's own options, such as margin=3."""
    method: str = "imbsam"
    """Method over the base optimizer; plain is the base optimizer alone. `imbsam methods` lists them."""
    method_options: Mapping[str, object] = field(default_factory=dict)
    """The method's own options, such as tail-weight=2."""
    rho: float | None = None
    """Neighbourhood size. Default: what suits the objective, or the method where its rho is not a length."""
    damping: float = 0.3
    """Damping of the perturbation, which keeps it short where the gradient is small."""
    base: str = "adam"
    """Base optimizer: adam, adamw, sgd, rmsprop or muon (Muon for the matrices of hidden layers, AdamW for the
    rest)."""
    lr: float | None = None
    """Learning rate. Default: what suits the objective."""
    weight_decay: float | None = None
    """Weight decay of the base optimizer. Default: what suits the objective."""
    steps: int = 800
    """Number of training steps, whatever the number of rows."""
    epochs: int | None = None
    """Number of passes over the rows that are not labelled anomalies, instead of steps."""
    pretraining_epochs: int | None = None
    """Number of epochs of pre-training the auto-encoder, if the objective has one. Default: epochs or steps."""
    batch_size: int = 128
    """Rows in a batch."""
    anomalies_per_batch: int | None = None
    """Number of rows in a batch that are labelled anomalies; 0 leaves it to chance. Default: the objective's share."""
    scaling: Scaling | None = None
    """Scaling of the columns. Default: what the objective is made for."""
    members: int = 1
    """Number of networks whose scores are averaged."""
    contamination: float | Literal["auto"] = "auto"
    """Share of rows to call anomalies, such as 0.02. auto: the threshold is chosen on held-out labelled anomalies."""
    strict: bool = False
    """Refuse data without a labelled anomaly, instead of fitting without labels."""
    precision: Precision | None = None
    """Precision of weights and scores. Default: double for tables, single for images."""
    device: str = "cpu"
    """cpu, cuda, ..."""

    def __post_init__(self) -> None:
        for name, (range_, holds) in RANGES.items():
            value = getattr(self, name)
            if not holds(value) and (value is not None or getattr(Settings, name) is not None):
                raise OptionError(f"{name} must be {range_}; got {value!r}.")

    @property
    def dtype(self) -> "torch.dtype":
        """Dtype of weights and scores."""
        import torch

        return torch.float32 if self.precision == "single" else torch.float64


Range = tuple[str, Callable[[object], bool]]
"""Range in words, and a test of a value; an option whose default is None may also be None."""


def _whole(least: int) -> Range:
    return f"a whole number of at least {least}", lambda value: hasattr(value, "__index__") and _number(value) >= least


def _number(value: object) -> float:
    """Return a finite number, or NaN, which is in no range."""
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
