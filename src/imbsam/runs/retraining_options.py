"""Options of retraining a run's classifier: their defaults and their limits."""

import dataclasses
from dataclasses import dataclass

from imbsam.config import STRICT, Count, How, NotNegative, Positive, checked
from imbsam.errors import OptionError


@dataclass(frozen=True)
class RetrainingOptions:
    """Second stage: the last layer is retrained, and all other weights stay fixed."""

    __pydantic_config__ = STRICT

    how: How = "crt"
    """crt: train the last layer from random weights on classes drawn equally often. tau-norm: divide the weights of
    each class by their length to the power of tau; nothing is trained. smoothed: continue training with label smoothing
    of 0.98, without class counts."""
    epochs: Count | None = None
    """crt and smoothed: number of passes over the training data. Default: 10, smoothed 20."""
    lr: Positive | None = None
    """crt and smoothed: learning rate of SGD, which falls to 0 along a cosine. Default: that of the run, or 0.1 if the
    run has another optimizer; smoothed 0.0005."""
    tau: NotNegative | None = None
    """tau-norm: exponent. Default: the value among 0, 0.1, ..., 2 with the best balanced accuracy on validation
    data."""

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
