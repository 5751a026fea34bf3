"""Training of a blend's members: on all rows, and on folds, for their evidence on held-out rows."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import softmax

from imbsam.errors import DataError, DataWarning
from imbsam.estimators.deciding import DecidingClassifier
from imbsam.estimators.evidence import Classifier, Floats, evidence_of, implied_priors, votes_of
from imbsam.estimators.folds import MANY_ROWS, Fold
from imbsam.estimators.members import Member, Setting
from imbsam.estimators.views import Matrix, Rows, View
from imbsam.notebook.progress import Progress


@dataclass(frozen=True)
class Judged:
    """Evidence on training rows by models that did not see them.

    Args:
        rows: Indices of the rows, shape ``(n,)``.
        evidence: Evidence, shape ``(n, C)``.
    """

    rows: NDArray[np.int64]
    evidence: Floats

    def at(self, rows: NDArray[np.int64]) -> Floats:
        """Return the evidence on some of the rows, in their order."""
        order = self.rows.argsort()
        return self.evidence[order[np.searchsorted(self.rows[order], rows)]]


@dataclass(frozen=True)
class Model:
    """Trained member.

    Args:
        name: Name of the member.
        view: View of the table that it reads.
        classifier: Classifier trained on classes ``0 .. C-1``.
        priors: Class priors of its probabilities, shape ``(C,)``.
        votes: Number of votes that they are based on.
    """

    name: str
    view: View
    classifier: Classifier
    priors: Floats
    votes: int

    @classmethod
    def of(cls, member: Member, classifier: Classifier, counts: NDArray[np.int64]) -> "Model":
        """Find the priors and the votes of a classifier's probabilities.

        Args:
            member: Member of the blend.
            classifier: Fitted classifier.
            counts: Its training rows of each class, shape ``(C,)``.
        """
        if isinstance(classifier, DecidingClassifier):
            priors = softmax(-classifier.posterior_.shift.numpy())
        else:
            priors = implied_priors(classifier, counts)
        return cls(member.name, member.view, classifier, priors, votes_of(classifier, int(counts.sum())))

    def evidence(self, given: Matrix | pd.DataFrame) -> Floats:
        """Compute the evidence for each class: ``log p(y | x) - log prior(y)``, shape ``(N, C)``.

        Raises:
            DataError: If the classifier returns an invalid probability.
        """
        if isinstance(self.classifier, DecidingClassifier):
            return np.asarray(self.classifier.evidence(given))
        return self.of_probabilities(self.classifier.predict_proba(given))

    def of_probabilities(self, probabilities: Floats) -> Floats:
        """Compute the evidence from the classifier's probabilities."""
        if probabilities.shape[1:] != self.priors.shape or not np.isfinite(probabilities).all():
            raise DataError(f"it did not give a probability for each of the {len(self.priors)} classes.")
        return evidence_of(probabilities, self.priors, votes=self.votes)


def evidence_of_all(models: Sequence[Model], rows: Rows, *, n_jobs: int | None) -> list[Floats]:
    """Compute the evidence of all members, ``n_jobs`` at the same time, each of shape ``(N, C)``."""
    given = {model.view: rows.of(model.view) for model in models}
    asked = (delayed(model.evidence)(given[model.view]) for model in models)
    return list(Parallel(n_jobs=n_jobs, require="sharedmem")(asked))


def trained(
    members: Sequence[Member],
    rows: Rows,
    targets: NDArray[np.int64],
    folds: Sequence[Fold],
    setting: Setting,
    *,
    verbose: bool,
) -> tuple[list[tuple[Model, Judged]], dict[str, str]]:
    """Train every member on every fold, and on all rows.

    With one fold, its model is kept as the member. A forest on not too many rows is scored by its out-of-bag trees.

    Args:
        members: Members to train.
        rows: Training rows.
        targets: Classes of the rows, ``0 .. C-1``, each at least once.
        folds: Parts of the rows.
        setting: Data and device that members are made for; each model gets a seed of its own.
        verbose: Report each model that is trained.

    Returns:
        The members that could be trained, and the errors of the others by name.
    """
    everything = Fold(np.arange(len(rows)), np.arange(0))
    on_folds = [*folds, everything] if len(folds) > 1 else folds
    seeds = iter(np.random.SeedSequence(setting.seed).generate_state(len(members) * len(on_folds)) % 2**31)
    tasks = [
        (
            member,
            fold,
            replace(setting, rows=len(fold.train), rarest=_rarest(targets[fold.train]), seed=int(next(seeds))),
        )
        for member in members
        for fold in ([everything] if member.has_bags and len(rows) <= MANY_ROWS else on_folds)
    ]
    with warnings.catch_warnings(), Progress(len(tasks), shown=verbose) as progress:
        # What there is to say of the rows has been said of all of them.
        warnings.simplefilter("ignore", DataWarning)
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        done = Parallel(n_jobs=setting.n_jobs, require="sharedmem")(
            delayed(_attempt)(member, rows, targets, fold, its, progress) for member, fold, its in tasks
        )
    succeeded, failed = [], {}
    for member in members:
        found = _together([result for (whose, _, _), result in zip(tasks, done, strict=True) if whose is member])
        if isinstance(found, str):
            failed[member.name] = found
        else:
            succeeded.append(found)
    return succeeded, failed


def _rarest(targets: NDArray[np.int64]) -> int:
    return int(np.bincount(targets).min())


def _together(results: Sequence[tuple[Model, Judged] | str]) -> tuple[Model, Judged] | str:
    """Return the last model with the evidence of all models of a member, or why one could not be trained."""
    models, judged = [], []
    for result in results:
        if isinstance(result, str):
            return result
        models.append(result[0])
        judged.append(result[1])
    rows, evidence = (np.concatenate([getattr(part, name) for part in judged]) for name in ("rows", "evidence"))
    return models[-1], Judged(rows, evidence)


def _attempt(
    member: Member, rows: Rows, targets: NDArray[np.int64], fold: Fold, setting: Setting, progress: Progress
) -> tuple[Model, Judged] | str:
    """Return a model and its evidence on held-out rows, or why there is none."""
    began = time.perf_counter()
    try:
        classifier = member.make(setting)
        given = (rows if len(fold.train) == len(rows) else rows[fold.train]).of(member.view)
        judges_by_bags = member.has_bags and not len(fold.held)
        if judges_by_bags:
            classifier.set_params(oob_score=True)
        classifier.fit(given, targets[fold.train])
        if member.has_bags:
            # Threads add the trees' probabilities in any order, and the last bit hangs on it.
            classifier.set_params(n_jobs=None)
        model = Model.of(member, classifier, np.bincount(targets[fold.train], minlength=len(setting.labels)))
        judged = _by_bags(model) if judges_by_bags else _held_out(model, rows, fold)
    except Exception as error:  # any: a member that fails is left out
        return f"{type(error).__name__}: {error}"
    progress.tell(f"{member.name}: {len(fold.train)} rows, {time.perf_counter() - began:.1f} s")
    return model, judged


def _held_out(model: Model, rows: Rows, fold: Fold) -> Judged:
    if not len(fold.held):
        return Judged(fold.held, np.empty((0, len(model.priors))))
    return Judged(fold.held, model.evidence(rows[fold.held].of(model.view)))


def _by_bags(model: Model) -> Judged:
    """Return a forest's out-of-bag evidence on the training rows, without rows that all trees saw."""
    # Taken away from the forest, so that they are not pickled with it.
    probabilities: Floats = vars(model.classifier).pop("oob_decision_function_")
    places = np.flatnonzero(probabilities.sum(axis=1) > 0)
    return Judged(places, model.of_probabilities(probabilities[places]))
