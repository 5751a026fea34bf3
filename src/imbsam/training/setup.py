"""The parts of a run, made from its options: data, model, loss, optimizer."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from imbsam import data, losses, models
from imbsam.config import Options
from imbsam.data.mixing import Mixing
from imbsam.data.transforms import Transform
from imbsam.errors import DataError, OptionError
from imbsam.inputs import ImageSpec
from imbsam.models.pretrained import expected_inputs
from imbsam.optim import SharpnessAware
from imbsam.priors import CUSTOMARY_BOUNDS, ClassPriors, ShotGroup
from imbsam.storage.imports import large_import
from imbsam.training.averaging import check_average
from imbsam.training.criterion import check_soft_targets, criterion_of
from imbsam.training.defaults import imbalance, kind_of, rare_classes, resolved, tail_classes
from imbsam.training.finetuning import as_expected, check_finetuning, finetune_of, held_inputs, is_finetuning
from imbsam.training.methods import checked_name, make_optimizer
from imbsam.training.threads import is_small


@dataclass(frozen=True)
class Problem:
    """Data of a run, with the class priors and the tail that follow from its class counts.

    Args:
        source: Source as given by the user.
        options: Options, with every open one filled in.
        dataset: Data set that was loaded.
        priors: Class priors of the training samples.
        groups: Shot group of each class.
        tail: Tail classes, bool, shape ``(C,)``.
        device: Device that computes.
    """

    source: str
    options: Options
    dataset: data.Dataset
    priors: ClassPriors
    groups: tuple[ShotGroup, ...]
    tail: Tensor
    device: torch.device

    def check_same_data(self, classes: Sequence[str], counts: Sequence[int]) -> None:
        """Refuse data that changed since a run was started, as far as the training counts of each class show it.

        Raises:
            DataError: If classes or counts are not those of the run.
        """
        if (list(classes), list(counts)) != (list(self.dataset.classes), self.priors.counts.tolist()):
            raise DataError(
                f"{self.source} has changed since the run was started: it has other classes, or other numbers of "
                "training samples. Restore the data, or train again."
            )


def load_problem(source: str, options: Options, *, held: Mapping[str, object] | None = None) -> Problem:
    """Read the data and fill in the options that depend on it.

    Args:
        source: The data.
        options: Options of the run.
        held: Preprocessing of a run that was started already; a pretrained model is then not asked what it expects.

    Raises:
        ImbsamError: If the data or an option cannot be used.
    """
    checked_name(options.method.method)
    return problem_of(source, options, load_data(source, options, held=held))


def load_data(
    source: str, options: Options, *, open_all: bool = True, held: Mapping[str, object] | None = None
) -> data.Dataset:
    """Read the data of a run.

    Args:
        source: The data.
        options: Options of the run.
        open_all: Open every image file at once, see :func:`imbsam.data.load`.
        held: See :func:`load_problem`.

    Raises:
        ImbsamError: If the data or an option cannot be used.
    """
    if held is None:
        check_finetuning(options)
    expected = None
    if is_finetuning(options):
        expected = expected_inputs(options.model.model) if held is None else held_inputs(held)
    chosen = options.data
    dataset = data.load(
        source,
        target=chosen.target,
        ignore=chosen.ignore,
        texts=chosen.text,
        dialect=data.Dialect(chosen.separator, chosen.decimal, chosen.encoding, chosen.missing),
        imbalance=imbalance(source, options),
        profile=chosen.profile,
        rare=rare_classes(source, options),
        subset=chosen.subset,
        validation_fraction=chosen.validation_fraction,
        test_fraction=chosen.test_fraction,
        validation_is_test=chosen.validation_is_test,
        image_size=chosen.image_size or (None if expected is None else expected.size),
        fit=None if chosen.fit == "auto" else chosen.fit,
        skip_bad=chosen.skip_bad,
        seed=options.training.seed,
        open_all=open_all,
    )
    return dataset if expected is None else as_expected(dataset, expected, source)


def problem_of(source: str, options: Options, dataset: data.Dataset) -> Problem:
    """Fill in the options that depend on the data, and return both.

    Args:
        source: Source of the data.
        options: Options of the run.
        dataset: Data set, loaded by these options.

    Raises:
        ImbsamError: If the data or an option cannot be used.
    """
    priors = ClassPriors.from_targets(dataset.train.targets, num_classes=len(dataset.classes))
    asked, options = options, resolved(options, source, dataset.spec, priors)
    if int(priors.counts.min()) == 0 and asked.loss.loss == "auto":
        name = dataset.classes[int(priors.counts.argmin())]
        note = f"the class {name!r} has no training sample, so the loss is cross-entropy: logit adjustment needs one."
        dataset = replace(dataset, notes=(*dataset.notes, note))
    if not isinstance(dataset.spec, ImageSpec):
        for name, value in (("augment", options.data.augment), ("mix", options.data.mix)):
            if value != "none":
                raise OptionError(f"--{name} {value} is for images, but {source} is a table.")
    if len(dataset.classes) < 2:
        raise DataError(f"{source} has only one class: {dataset.classes[0]!r}. Classification needs two.")
    training = options.training
    many_above, few_below = training.many_above, training.few_below
    assert many_above is not None
    assert few_below is not None
    if (many_above, few_below) == priors.shot_bounds() != CUSTOMARY_BOUNDS:
        note = (
            "with the customary bounds of 20 and 100 training samples all classes are in one shot group, so "
            f"the rarest third, below {few_below:,}, is few-shot, and the most frequent, above {many_above:,}, "
            "many-shot."
        )
        dataset = replace(dataset, notes=(*dataset.notes, note))
    check_average(training)
    check_soft_targets(options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tail = tail_classes(options.method.tail, priors, dataset.classes)
    for warning in caught:
        # Noted as well: the processes of a comparison have nobody to warn.
        dataset = replace(dataset, notes=(*dataset.notes, str(warning.message)))
        warnings.warn(warning.message, stacklevel=2)
    return Problem(
        source,
        options,
        dataset,
        priors,
        priors.shot_groups(many_above=many_above, few_below=few_below),
        tail,
        device_of(training.device),
    )


def augmentation_of(problem: Problem) -> Transform:
    """Return the transform of the training batches.

    Raises:
        OptionError: If the images cannot be augmented in this way.
    """
    chosen = problem.options.data
    assert chosen.augment != "auto"
    return data.training_transform(problem.dataset.spec, chosen.augment, chosen.flip)


def mixing_of(problem: Problem, epoch: int) -> Mixing | None:
    """Return how the images of an epoch are mixed.

    Args:
        problem: Data and options of the run.
        epoch: Number of the epoch, from 0.
    """
    chosen = problem.options.data
    if chosen.mix == "none" or epoch >= round(chosen.mix_until * epochs_of(problem.options)):
        return None
    return Mixing(chosen.mix, len(problem.dataset.classes), chosen.mix_alpha)


def device_of(name: str) -> torch.device:
    """Choose the device to compute on.

    Raises:
        OptionError: If there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()
    except (RuntimeError, AssertionError) as error:
        raise OptionError(f"--device {name} cannot be used: {str(error).splitlines()[0]}") from None
    return device


def build_model(problem: Problem, *, pretrained: bool = True) -> nn.Module:
    """Build the model on its device; its random weights depend on the seed alone.

    Args:
        problem: Data and options of the run.
        pretrained: False builds a fine-tuned model without its weights, to be loaded from a checkpoint.

    Raises:
        ModelError: If the model does not fit the data.
    """
    chosen = problem.options.model
    torch.manual_seed(problem.options.training.seed)
    model = models.build(
        chosen.model,
        problem.dataset.spec,
        num_classes=len(problem.dataset.classes),
        cosine_classifier=losses.needs_cosine_classifier(problem.options.loss.loss),
        weights=chosen.weights if pretrained or not is_finetuning(problem.options) else None,
        finetune=finetune_of(problem.options, problem.dataset.preprocess, pretrained=pretrained),
        width=chosen.width,
        norm=chosen.norm,
        hidden=chosen.hidden,
    )
    model = model.to(problem.device)
    return model.to(memory_format=torch.channels_last) if channels_last(problem) else model  # type: ignore[call-overload]


def channels_last(problem: Problem) -> bool:
    """Return whether image batches have their channels last in memory."""
    return problem.options.training.channels_last and kind_of(problem.dataset.spec) in ("image", "large")


def threads_of(problem: Problem, model: nn.Module) -> int | None:
    """Return the number of threads that suits a run's steps; ``None`` for as many as there are."""
    small = problem.options.model.model == "mlp" and is_small(model, batch_size_of(problem.options))
    return 1 if small else problem.options.training.threads


def build_criterion(problem: Problem) -> nn.Module:
    """Build the per-sample loss, with deferred re-weighting if chosen.

    Raises:
        OptionError: If the loss or one of its options is unknown.
    """
    return criterion_of(problem.options, problem.priors).to(problem.device)


def build_optimizer(problem: Problem, model: nn.Module, total_steps: int) -> SharpnessAware:
    """Build the method over its base optimizer.

    Raises:
        OptionError: If the method or one of its options is unknown or out of range.
    """
    # torch's optimizers import its compiler, at the first parameter group of a process.
    with large_import("torch._dynamo"):
        import torch._dynamo  # noqa: F401
    training = problem.options.training
    assert training.lr is not None
    return make_optimizer(
        problem.options.method,
        model,
        priors=problem.priors,
        tail=problem.tail,
        lr=training.lr,
        momentum=training.momentum,
        weight_decay=training.weight_decay,
        total_steps=total_steps,
    )


def epoch_rows(problem: Problem) -> int:
    """Return the rows of an epoch: the training samples, and the copies of a sampler that repeats some."""
    chosen, train = problem.options.data, problem.dataset.train
    if chosen.sampler != "repeated":
        return len(train)
    return round(float((problem.priors.counts * problem.priors.repeat_factors(chosen.repeat_threshold)).sum()))


def epochs_of(options: Options) -> int:
    """Return the number of epochs of a run whose options are filled in."""
    assert options.training.epochs is not None
    return options.training.epochs


def batch_size_of(options: Options) -> int:
    """Return the batch size of a run whose options are filled in."""
    assert options.training.batch_size is not None
    return options.training.batch_size
