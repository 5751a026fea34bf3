"""Members of a blend, trained: models of one kind on parts of the rows, and what they say of the rest."""

import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy.special import log_softmax, logsumexp

from imbsam.errors import DataError, DataWarning
from imbsam.estimators.deciding import DecidingClassifier
from imbsam.estimators.evidence import (
    Classifier,
    Floats,
    evidence_of,
    implied_priors,
    votes_of,
)
from imbsam.estimators.folds import MANY_ROWS, Fold
from imbsam.estimators.members import Member, Setting
from imbsam.estimators.views import Matrix, Rows, View


@dataclass(frozen=True)
class Model:
    """A trained classifier.

    Args:
        classifier: Trained on classes ``0 .. C-1``.
        priors: Under which its probabilities are told.
        votes: On which they rest.
    """

    classifier: Classifier
    priors: Floats
    votes: int

    def log_posterior(self, given: Matrix | pd.DataFrame) -> Floats:
        """Logarithm of its posterior under balanced priors, shape ``(N, C)``.

        Raises:
            DataError: If it gives a probability that is none.
        """
        if isinstance(self.classifier, DecidingClassifier):
            return np.asarray(log_softmax(self.classifier.evidence(given), axis=1))
        return self.normalised(self.classifier.predict_proba(given))

    def normalised(self, probabilities: Floats) -> Floats:
        """The same, of probabilities that it gave."""
        if probabilities.shape[1:] != self.priors.shape or not np.isfinite(probabilities).all():
            raise DataError(f"it gave no probability for each of the {len(self.priors)} classes.")
        return np.asarray(log_softmax(evidence_of(probabilities, self.priors, votes=self.votes), axis=1))


@dataclass(frozen=True)
class Bag:
    """One member, trained.

    Args:
        name: Of the member.
        view: What its models read.
        models: Alike, on different parts of the rows; their posteriors are averaged.
        held_out: What they say of training rows that they did not see, shape ``(N, C)``; NaN for other rows.
    """

    name: str
    view: View
    models: tuple[Model, ...]
    held_out: Floats


def log_posteriors(bags: Sequence[Bag], rows: Rows, *, n_jobs: int | None) -> Floats:
    """Give the logarithm of each bag's mean posterior under balanced priors, shape ``(M, N, C)``."""
    given = {bag.view: rows.of(bag.view) for bag in bags}
    said = Parallel(n_jobs=n_jobs, require="sharedmem", return_as="generator")(
        delayed(model.log_posterior)(given[bag.view]) for bag in bags for model in bag.models
    )
    means = []
    for bag in bags:
        logs = [next(said) for _ in bag.models]
        means.append(logsumexp(logs, axis=0) - np.log(len(logs)))
    return np.stack(means)


def trained(
    members: Sequence[Member],
    rows: Rows,
    targets: NDArray[np.int64],
    folds: Sequence[Fold],
    setting: Setting,
    *,
    verbose: bool,
) -> tuple[list[Bag], dict[str, str]]:
    """Train every member on every fold.

    Args:
        members: Which.
        rows: Training rows.
        targets: Classes of the rows, ``0 .. C-1``, all of which are there.
        folds: Parts of the rows.
        setting: What members are made for; each model gets a seed of its own.
        verbose: Print a line a model.

    Returns:
        The members that could be trained, and why not, by name, of the others.
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
        held_out = np.full((len(rows), len(setting.labels)), np.nan)
        for _, places, said in results:
            held_out[places] = said
        bags.append(Bag(member.name, member.view, tuple(model for model, _, _ in results), held_out))
    return bags, failed


def _attempt(
    member: Member, rows: Rows, targets: NDArray[np.int64], fold: Fold, setting: Setting, verbose: bool
) -> tuple[Model, NDArray[np.int64], Floats] | str:
    """A model, the rows that it did not see, and what it says of them; or why there is none."""
    began = time.perf_counter()
    try:
        classifier = member.make(setting)
        part = rows if len(fold.train) == len(rows) else rows[fold.train]
        counts = np.bincount(targets[fold.train], minlength=len(setting.labels))
        bagging = not member.is_bagged and not len(fold.held)
        if bagging:
            classifier.set_params(oob_score=True)
        classifier.fit(part.of(member.view), targets[fold.train])
        model = Model(classifier, implied_priors(classifier, counts), votes_of(classifier, len(fold.train)))
        if not member.is_bagged:
            # Threads add the trees' probabilities in any order, and the last bit hangs on it.
            classifier.set_params(n_jobs=None)
        if bagging:
            places, said = _out_of_bag(model)
        else:
            places = fold.held
            said = model.log_posterior(rows[places].of(member.view)) if len(places) else np.empty((0, len(counts)))
    except Exception as error:  # any: a member that fails is left out
        return f"{type(error).__name__}: {error}"
    if verbose:
        print(f"{member.name}: {len(fold.train)} rows, {time.perf_counter() - began:.1f} s")
    return model, places, said


def _out_of_bag(model: Model) -> tuple[NDArray[np.int64], Floats]:
    """What a forest says of each training row by the trees that did not see it; not of rows that all trees saw."""
    # Taken away from the forest, so that they are not pickled with it.
    probabilities: Floats = vars(model.classifier).pop("oob_decision_function_")
    places = np.flatnonzero(probabilities.sum(axis=1) > 0)
    return places, model.normalised(probabilities[places])
