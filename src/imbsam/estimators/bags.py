"""Members of a blend, trained: models of one kind on parts of the rows, and what they say of the rest."""

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
from imbsam.estimators.combine import UNCALIBRATED, Calibration, averaged
from imbsam.estimators.deciding import DecidingClassifier
from imbsam.estimators.evidence import Classifier, Floats, evidence_of, implied_priors, votes_of
from imbsam.estimators.folds import MANY_ROWS, Fold
from imbsam.estimators.members import Member, Setting
from imbsam.estimators.views import Matrix, Rows, View

Judged = tuple[NDArray[np.int64], Floats]
"""Training rows that a model did not see, by index, and its evidence on them, shape ``(n, C)``."""


@dataclass(frozen=True)
class Model:
    """A trained classifier.

    Args:
        classifier: Trained on classes ``0 .. C-1``.
        priors: Under which its probabilities are told, shape ``(C,)``.
        votes: On which they rest.
    """

    classifier: Classifier
    priors: Floats
    votes: int

    @classmethod
    def of(cls, classifier: Classifier, counts: NDArray[np.int64]) -> "Model":
        """Find what a classifier's probabilities mean.

        Args:
            classifier: Fitted.
            counts: Its training rows of each class, shape ``(C,)``.
        """
        if isinstance(classifier, DecidingClassifier):
            return cls(classifier, softmax(-classifier.posterior_.shift.numpy()), int(counts.sum()))
        return cls(classifier, implied_priors(classifier, counts), votes_of(classifier, int(counts.sum())))

    def evidence(self, given: Matrix | pd.DataFrame) -> Floats:
        """What speaks for each class: ``log p(y | x) - log prior(y)``, shape ``(N, C)``.

        Raises:
            DataError: If it gives a probability that is none.
        """
        if isinstance(self.classifier, DecidingClassifier):
            return np.asarray(self.classifier.evidence(given))
        return self.of_probabilities(self.classifier.predict_proba(given))

    def of_probabilities(self, probabilities: Floats) -> Floats:
        """The same, of probabilities that it gave."""
        if probabilities.shape[1:] != self.priors.shape or not np.isfinite(probabilities).all():
            raise DataError(f"it gave no probability for each of the {len(self.priors)} classes.")
        return evidence_of(probabilities, self.priors, votes=self.votes)


@dataclass(frozen=True)
class Bag:
    """One member, trained.

    Args:
        name: Of the member.
        view: What its models read.
        models: Alike, on different parts of the rows; their posteriors are averaged.
        calibration: Of each.
    """

    name: str
    view: View
    models: tuple[Model, ...]
    calibration: Calibration = UNCALIBRATED


def balanced(bags: Sequence[Bag], rows: Rows, log_priors: Floats, *, n_jobs: int | None) -> Floats:
    """Ask all bags.

    Args:
        bags: M of them.
        rows: N.
        log_priors: Of the training rows, shape ``(C,)``.
        n_jobs: Models asked at the same time.

    Returns:
        Logarithm of each bag's mean posterior under balanced priors, shape ``(M, N, C)``.
    """
    given = {bag.view: rows.of(bag.view) for bag in bags}
    said = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")(
        delayed(model.evidence)(given[bag.view]) for bag in bags for model in bag.models
    )
    return np.stack([averaged([bag.calibration.balanced(next(said), log_priors) for _ in bag.models]) for bag in bags])


def trained(
    members: Sequence[Member],
    rows: Rows,
    targets: NDArray[np.int64],
    folds: Sequence[Fold],
    setting: Setting,
    *,
    verbose: bool,
) -> tuple[list[tuple[Bag, Judged]], dict[str, str]]:
    """Train every member on every fold.

    Args:
        members: Which.
        rows: Training rows.
        targets: Classes of the rows, ``0 .. C-1``, all of which are there.
        folds: Parts of the rows.
        setting: What members are made for; each model gets a seed of its own.
        verbose: Print a line a model.

    Returns:
        The members that could be trained, each with the evidence of its models on rows that they did not see; and why
        not, by name, of the others.
    """
    everything = Fold(np.arange(len(rows)), np.arange(0))
    has_bags = len(rows) <= MANY_ROWS
    seeds = np.random.SeedSequence(setting.seed).generate_state(len(members) * len(folds)) % 2**31
    tasks = [
        (member, fold, replace(setting, rows=len(fold.train), seed=int(seeds[len(folds) * m + k])))
        for m, member in enumerate(members)
        for k, fold in enumerate(folds if member.is_bagged or not has_bags else [everything])
    ]
    with warnings.catch_warnings():
        # What there is to say of the rows has been said of all of them.
        warnings.simplefilter("ignore", DataWarning)
        warnings.filterwarnings("ignore", "Some inputs do not have OOB scores")
        done = Parallel(n_jobs=setting.n_jobs, require="sharedmem")(
            delayed(_attempt)(member, rows, targets, fold, its, verbose) for member, fold, its in tasks
        )
    bags, failed = [], {}
    for member in members:
        results = [result for (whose, _, _), result in zip(tasks, done, strict=True) if whose is member]
        reasons = [result for result in results if isinstance(result, str)]
        if reasons:
            failed[member.name] = reasons[0]
            continue
        bag = Bag(member.name, member.view, tuple(model for model, _ in results))
        places, evidence = zip(*(judged for _, judged in results), strict=True)
        bags.append((bag, (np.concatenate(places), np.concatenate(evidence))))
    return bags, failed


def _attempt(
    member: Member, rows: Rows, targets: NDArray[np.int64], fold: Fold, setting: Setting, verbose: bool
) -> tuple[Model, Judged] | str:
    """A model, and what it says of rows that it did not see; or why there is none."""
    began = time.perf_counter()
    try:
        classifier = member.make(setting)
        part = rows if len(fold.train) == len(rows) else rows[fold.train]
        has_own_bags = not member.is_bagged and not len(fold.held)
        if has_own_bags:
            classifier.set_params(oob_score=True)
        classifier.fit(part.of(member.view), targets[fold.train])
        if not member.is_bagged:
            # Threads add the trees' probabilities in any order, and the last bit hangs on it.
            classifier.set_params(n_jobs=None)
        model = Model.of(classifier, np.bincount(targets[fold.train], minlength=len(setting.labels)))
        judged = _out_of_bag(model) if has_own_bags else _held_out(model, rows[fold.held].of(member.view), fold)
    except Exception as error:  # any: a member that fails is left out
        return f"{type(error).__name__}: {error}"
    if verbose:
        print(f"{member.name}: {len(fold.train)} rows, {time.perf_counter() - began:.1f} s")
    return model, judged


def _held_out(model: Model, given: Matrix | pd.DataFrame, fold: Fold) -> Judged:
    return fold.held, model.evidence(given) if len(fold.held) else np.empty((0, len(model.priors)))


def _out_of_bag(model: Model) -> Judged:
    """What a forest says of each training row by the trees that did not see it; not of rows that all trees saw."""
    # Taken away from the forest, so that they are not pickled with it.
    probabilities: Floats = vars(model.classifier).pop("oob_decision_function_")
    places = np.flatnonzero(probabilities.sum(axis=1) > 0)
    return places, model.of_probabilities(probabilities[places])
