"""Start of the perturbation in a run: not before its share of the steps, nor before the tail is learned."""

from collections.abc import Iterable

from imbsam import data
from imbsam.optim import SharpnessAware
from imbsam.training import setup

NEVER = 2**62
"""Number of steps that no run makes."""

UNPERTURBED = "The weights were never perturbed"
"""Beginning of the note on a run whose tail was not learned in time."""


def unperturbed(notes: Iterable[str]) -> list[str]:
    """Return the notes of a run that say that its weights were never perturbed."""
    return [note for note in notes if note.startswith(UNPERTURBED)]


class Onset:
    """Start of the perturbation, decided after each epoch.

    Args:
        problem: Data and options of the run.
        optimizer: Optimizer of the run, which makes plain steps until the tail is learned.
        steps: Number of steps of an epoch.
    """

    def __init__(self, problem: setup.Problem, optimizer: SharpnessAware, steps: int) -> None:
        self.optimizer = optimizer
        self.earliest = optimizer.sharp_from
        self.steps = steps
        self.epochs = setup.epochs_of(problem.options)
        self.recall = problem.options.method.sharp_recall or 0.0
        """Training recall of the tail to wait for; 0 waits for nothing."""
        train = problem.dataset.train
        self.tail = data.SomeSamples(train, problem.tail[train.targets].nonzero().flatten())
        if not len(self.tail):
            self.recall = 0.0
        if self.recall:
            optimizer.sharp_from = NEVER

    @property
    def waits(self) -> bool:
        """Return whether the steps are plain until the tail is learned."""
        return self.optimizer.sharp_from == NEVER

    def is_due(self, epoch: int) -> bool:
        """Return whether the recall after this epoch, from 1, decides about the steps of the next one."""
        return self.waits and epoch < self.epochs and self.optimizer.steps + self.steps > self.earliest

    def decide(self, recall: float | None) -> int | None:
        """Let the perturbation begin if the tail is learned.

        Args:
            recall: Recall of the tail on its training samples; None if it was not looked at.

        Returns:
            Number of steps after which it begins; None if that is not decided yet, or nothing was waited for.
        """
        if recall is not None and recall >= self.recall:
            self.begin(max(self.earliest, self.optimizer.steps))
        return None if not self.recall or self.waits else self.optimizer.sharp_from

    def begin(self, steps: int | None) -> None:
        """Perturb the weights after these steps, as decided before the run was stopped; None decides nothing."""
        if steps is not None:
            self.optimizer.sharp_from = steps

    def note(self, recall: float | None, base: str) -> list[str]:
        """Say that the perturbation never began, if so.

        Args:
            recall: Recall at the last look; None without one.
            base: Name of the base optimizer.
        """
        if not self.waits:
            return []
        looked_at = "the tail's recall on its own training samples"
        why = (
            f"{looked_at} is looked at after each epoch before the next (--sharp-recall), and no epoch was left"
            if recall is None
            else f"{looked_at} did not reach {100 * self.recall:g} % (--sharp-recall), and was {100 * recall:.1f} % "
            "before the last epoch"
        )
        return [f"{UNPERTURBED}: {why}. So this was a run of {base}."]
