"""Runs whose method is a blend of classifiers, or one of its members alone: trained in one go, without epochs."""

import time
import warnings
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from imbsam.data.columns import Columns
from imbsam.errors import DataError, DataWarning, OptionError, PriorsWarning
from imbsam.estimators.blended import blended
from imbsam.estimators.classifier import SharpClassifier
from imbsam.estimators.converted import blend_state
from imbsam.estimators.evidence import Classifier
from imbsam.estimators.members import Member, Setting, member_of, names_of
from imbsam.estimators.views import Reading
from imbsam.inputs import TableSpec
from imbsam.optim import METHODS
from imbsam.runs.records import BlendMember
from imbsam.training.criterion import loss_values
from imbsam.training.methods import BLENDS, PLAIN, ascent_options, own_options, values_of
from imbsam.training.setup import Problem, epochs_of

FOLDS = 5
"""Number of parts of the training rows; each is scored by models that were trained on the others."""


@dataclass(frozen=True)
class TrainedBlend:
    """Result of training a blend.

    Args:
        state: State of a :class:`imbsam.models.blend.Blend`.
        seconds: Time of training in seconds.
        members: Members that could be trained.
        notes: Notes on members that could not.
    """

    state: dict[str, Tensor]
    seconds: float
    members: tuple[BlendMember, ...]
    notes: tuple[str, ...]


def check_blend(problem: Problem) -> None:
    """Refuse data and options that a blend cannot be trained with, before anything is written.

    Raises:
        OptionError: If the data are not a table, or an option does not fit.
        DataError: If a class has no training row.
    """
    options, method = problem.options, problem.options.method.method
    if not isinstance(problem.dataset.spec, TableSpec):
        raise OptionError(
            f"--method {method} is for tables, but {problem.source} contains images. Choose another method."
        )
    if options.model.model != "mlp" or options.model.weights is not None:
        raise OptionError(
            f"--method {method} takes no --model and --weights: its network is a multilayer perceptron. To use your "
            "own model, name a network method, for example --method imbsam."
        )
    loss = options.loss
    of_network = {
        "--loss": loss.loss != "logit-adjustment",
        "--loss-options": bool(loss_values(options)),
        "--label-smoothing": loss.label_smoothing > 0,
        "--reweight-from": loss.reweight_from is not None,
        "--sampler": options.data.sampler != "shuffle",
        "--average": options.training.average != "none",
        "--sharp-from": bool(options.method.sharp_from),
        "--sharp-recall": bool(options.method.sharp_recall),
        "--anneal-from": options.method.anneal_from is not None,
        "--perturb": options.method.perturb != ("all",),
    }
    if given := [option for option, is_given in of_network.items() if is_given]:
        raise OptionError(
            f"--method {method} takes no {given[0]}: its members are trained in different ways. To train a network "
            "alone, name its method, for example --method imbsam."
        )
    if int(problem.priors.counts.min()) == 0:
        name = problem.dataset.classes[int(problem.priors.counts.argmin())]
        raise DataError(f"the class {name!r} has no training row, and --method {method} needs one of each class.")
    _members(problem)


def train_blend(problem: Problem) -> TrainedBlend:
    """Train the members and find their weights.

    Raises:
        DataError: If no member could be trained.
    """
    began = time.perf_counter()
    dataset = problem.dataset
    codes, targets = dataset.train.batch(torch.arange(len(dataset.train))).numpy(), dataset.train.targets.numpy()
    reading, rows = Reading.learnt(codes, Columns.of(dataset.preprocess))
    setting = Setting(
        range(len(dataset.classes)),
        len(rows),
        int(problem.priors.counts.min()),
        reading.cardinalities,
        problem.options.training.seed,
        str(problem.device),
    )
    with warnings.catch_warnings():
        for kind in (DataWarning, PriorsWarning):
            warnings.simplefilter("ignore", kind)
        found = blended(_members(problem), rows, targets, setting, folds=FOLDS, weights=None)
    members = tuple(
        BlendMember(model.name, share, found.held_out.scores.get(model.name))
        for model, share in zip(found.models, found.pool.shares.tolist(), strict=True)
    )
    notes = (f"members that could not be trained were left out. {found.failures()}",) if found.failed else ()
    return TrainedBlend(blend_state(found, reading), time.perf_counter() - began, members, notes)


def _members(problem: Problem) -> list[Member]:
    chosen = problem.options.method
    own = values_of(chosen.method_options, "--method-options", own_options(chosen.method))
    named = str(own["members"] if "members" in own else own_options(chosen.method).get("members", chosen.method))
    members = [_member(name, problem) for name in named.split("+")]
    names_of(members, ())
    return members


def _member(name: str, problem: Problem) -> Member:
    if name in (*PLAIN, *METHODS):
        return Member(name, lambda setting: _network(name, problem, setting), view="frame")
    if name not in BLENDS[1:]:
        known = ", ".join([*BLENDS[1:], *PLAIN, *METHODS])
        raise OptionError(f"--method {problem.options.method.method}: there is no member {name!r}; there are {known}.")
    return member_of(name)


def _network(name: str, problem: Problem, setting: Setting) -> Classifier:
    """Return the network that a run of the method ``name`` with these options trains."""
    method, training = problem.options.method, problem.options.training
    tail = ",".join(str(place) for place in problem.tail.nonzero().flatten().tolist())
    network = SharpClassifier(
        "plain" if name in PLAIN else name,
        rho=method.rho,
        tail=f"classes={tail}",
        ascent=None if method.ascent == "default" else method.ascent,
        ascent_options=values_of(method.ascent_options, "--ascent-options", ascent_options(method.ascent)),
        hidden=problem.options.model.hidden,
        base=name if name in PLAIN else method.base,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        schedule=training.schedule,
        clip_norm=training.clip_norm,
        max_iter=epochs_of(problem.options),
        batch_size=training.batch_size,
        random_state=setting.seed,
        device=setting.device,
    )
    return cast(Classifier, network)
