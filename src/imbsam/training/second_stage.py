"""Record of how the classifier of a run was retrained, and of what its outputs mean since."""

from dataclasses import dataclass

from imbsam.config import How
from imbsam.storage.records import Text


@dataclass(frozen=True)
class SecondStage:
    """Content of ``second-stage.json``: what was done to the last layer of a trained network.

    Whatever the loss of the first stage was, the outputs count as logits of the posterior under balanced class priors.
    After ``crt`` they are exactly that, by cross-entropy on classes drawn equally often. After ``tau-norm`` and
    ``smoothed`` no closed form is known; both are meant for a plain argmax with all classes alike, which corresponds to
    balanced priors. The calibration on validation data then removes what remains of the training frequencies from
    probabilities and decisions, as its weight of the priors is free.

    Args:
        of: Name of the first stage's folder.
        how: Way in which the classifier was retrained.
        epochs: Number of epochs trained; 0 where nothing is trained.
        lr: Learning rate of the first step; None where nothing is trained.
        tau: Tau of tau-norm, else None.
        scale: Factor on the outputs besides the scale of the loss. Tau-norm and smoothing change the spread of the
            logits but not their meaning; this factor restores the spread of the first stage.
    """

    of: Text
    how: How
    epochs: int
    lr: float | None
    tau: float | None
    scale: float = 1.0

    def told(self) -> str:
        """Describe what was done in one sentence."""
        return f"the classifier of the run {self.of} was retrained by {self._how()}; all other weights are unchanged."

    def _how(self) -> str:
        if self.how == "tau-norm":
            return f"tau-norm, tau {self.tau:g}"
        kind = "label smoothing of 0.98" if self.how == "smoothed" else "classes drawn equally often"
        return f"{self.how}, {self.epochs} epochs with {kind}, learning rate {self.lr:g}"
