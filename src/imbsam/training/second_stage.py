"""How the classifier of a run was made anew, and what its outputs stand for since."""

from dataclasses import dataclass

from imbsam.config import How
from imbsam.storage.records import Text


@dataclass(frozen=True)
class SecondStage:
    """``second-stage.json``: what was done to the last layer of a trained network.

    Whatever loss the first stage had, the outputs count as logits of the posterior under balanced class priors.
    After ``crt`` they are that: cross-entropy on classes drawn equally often. After ``tau-norm`` and ``smoothed`` they
    stand for no prior in closed form: both are meant to be decided by as they come, with all classes alike, and that is
    what balanced priors say. What is left of the training frequencies in them, the calibration on validation data
    takes out of the probabilities and decisions, as its weight of the priors is free.

    Args:
        of: Name of the first stage's folder.
        how: What was done.
        epochs: Trained; 0 where nothing is.
        lr: Learning rate of the first step; None where nothing is trained.
        tau: Tau of tau-norm, else None.
        scale: What outputs are multiplied by beside the scale of the loss. Tau-norm and smoothing change how far
            logits are apart and not what they are to mean: it makes them spread as those of the first stage do.
    """

    of: Text
    how: How
    epochs: int
    lr: float | None
    tau: float | None
    scale: float = 1.0

    def told(self) -> str:
        """What was done, in a sentence."""
        return f"the classifier of the run {self.of} was made anew by {self._how()}; all other weights are that run's."

    def _how(self) -> str:
        if self.how == "tau-norm":
            return f"tau-norm, tau {self.tau:g}"
        kind = "label smoothing of 0.98" if self.how == "smoothed" else "classes drawn equally often"
        return f"{self.how}, {self.epochs} epochs with {kind}, learning rate {self.lr:g}"
