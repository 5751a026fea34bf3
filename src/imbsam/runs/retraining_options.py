"""Options of retraining a run's classifier: their defaults and their limits."""

import dataclasses
from dataclasses import dataclass

from imbsam.config import STRICT, Count, How, NotNegative, Positive, checked
from imbsam.errors import OptionError


@dataclass(frozen=True)
class RetrainingOptions:
    """Second stage: the last layer is made anew, all other weights stay as they are."""

    __pydantic_config__ = STRICT

    how: How = "crt"
    """crt: trained from random weights on classes drawn equally often. tau-norm: weights of each class divided by
    their length to the power of tau, nothing is trained. smoothed: trained on with label smoothing of 0.98, no class
    counts."""
    epochs: Count | None = None
    """Of crt and smoothed: passes over the training data. Default: 10, smoothed 20."""
    lr: Positive | None = None
    """Of crt and smoothed: learning rate of SGD, falling to 0 by a cosine. Default: that of the run, 0.1 where it is of
    another optimizer; smoothed 0.0005."""
    tau: NotNegative | None = None
    """Of tau-norm. Default: the one of 0, 0.1, ..., 2 with the best balanced accuracy on validation data."""

    def check(self) -> None:
        """Refuse options that are not valid.

        Raises:
            OptionError: If an option is out of range or has no effect; the message names it.
        """
        checked(RetrainingOptions, dataclasses.asdict(self))
        if self.how == "tau-norm":
            for name in ("epochs", "lr"):
                if getattr(self, name) is not None:
                    raise OptionError(f"--{name} is of crt and smoothed: --how tau-norm trains nothing.")
        elif self.tau is not None:
            raise OptionError(f"--tau is of tau-norm, and --how {self.how} has none: leave it out.")
