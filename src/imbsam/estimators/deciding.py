"""Interface of a classifier whose probabilities and decisions follow named class priors."""

from collections.abc import Mapping, Sequence
from typing import Literal, Self, cast

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from imbsam.decisions import ClassPrior, Posterior, Price, Wanted, posterior_under, prices, wanted_weights
from imbsam.errors import DataError, OptionError
from imbsam.estimators.shown import Facts, data_facts, decision_facts
from imbsam.notebook.tables import facts
from imbsam.priors import ClassPriors

Costs = Mapping[object, float] | None
AtLeast = Mapping[Literal["recall", "precision"], Mapping[object, float]] | None


class DecidingClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Base class of our classifiers: ``predict`` and similar methods, from outputs ``(N, C)`` and a posterior.

    Attributes:
        posterior_: :class:`~imbsam.decisions.Posterior`, from outputs to probabilities and decisions.
        prices_: Recall and precision of each class of ``at_least`` on held-out rows, and what the others pay.
    """

    classes_: "np.ndarray"
    priors_: ClassPriors
    posterior_: Posterior
    prices_: tuple[Price, ...]
    class_prior: ClassPrior
    cost: Costs
    at_least: AtLeast
    _held_out: tuple[Tensor, Tensor]

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags

    def decision_function(self, X: object) -> "np.ndarray":
        """Compute the score of each class, in logits; ``predict`` returns the class with the highest.

        Args:
            X: Rows as in ``fit``.

        Returns:
            Scores, shape ``(N, C)``; with two classes ``(N,)``, the second class's minus the first one's.
        """
        scores = self._posterior().scores(self._outputs(X))
        return np.asarray(scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 else scores)

    def predict_proba(self, X: object) -> "np.ndarray":
        """Compute the probability of each class under ``class_prior``, by default that of the training rows.

        Args:
            X: Rows as in ``fit``.

        Returns:
            Array of shape ``(N, C)``, columns in the order of ``classes_``.
        """
        return np.asarray(self._posterior().log_probabilities(self._outputs(X)).exp())

    def predict_log_proba(self, X: object) -> "np.ndarray":
        """Compute the natural logarithm of :meth:`predict_proba`, exact where that is 0.

        Args:
            X: Rows as in ``fit``.

        Returns:
            Array of shape ``(N, C)``.
        """
        return np.asarray(self._posterior().log_probabilities(self._outputs(X)))

    def predict(self, X: object) -> "np.ndarray":
        """Predict the label of each row, by default the most probable if all classes were equally frequent.

        Args:
            X: Rows as in ``fit``.

        Returns:
            Labels, shape ``(N,)``; ties go to the first class.
        """
        places = self._posterior().scores(self._outputs(X)).argmax(dim=1).numpy()
        return np.asarray(self.classes_[places])

    def decide(
        self,
        class_prior: ClassPrior = None,
        *,
        cost: Costs = None,
        at_least: AtLeast = None,
        X: object = None,
        y: object = None,
    ) -> Self:
        """Change probabilities and decisions of the fitted classifier, without training again.

        Args:
            class_prior: See the parameter of this name.
            cost: See the parameter of this name.
            at_least: See the parameter of this name.
            X: Rows to find the thresholds of ``at_least`` on, not used in training; by default those that ``fit`` held
                out.
            y: Labels of these rows.

        Returns:
            The estimator.

        Raises:
            OptionError: If something cannot be used or reached; the classifier is then unchanged.
        """
        held_out = self._held_out if X is None else (self._outputs(X), self._targets(y))
        found, paid = self._decided(self._posterior(), held_out, class_prior, cost, at_least)
        self.posterior_, self.prices_ = found, paid
        self.class_prior, self.cost, self.at_least = class_prior, cost, at_least
        return self

    def evidence(self, X: object) -> "np.ndarray":
        """Compute the evidence for each class: the logarithm of its posterior under balanced class priors.

        Args:
            X: Rows as in ``fit``.

        Returns:
            Array of shape ``(N, C)``; ``softmax(evidence + log q)`` is the posterior under class priors q.
        """
        return np.asarray(self._posterior().evidence(self._outputs(X)))

    def _html_repr(self) -> str:
        """Return scikit-learn's diagram of the parameters and, once fitted, a table of the fit, for a notebook."""
        diagram: str = super()._html_repr()
        return diagram + self._fitted_html() if hasattr(self, "posterior_") else diagram

    def _fitted_html(self) -> str:
        found = [
            *data_facts(self.classes_.tolist(), self.priors_),
            *self._facts(),
            *decision_facts(self.class_prior, self.cost, self.at_least),
        ]
        return facts("Fitted", found) + "".join(price._repr_html_() for price in self.prices_)

    def _facts(self) -> Facts:
        """Return names and values of the fit for a notebook."""
        raise NotImplementedError

    def _outputs(self, X: object) -> Tensor:
        """Compute outputs for rows as in ``fit``, shape ``(N, C)``."""
        raise NotImplementedError

    def _posterior(self) -> Posterior:
        check_is_fitted(self, "posterior_")
        return self.posterior_

    def _numbered(self, labels: "np.ndarray") -> tuple["np.ndarray", Tensor]:
        """Return the classes, sorted, and the index of each label's class.

        Raises:
            DataError: If there is only one class.
        """
        classes, targets = np.unique(labels, return_inverse=True)
        if len(classes) < 2:
            raise DataError(f"{type(self).__name__} needs rows of at least 2 classes; y has 1 class: {classes[0]}.")
        return classes, torch.from_numpy(targets.astype(np.int64))

    def _targets(self, y: object) -> Tensor:
        labels = np.asarray(y)
        places = np.searchsorted(self.classes_, labels).clip(max=len(self.classes_) - 1)
        if (self.classes_[places] != labels).any():
            raise OptionError("y has a label that was not in fit.")
        return torch.from_numpy(places.astype(np.int64))

    def _note_posterior(
        self, base: Posterior, outputs: Tensor, targets: Tensor, *, is_calibrated: bool = False
    ) -> None:
        """Calibrate on held-out rows, and set the decisions by the parameters.

        Args:
            base: Posterior that gives scale and shift.
            outputs: Outputs of held-out rows, shape ``(n, C)``; n may be 0.
            targets: Class of each sample, shape ``(n,)``.
            is_calibrated: Whether the outputs are calibrated on these rows already.
        """
        calibrated = base if is_calibrated else base.calibrated(outputs, targets)
        held_out = (outputs, targets)
        self.posterior_, self.prices_ = self._decided(calibrated, held_out, self.class_prior, self.cost, self.at_least)
        self._held_out = held_out

    def _decided(
        self, base: Posterior, held_out: tuple[Tensor, Tensor], class_prior: ClassPrior, cost: Costs, at_least: AtLeast
    ) -> tuple[Posterior, tuple[Price, ...]]:
        classes = cast(Sequence[object], self.classes_.tolist())
        found = posterior_under(
            class_prior,
            self.priors_,
            classes,
            scale=base.scale,
            training_shift=base.shift + base.training,
            costs=_costs(cost, classes),
            calibration=base.calibration,
        )
        wanted = _wanted(at_least, classes)
        if not wanted:
            return found, ()
        outputs, targets = held_out
        if not len(targets):
            raise OptionError(
                "at_least finds its thresholds on held-out rows, and none were held out: give decide() rows X and y."
            )
        before = found.scores(outputs)
        decided = found.weighted(wanted_weights(before, targets, wanted))
        return decided, prices(before, decided.scores(outputs), targets, wanted)


def check_decisions(cost: Costs, at_least: AtLeast, classes: Sequence[object]) -> None:
    """Refuse costs and goals that are not valid, before anything is trained.

    Raises:
        OptionError: If one is not valid; the message names the first.
    """
    _costs(cost, classes)
    _wanted(at_least, classes)


def _costs(cost: Costs, classes: Sequence[object]) -> Tensor | None:
    if cost is None:
        return None
    costs = torch.ones(len(classes), dtype=torch.float64)
    for name, value in cost.items():
        if not 0 < value < float("inf"):
            raise OptionError(f"cost of {name!r} must be above 0 and finite; got {value!r}.")
        costs[_index("cost", name, classes)] = value
    return costs


def _wanted(at_least: AtLeast, classes: Sequence[object]) -> tuple[Wanted, ...]:
    found = []
    for measure, shares in (at_least or {}).items():
        if measure not in ("recall", "precision"):
            raise OptionError(
                f"at_least has recall and precision, for example {{'recall': {{label: 0.9}}}}; got {measure!r}."
            )
        for name, share in shares.items():
            if not 0 < share <= 1:
                raise OptionError(f"at_least: {measure} of {name!r} must lie in (0, 1]; got {share!r}.")
            found.append(Wanted(measure, _index("at_least", name, classes), str(name), share))
    return tuple(found)


def _index(parameter: str, name: object, classes: Sequence[object]) -> int:
    if name not in classes:
        raise OptionError(f"{parameter}: there is no class {name!r}; the classes are {list(classes)[:20]}.")
    return classes.index(name)
