"""Blend of classifiers on encoded rows: trained, and weighted on held-out rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from imbsam.errors import DataError, OptionError
from imbsam.estimators.combine import Pool, balanced_accuracy, fitted_pool
from imbsam.estimators.evidence import Floats
from imbsam.estimators.folds import folds_of
from imbsam.estimators.members import Member, Setting
from imbsam.estimators.trained import Judged, Model, evidence_of_all, trained
from imbsam.estimators.views import Rows


@dataclass(frozen=True)
class HeldOut:
    """Evidence of a blend on held-out training rows.

    Args:
        evidence: Evidence, shape ``(n, C)``.
        targets: Class of each sample, shape ``(n,)``.
        scores: Balanced accuracy of each member, and of ``"blend"``; empty without such rows.
    """

    evidence: Floats
    targets: NDArray[np.int64]
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Blended:
    """Trained blend.

    Args:
        models: Members that could be trained.
        pool: Weights that combine them.
        log_priors: Log priors of the training rows, shape ``(C,)``.
        failed: Error of each member that could not be trained, by name.
        held_out: Evidence on held-out rows.
    """

    models: tuple[Model, ...]
    pool: Pool
    log_priors: Floats
    failed: Mapping[str, str]
    held_out: HeldOut

    def evidence(self, rows: Rows, *, n_jobs: int | None = None) -> Floats:
        """Compute logits of the posterior under balanced class priors, shape ``(N, C)``."""
        return self.pool.evidence(np.stack(evidence_of_all(self.models, rows, n_jobs=n_jobs)), self.log_priors)

    def failures(self) -> str:
        """Describe why members could not be trained; empty if all could."""
        return "; ".join(f"{name}: {reason}" for name, reason in self.failed.items())


def blended(
    members: Sequence[Member],
    rows: Rows,
    targets: NDArray[np.int64],
    setting: Setting,
    *,
    folds: int,
    weights: Mapping[str, float] | None,
    verbose: bool = False,
) -> Blended:
    """Train a blend.

    Args:
        members: Members to train.
        rows: Training rows.
        targets: Classes of the rows, ``0 .. C-1``, each at least once.
        setting: Data and device that members are made for.
        folds: Number of parts of the rows, see :func:`~imbsam.estimators.folds.folds_of`.
        weights: Weight of each member by name; None to fit them.
        verbose: Report each model that is trained.

    Raises:
        DataError: If no member could be trained, or none with a weight.
    """
    parts = folds_of(targets, folds, setting.seed)
    models, failed = trained(members, rows, targets, parts, setting, verbose=verbose)
    if not models or (weights and not any(weights[model.name] for model, _ in models)):
        what = "of weight above 0 " if models else ""
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        raise DataError(f"no member of the blend {what}could be trained. {reasons}")
    counts = np.bincount(targets)
    log_priors = np.log(counts / counts.sum())
    places = _judged(models, counts[targets])
    classes = targets[places]
    said = np.stack([judged.at(places) for _, judged in models])
    names = [model.name for model, _ in models]
    pool = fitted_pool(said, classes, log_priors) if weights is None else Pool(_kept(weights, names))
    together = pool.evidence(said, log_priors)
    named = dict(zip([*names, "blend"], [*said, together], strict=True))
    scores = {name: balanced_accuracy(each, classes) for name, each in named.items()} if len(classes) else {}
    kept = tuple(model for model, _ in models)
    return Blended(kept, pool, log_priors, failed, HeldOut(together, classes, scores))


def given_weights(weights: str | Sequence[float], names: Sequence[str]) -> dict[str, float] | None:
    """Return the weight of each member by name; None if they are to be fitted.

    Raises:
        OptionError: If there is not one number of at least 0 for each, or none is above 0.
    """
    if isinstance(weights, str):
        return None if weights == "auto" else dict.fromkeys(names, 1.0)
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (len(names),) or not (np.isfinite(values) & (values >= 0)).all() or not values.any():
        raise OptionError(f"weights must be a number from 0 for each of {list(names)}, not all 0; got {weights!r}.")
    return dict(zip(names, values.tolist(), strict=True))


def _judged(models: Sequence[tuple[Model, Judged]], of_class: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return held-out rows that every member has scored, and that are not alone in their class."""
    return reduce(np.intersect1d, [judged.rows for _, judged in models], np.flatnonzero(of_class > 1))


def _kept(weights: Mapping[str, float], names: Sequence[str]) -> Floats:
    """Return the weights of the members that could be trained."""
    kept = np.array([weights[name] for name in names])
    return np.asarray(kept / kept.sum())
