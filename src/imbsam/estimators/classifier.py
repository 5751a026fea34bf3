"""Classifier for tables with rare classes, with the interface of scikit-learn."""

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from imbsam import data, losses, metrics
from imbsam.config import MethodOptions
from imbsam.data.columns import Columns
from imbsam.data.seeding import generator
from imbsam.data.sources.cells import value_text
from imbsam.data.splits import stratified_split
from imbsam.decisions import ClassPrior, Posterior, posterior_under
from imbsam.decisions.class_prior import shift_of_drawn
from imbsam.errors import DataError, DataWarning, OptionError, PriorsWarning
from imbsam.estimators.deciding import AtLeast, Costs, DecidingClassifier, check_decisions
from imbsam.estimators.learnt import Learnt
from imbsam.estimators.parameters import CONSTRAINTS
from imbsam.estimators.shown import Facts, listed, network_fact
from imbsam.estimators.tables import (
    CategoricalFeatures,
    checked_rows,
    checked_training,
    encoded_rows,
    learnt_columns,
)
from imbsam.estimators.training import Course, History, train
from imbsam.notebook.tables import Share
from imbsam.optim import SharpnessAware, create
from imbsam.priors import ClassPriors
from imbsam.training.defaults import DEFAULTS, tail_classes
from imbsam.training.methods import own_options, rho_of
from imbsam.training.random_numbers import own_random_numbers
from imbsam.training.setup import device_of

BLOCK = 65536
"""Number of rows read and scored at once."""

WEIGHTS, SPLIT = range(2)
"""Random streams beside that of the batches."""


class SharpClassifier(DecidingClassifier):
    """Multilayer perceptron whose rare classes get a flat minimum, by ImbSAM or another method of the library.

    Numbers are standardised by the training rows, dates are read as days, and categories are embedded. A missing number
    is filled by the median, and marked in an extra column if training had missing ones; a missing category is a
    category. Class counts are taken from ``y``: there is no ``class_weight`` to set.

    Args:
        method: Method that decides whose loss is made flat, a name of :data:`imbsam.optim.METHODS`. ``"plain"`` is the
            base optimizer.
        rho: Neighbourhood size. None is 0.05, as for the command's tables, or the method's own default where its rho
            means something else. Not used by ``"plain"``.
        tail: Rule that marks the rare classes: ``"fewer-than=20"``, ``"rarest-classes=0.3"``, ``"rarest-samples=0.1"``
            or ``"classes=A,B"``. ``"auto"`` marks classes with fewer than 20 samples, or the rarest third of the
            classes if that marks none or all; classes that are all equally frequent are all in the tail.
        method_options: Further options of the method by name, see :func:`imbsam.optim.options_of`.
        ascent: Direction of the perturbation, a name of :data:`imbsam.optim.ASCENTS`; None for the method's own.
        ascent_options: Options of the ascent by name, such as ``{"damping": 0.3}``.
        sharp_from: Share of the steps, from 0 to 1, that are plain before the method perturbs the weights (Late SAM).
        perturb: Parameters to perturb: ``"all"``, ``"norms"``, a pattern of names such as ``"out.*"``, or several.
        loss: Loss, a name of :data:`imbsam.losses.LOSSES`.
        loss_options: Options of the loss by name, such as ``{"tau": 1.5}``.
        reweight_from: Share of the epochs after which classes are re-weighted (DRW); None for never.
        class_prior: Assumed class frequencies: ``"training"``, ``"balanced"``, a frequency for each class by its label
            or in the order of ``classes_``, or ``"loss"`` for those that the loss aims at. Probabilities are given
            under them, and the class with the highest probability is predicted. With None, probabilities are given
            under the priors of the training rows, and decisions are made as if all classes were equally frequent, so
            that a rare class counts as much as a frequent one.
        cost: Cost of missing a row of a class, by its label, 1 for the others; decisions have the least expected cost
            under the prior of the probabilities.
        at_least: Recall or precision that classes have to reach, such as ``{"recall": {label: 0.9}}``. The thresholds
            are found on held-out rows, ``validation_fraction`` of each class, and ``prices_`` says what other classes
            pay.
        hidden: Number of units of each hidden layer; empty for a linear model.
        base: Base optimizer of the method: ``"sgd"``, ``"adam"``, ``"adamw"``, ``"rmsprop"``, or ``"muon"``, which is
            Muon for the 2-D weights of hidden layers and AdamW for the rest.
        lr: Learning rate; None is 0.1 for sgd and 0.001 for the others.
        momentum: Momentum of sgd, rmsprop and muon.
        weight_decay: Weight decay of the base optimizer; never part of the perturbation.
        schedule: Schedule of the learning rate after a warm-up of 5 % of the epochs: ``"cosine"``, ``"step"`` or
            ``"constant"``.
        clip_norm: Largest norm of the gradient; None for no bound, with which sgd may diverge on tables of many
            columns.
        max_iter: Number of epochs.
        batch_size: Rows per step; None is a sixteenth of the rows, between 32 and 128.
        sampler: ``"shuffle"`` takes every row once per epoch, ``"balanced"`` every class equally often.
        categorical_features: ``"auto"`` for the columns of a data frame that contain neither numbers nor dates; or
            names, positions, or a boolean mask of the categorical columns.
        early_stopping: Hold out a part of the rows, stratified, stop once its balanced accuracy has not risen for
            ``n_iter_no_change`` epochs, and keep the weights of the best epoch. A class of fewer than three rows stays
            in training.
        validation_fraction: Share of each class that is held out.
        n_iter_no_change: Number of epochs without improvement before early stopping.
        warm_start: Let a further ``fit`` continue from the weights and columns of the last one, for ``max_iter`` more
            epochs; schedule and momentum start again.
        random_state: Integer for results that repeat bit for bit on the same machine. Torch's global random state is
            neither read nor changed.
        device: Device that computes: ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ...; ``"auto"`` is cuda if there is one. The
            fitted model is kept on the CPU.
        verbose: Print a line per epoch; in a notebook show a bar and the last line.

    Attributes:
        classes_: Labels, shape ``(C,)``, sorted.
        n_features_in_: Number of features seen in ``fit``.
        feature_names_in_: Their names, where all are texts.
        priors_: :class:`~imbsam.ClassPriors` of the rows trained on.
        tail_: Labels of the tail classes.
        model_: The network, a torch module.
        posterior_: :class:`~imbsam.decisions.Posterior`, from outputs to probabilities and decisions.
        prices_: Recall and precision of each class of ``at_least``, and what the others pay; empty without
            ``at_least``.
        loss_curve_: Mean training loss of each epoch.
        validation_scores_: Balanced accuracy on the held-out rows after each epoch; None without early stopping.
        best_validation_score_: Balanced accuracy of the epoch whose weights were kept; None without early stopping.
        best_iter_: Epoch whose weights were kept, from 1.
        n_iter_: Number of epochs made, including those of fits continued by ``warm_start``.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(n_samples=300, weights=[0.95], random_state=0)
        >>> classifier = SharpClassifier(max_iter=20, random_state=0).fit(X, y)
        >>> classifier.priors_
        ClassPriors(2 classes, 300 samples, imbalance factor 16.65)
        >>> classifier.tail_
        array([1])
        >>> classifier.predict_proba(X[:5]).shape
        (5, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[object]]] = CONSTRAINTS

    classes_: "np.ndarray"
    model_: nn.Module
    loss_curve_: list[float]
    n_iter_: int
    _learnt: Learnt

    def __init__(
        self,
        method: str = "imbsam",
        *,
        rho: float | None = None,
        tail: str = "auto",
        method_options: Mapping[str, object] | None = None,
        ascent: str | None = None,
        ascent_options: Mapping[str, object] | None = None,
        sharp_from: float = 0.0,
        perturb: str | Sequence[str] = "all",
        loss: str = "logit-adjustment",
        loss_options: Mapping[str, float] | None = None,
        reweight_from: float | None = None,
        class_prior: ClassPrior = None,
        cost: Costs = None,
        at_least: AtLeast = None,
        hidden: tuple[int, ...] = (128, 128),
        base: str = "sgd",
        lr: float | None = None,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        schedule: Literal["cosine", "step", "constant"] = "cosine",
        clip_norm: float | None = 1.0,
        max_iter: int = 100,
        batch_size: int | None = None,
        sampler: Literal["shuffle", "balanced"] = "shuffle",
        categorical_features: CategoricalFeatures = "auto",
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 10,
        warm_start: bool = False,
        random_state: int | np.random.RandomState | None = None,
        device: str = "cpu",
        verbose: bool = False,
    ) -> None:
        self.method = method
        self.rho = rho
        self.tail = tail
        self.method_options = method_options
        self.ascent = ascent
        self.ascent_options = ascent_options
        self.sharp_from = sharp_from
        self.perturb = perturb
        self.loss = loss
        self.loss_options = loss_options
        self.reweight_from = reweight_from
        self.class_prior = class_prior
        self.cost = cost
        self.at_least = at_least
        self.hidden = hidden
        self.base = base
        self.lr = lr
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.schedule = schedule
        self.clip_norm = clip_norm
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.sampler = sampler
        self.categorical_features = categorical_features
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.random_state = random_state
        self.device = device
        self.verbose = verbose

    def fit(self, X: object, y: object) -> Self:
        """Train on rows and their labels.

        Args:
            X: Array-like ``(N, F)`` or data frame. NaN is a missing value.
            y: Labels ``(N,)``, numbers or texts, of at least two classes.

        Returns:
            The estimator.

        Raises:
            ValueError: If the data or a parameter cannot be used.
            NonFiniteError: If the loss became NaN or infinite.
        """
        self._validate_params()
        before = self._learnt if self.warm_start and hasattr(self, "model_") else None
        texts = not isinstance(self.categorical_features, str)
        frame, labels = checked_training(self, X, y, texts=texts, reset=before is None)
        classes, targets = self._classes_of(labels, before)
        seed = int(check_random_state(self.random_state).randint(2**31))
        kept, held = self._split(targets, seed)
        columns = before.columns if before else learnt_columns(frame.iloc[kept], self.categorical_features)
        rows = encoded_rows(frame, columns)
        priors = ClassPriors.from_targets(targets[kept], num_classes=len(classes))
        tail = self._tail_of(priors, classes)
        learnt = self._to_learn(columns, len(classes), before)
        base = self._base_posterior(priors, classes)
        course = self._course(len(kept), seed, self.n_iter_ if before else 0)
        history = self._train(
            learnt,
            course,
            priors,
            tail,
            data.TensorSamples(rows[kept], targets[kept], ()),
            data.TensorSamples(rows[held], targets[held], ()) if len(held) else None,
            base,
            start=self.model_.state_dict() if before else None,
        )
        self._learnt = learnt
        self.classes_, self.priors_, self.tail_ = classes, priors, classes[tail.numpy()]
        self._note(history, course.first_epoch)
        outputs = learnt.outputs(self.model_, rows[held], device_of(self.device))
        self._note_posterior(self._base_posterior(priors, classes, history.best_epoch), outputs, targets[held])
        return self

    def _outputs(self, X: object) -> Tensor:
        check_is_fitted(self, "model_")
        columns = self._learnt.columns
        frame = checked_rows(self, X, texts=bool(columns.categorical))
        device = device_of(self.device)
        blocks = [
            self._learnt.outputs(self.model_, encoded_rows(frame.iloc[start : start + BLOCK], columns), device)
            for start in range(0, len(frame), BLOCK)
        ]
        return torch.cat(blocks)

    def _facts(self) -> Facts:
        found: Facts = [
            ("tail classes", listed(self.tail_.tolist()) or "none"),
            network_fact(self.model_),
            ("training", f"{self.method}, {self.n_iter_} epochs, last loss {self.loss_curve_[-1]:.4g}"),
        ]
        if self.validation_scores_ is not None:
            found += [
                ("weights of epoch", self.best_iter_),
                ("balanced accuracy, held-out rows", Share(self.best_validation_score_)),
            ]
        return found

    def _classes_of(self, labels: "np.ndarray", before: Learnt | None) -> tuple["np.ndarray", Tensor]:
        classes, targets = self._numbered(labels)
        if before and not np.array_equal(classes, self.classes_):
            raise DataError(f"warm_start continues with the classes {self.classes_}; y has {classes}.")
        return classes, targets

    def _split(self, targets: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """Return the indices to train on, and to hold out."""
        fraction = self.validation_fraction if self.early_stopping or self.at_least else 0.0
        kept, held = stratified_split(targets, fraction, generator(seed, SPLIT))
        if self.early_stopping and not len(held):
            warnings.warn(
                "early_stopping has no row to hold out: every class has fewer than 3. Training makes all max_iter "
                "epochs.",
                DataWarning,
                stacklevel=3,
            )
        return kept, held

    def _tail_of(self, priors: ClassPriors, classes: "np.ndarray") -> Tensor:
        with warnings.catch_warnings():
            if self.tail == "auto":
                warnings.simplefilter("ignore", PriorsWarning)
            return tail_classes(self.tail, priors, [value_text(label) for label in classes.tolist()])

    def _to_learn(self, columns: Columns, num_classes: int, before: Learnt | None) -> Learnt:
        if not all(isinstance(units, Integral) for units in self.hidden):
            raise OptionError(f"hidden must be whole numbers of units, for example (128, 128); got {self.hidden!r}.")
        cosine = losses.needs_cosine_classifier(self.loss)
        learnt = Learnt(columns, num_classes, tuple(map(int, self.hidden)), cosine)
        if before:
            learnt.check_goes_on(before)
        return learnt

    def _train(
        self,
        learnt: Learnt,
        course: Course,
        priors: ClassPriors,
        tail: Tensor,
        samples: data.TensorSamples,
        held_out: data.TensorSamples | None,
        posterior: Posterior,
        *,
        start: Mapping[str, Tensor] | None,
    ) -> History:
        """Train ``model_``, from the weights ``start`` or new ones."""
        device = device_of(self.device)

        def score(held: data.TensorSamples) -> float:
            scores = posterior.scores(learnt.outputs(model, held.values, device))
            return metrics.classification(scores, held.targets, priors.shot_groups()).balanced

        with own_random_numbers(generator(course.seed, course.first_epoch, WEIGHTS).initial_seed(), device):
            model = learnt.new_model()
            model.load_state_dict(start or model.state_dict())
            history = train(
                model.to(device),
                self._criterion(priors).to(device),
                lambda steps: self._optimizer(model, priors, tail, steps),
                samples,
                course,
                score=(lambda: score(held_out)) if held_out is not None and self.early_stopping else None,
            )
        self.model_ = model.cpu().eval()
        return history

    def _base_posterior(self, priors: ClassPriors, classes: "np.ndarray", epochs: int = 0) -> Posterior:
        """Return the posterior of the outputs after some epochs, before anything is calibrated."""
        criterion = self._criterion(priors)
        if isinstance(criterion, losses.Deferred):
            criterion.set_epoch(epochs - 1)
        scale = losses.output_scale(self.loss, self.loss_options or {})
        shift = shift_of_drawn(losses.training_shift(criterion), priors, self.sampler)
        names = classes.tolist()
        check_decisions(self.cost, self.at_least, names)
        return posterior_under(self.class_prior, priors, names, scale=scale, training_shift=shift)

    def _criterion(self, priors: ClassPriors) -> nn.Module:
        criterion = losses.build(self.loss, priors, options=self.loss_options or {})
        if self.reweight_from is None:
            return criterion
        return losses.Deferred(criterion, priors, start=round(self.reweight_from * self.max_iter))

    def _optimizer(self, model: nn.Module, priors: ClassPriors, tail: Tensor, steps: int) -> SharpnessAware:
        options = dict(self.method_options or {})
        unknown = [name for name in options if name not in own_options(self.method)]
        if unknown:
            known = ", ".join(own_options(self.method)) or "none"
            raise OptionError(f"method_options: {self.method} has no {unknown[0]!r} of its own; there are {known}.")
        if self.method != "plain":
            usual = float(str(DEFAULTS["table"]["rho"]))
            options["rho"] = rho_of(MethodOptions(method=self.method), usual) if self.rho is None else self.rho
            options |= {"sharp_from": round(self.sharp_from * steps), "perturb": self.perturb}
        elif self.sharp_from or self.perturb != "all":
            raise OptionError("plain perturbs nothing: it takes neither sharp_from nor perturb.")
        return create(
            self.method,
            model,
            base=self.base,
            priors=priors,
            tail=tail,
            ascent=self.ascent,
            ascent_options=self.ascent_options,
            total_steps=steps,
            lr=self.lr if self.lr is not None else 0.1 if self.base == "sgd" else 1e-3,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            **options,
        )

    def _course(self, rows: int, seed: int, first_epoch: int) -> Course:
        return Course(
            epochs=self.max_iter,
            batch_size=min(128, max(32, rows // 16)) if self.batch_size is None else self.batch_size,
            sampler=self.sampler,
            schedule=self.schedule,
            clip_norm=self.clip_norm,
            patience=self.n_iter_no_change,
            seed=seed,
            first_epoch=first_epoch,
            verbose=self.verbose,
        )

    def _note(self, history: History, first_epoch: int) -> None:
        earlier = self.loss_curve_ if first_epoch else []
        self.loss_curve_ = [*earlier, *history.losses]
        self.n_iter_ = len(self.loss_curve_)
        self.best_iter_ = first_epoch + history.best_epoch
        self.validation_scores_ = history.scores or None
        self.best_validation_score_ = max(history.scores) if history.scores else None
