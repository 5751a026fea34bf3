"""A classifier for tables with rare classes that blends a network, gradient boosting and a forest."""

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import ClassVar, Literal, Self, cast

import numpy as np
import pandas as pd
import torch
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from imbsam.decisions import ClassPrior, posterior_under
from imbsam.errors import DataWarning
from imbsam.estimators.blended import Blended, blended, given_weights
from imbsam.estimators.deciding import AtLeast, Costs, DecidingClassifier, check_decisions
from imbsam.estimators.evidence import Classifier, Floats
from imbsam.estimators.members import MemberSpec, Setting, member_of, names_of
from imbsam.estimators.shown import Facts
from imbsam.estimators.tables import (
    CategoricalFeatures,
    checked_rows,
    checked_training,
    encoded_rows,
    learnt_columns,
)
from imbsam.estimators.views import Reading
from imbsam.notebook.tables import Share, table
from imbsam.priors import ClassPriors

BLOCK = 65536
"""Largest number of rows read and scored at once."""

CELLS = 2**25
"""Approximate largest number of rows times classes scored at once."""


class BlendClassifier(DecidingClassifier):
    """Classifier for tables with rare classes that blends several different classifiers.

    A network, gradient boosting, a random forest and a logistic regression err on different rows. Each is converted to
    the same class priors; the logarithms of their posteriors are summed, with weights that are fitted on held-out rows.

    By default a decision treats all classes as equally important, while probabilities are those under the class
    frequencies of the training rows. So the predicted class need not be the one with the highest probability.

    Args:
        members: Names or pairs ``(name, classifier)``. A name is one of :data:`imbsam.optim.METHODS`, for a
            :class:`SharpClassifier` trained by this method, or ``"boosting"``, ``"forest"`` or ``"logistic"``
            (scikit-learn), or, if installed, ``"catboost"``, ``"lightgbm"`` or ``"xgboost"``. A classifier is any
            scikit-learn classifier with ``predict_proba``. It gets a dense float32 matrix of standardised and filled
            numbers and a 0/1 column for each frequent category, and classes ``0 .. C-1``.
        weights: ``"auto"`` for weights fitted on out-of-fold predictions, which stay near equal where a class has few
            of them; ``"equal"``; or a number for each member, in their order.
        class_prior: Class frequencies for probabilities and decisions. With None, probabilities use those of the
            training rows, and decisions treat the classes as equally frequent. ``"training"`` or ``"balanced"`` holds
            for both; so does a frequency for each class, by label or in the order of ``classes_``.
        cost: Cost of missing a row of a class, by its label, 1 for the others; decisions have the least expected cost
            under the prior of the probabilities.
        at_least: Recall or precision that classes have to reach, such as ``{"recall": {label: 0.9}}``. The thresholds
            are found on held-out training rows, and ``prices_`` says what other classes pay.
        folds: Number of parts of the rows; every part is scored by a model trained on the others, and then each member
            is trained on all rows. Above 20,000 rows only one part is held out, and not trained on.
        categorical_features: ``"auto"`` for the columns of a data frame that contain neither numbers nor dates; or
            names, positions, or a boolean mask of the categorical columns.
        random_state: Integer for results that repeat bit for bit on the same machine.
        n_jobs: Number of models to train or evaluate at the same time, in threads; None is 1, and -1 the number of
            cores.
        verbose: Print a line for each model; in a notebook show a bar and the last line.
        device: Device of networks: ``"cpu"``, ``"cuda"``, ...

    Attributes:
        classes_: Labels, shape ``(C,)``, sorted.
        n_features_in_: Number of features seen in ``fit``.
        feature_names_in_: Their names, where all are texts.
        priors_: :class:`~imbsam.ClassPriors` of the training rows.
        members_: Names of the members that were trained.
        failed_: Error of each member that could not be trained, by name.
        weights_: Share of each member, by name; they sum to 1.
        scores_: Balanced accuracy of each member and of ``"blend"`` on held-out training rows; empty if every class has
            one row.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(n_samples=300, weights=[0.95], random_state=0)
        >>> classifier = BlendClassifier(("forest", "logistic"), random_state=0).fit(X, y)
        >>> classifier.members_
        ['forest', 'logistic']
        >>> classifier.predict_proba(X[:5]).shape
        (5, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = {
        "members": ["array-like"],
        "weights": [StrOptions({"auto", "equal"}), "array-like"],
        "class_prior": [None, StrOptions({"training", "balanced"}), dict, "array-like"],
        "cost": [None, dict],
        "at_least": [None, dict],
        "folds": [Interval(Integral, 2, None, closed="left")],
        "categorical_features": [StrOptions({"auto"}), "array-like"],
        "random_state": ["random_state"],
        "n_jobs": [None, Integral],
        "verbose": ["boolean"],
        "device": [str],
    }

    members_: list[str]
    failed_: dict[str, str]
    weights_: dict[str, float]
    scores_: dict[str, float]
    _blended: Blended
    _reading: Reading

    def __init__(
        self,
        members: Sequence[MemberSpec] = ("imbsam", "boosting", "forest", "logistic"),
        *,
        weights: Literal["auto", "equal"] | Sequence[float] = "auto",
        class_prior: ClassPrior = None,
        cost: Costs = None,
        at_least: AtLeast = None,
        folds: int = 5,
        categorical_features: CategoricalFeatures = "auto",
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: bool = False,
        device: str = "cpu",
    ) -> None:
        self.members = members
        self.weights = weights
        self.class_prior = class_prior
        self.cost = cost
        self.at_least = at_least
        self.folds = folds
        self.categorical_features = categorical_features
        self.random_state = random_state
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.device = device

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return the parameters; with ``deep`` also those of members given as pairs, as ``NAME__PARAMETER``."""
        params: dict[str, object] = super().get_params(deep=False)
        for name, member in self._pairs().items() if deep else ():
            params[name] = member
            params |= {f"{name}__{key}": value for key, value in member.get_params(deep=True).items()}
        return params

    def set_params(self, **params: object) -> Self:
        """Set parameters by the names of :meth:`get_params`; a member's name replaces its classifier."""
        if "members" in params:
            self.members = cast(Sequence[MemberSpec], params.pop("members"))
        replaced = {name: cast(Classifier, params.pop(name)) for name in self._pairs() if name in params}
        if replaced:
            self.members = [
                spec if isinstance(spec, str) else (spec[0], replaced.get(spec[0], spec[1])) for spec in self.members
            ]
        super().set_params(**params)
        return self

    def _pairs(self) -> dict[str, Classifier]:
        members = self.members if isinstance(self.members, tuple | list) else ()
        pairs = [spec for spec in members if isinstance(spec, tuple | list) and len(spec) == 2]
        return {name: member for name, member in pairs if hasattr(member, "get_params")}

    def fit(self, X: object, y: object) -> Self:
        """Train the members, and find their weights.

        Args:
            X: Array-like ``(N, F)`` or data frame. NaN is a missing value.
            y: Labels ``(N,)``, numbers or texts, of at least two classes.

        Returns:
            The estimator.

        Raises:
            DataError: If there is only one class, or no member could be trained.
            ValueError: If the data or a parameter cannot be used.
        """
        self._validate_params()
        members = [member_of(spec) for spec in self.members]
        names = names_of(members, list(super().get_params(deep=False)))
        shares = given_weights(self.weights, names)
        texts = not isinstance(self.categorical_features, str)
        frame, labels = checked_training(self, X, y, texts=texts, reset=True)
        self.classes_, places = self._numbered(labels)
        classes, targets = self.classes_.tolist(), places.numpy()
        self.priors_ = ClassPriors.from_targets(places, len(classes))
        log_priors = self.priors_.log_priors
        base = posterior_under(self.class_prior, self.priors_, classes, training_shift=log_priors)
        check_decisions(self.cost, self.at_least, classes)
        seed = int(check_random_state(self.random_state).randint(2**31))
        columns = learnt_columns(frame, self.categorical_features)
        self._reading, rows = Reading.learnt(encoded_rows(frame, columns).numpy(), columns)
        setting = Setting(
            classes,
            len(rows),
            int(self.priors_.counts.min()),
            self._reading.cardinalities,
            seed,
            self.device,
            self.n_jobs,
        )
        found = blended(members, rows, targets, setting, folds=int(self.folds), weights=shares, verbose=self.verbose)
        if found.failed:
            reasons = found.failures()
            warnings.warn(f"members that could not be trained were left out. {reasons}", DataWarning, stacklevel=2)
        self._blended, self.failed_, self.scores_ = found, dict(found.failed), dict(found.held_out.scores)
        self.members_ = [model.name for model in found.models]
        self.weights_ = dict(zip(self.members_, found.pool.shares.tolist(), strict=True))
        held_out = torch.from_numpy(found.held_out.evidence), torch.from_numpy(found.held_out.targets)
        self._note_posterior(base, *held_out, is_calibrated=True)
        return self

    def _facts(self) -> Facts:
        failed = [(f"{name} was left out", reason) for name, reason in self.failed_.items()]
        return [("members", ", ".join(self.members_)), *failed]

    def _fitted_html(self) -> str:
        rows = [(n, Share(self.weights_.get(n)), Share(self.scores_.get(n))) for n in (*self.members_, "blend")]
        members = table("Members", ["", "weight", "balanced accuracy, unseen training rows"], rows)
        return super()._fitted_html() + members

    def _outputs(self, X: object) -> Tensor:
        check_is_fitted(self, "posterior_")
        frame = checked_rows(self, X, texts=bool(self._reading.columns.categorical))
        size = min(BLOCK, max(1, CELLS // len(self.classes_)))
        starts = range(0, len(frame), size)
        return torch.from_numpy(np.concatenate([self._block(frame.iloc[start : start + size]) for start in starts]))

    def _block(self, frame: pd.DataFrame) -> Floats:
        rows = self._reading.rows(frame)
        with warnings.catch_warnings():
            # What there is to say of the rows has been said when they were read.
            warnings.simplefilter("ignore", DataWarning)
            return self._blended.evidence(rows, n_jobs=self.n_jobs)
