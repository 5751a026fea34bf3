"""Options of a run: their defaults, their limits, and their YAML form."""

import dataclasses
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal, TypeVar, cast

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from imbsam.errors import OptionError

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]

WITHOUT_EFFECT = ("device", "threads", "track", "workers")
"""Options that do not change the result of a run, except for rounding: device and threads sum in another order."""

Backend = Literal["local", "dask", "ray"]
"""Workers of many runs: processes of this machine, or the workers of a cluster."""

Track = Literal["auto", "none", "tensorboard", "mlflow"]
"""Trackers that a run's numbers are written to."""

Objective = Literal["balanced", "few", "tail", "macro_f1", "overall"]
"""Score on validation data that a search maximises."""

TestTime = Literal["none", "flip"]
"""Test-time augmentation: the outputs of an image alone, or averaged with those of its mirror image."""

How = Literal["crt", "tau-norm", "smoothed"]
"""Ways in which a second stage retrains a classifier."""

STRICT = ConfigDict(extra="forbid", arbitrary_types_allowed=True)


@dataclass(frozen=True)
class DataOptions:
    """Data: what to read, and how to make it long-tailed."""

    __pydantic_config__ = STRICT

    target: str | None = None
    """Table: the column that holds the class."""
    ignore: tuple[str, ...] = ()
    """Table: columns to leave out."""
    text: tuple[str, ...] = ()
    """Table: columns to read as text even if they look like numbers, such as codes written in digits."""
    separator: str | None = None
    """CSV: the character between two cells, or comma, semicolon, tab, pipe, space. Default: detected from the file."""
    decimal: Literal[".", ","] | None = None
    """CSV: the mark before a number's fraction. Default: detected from the file."""
    encoding: str | None = None
    """CSV: utf-8, cp1252, utf-16, ... Default: detected from the file."""
    missing: tuple[str, ...] = ("auto",)
    """Table: words for a missing value, besides the empty cell. auto: NA, null and similar words; among numbers also ?,
    -, unknown, ..., with a note."""
    imbalance: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Make the training data long-tailed, with this ratio of the samples of the most frequent class to those of the
    rarest."""
    profile: Literal["exponential", "step"] = "exponential"
    """Shape of the class counts from the most frequent to the rarest class."""
    rare: Literal["auto", "last", "random"] = "auto"
    """Classes that become rare: the last ones, or drawn by the seed. auto: random for digits, else last."""
    subset: Literal["drawn", "first"] = "drawn"
    """Samples of a class that stay in the long tail: drawn by the seed, or the first ones, as in some published
    code."""
    validation_fraction: Share = 0.1
    """Share of the training data held out, stratified, to choose the best epoch."""
    test_fraction: Share = 0.3
    """Share of the data held out for testing if the source has no test data of its own."""
    validation_is_test: bool = False
    """Test on the source's validation data, as papers on iNaturalist do, and hold out other data to choose the
    epoch."""
    image_size: Count | None = None
    """Images: resize to this many pixels on each side. Default: the images' own size."""
    fit: Literal["auto", "crop", "pad"] = "auto"
    """Images: crop cuts the largest square out of the centre; pad keeps the whole image and fills the rest with the
    colour of its border. auto: crop from 128 pixels a side, else pad."""
    augment: Literal["auto", "none", "crop", "cifar", "imagenet", "trivial", "randaugment"] = "auto"
    """Images: crop (pad with the border's colour, crop, flip), cifar (the same with black), imagenet (random resized
    crop, flip, colour). auto: crop or imagenet, by image size. trivial: crop and flip by image size, then one random
    operation of random strength (TrivialAugment wide). randaugment: the same with two operations of strength 9 of
    30."""
    flip: Literal["horizontal", "both", "none"] = "horizontal"
    """Augmented images: horizontal mirrors half of them left to right, both also half of them top to bottom, none does
    neither: letters and traffic signs mean something else in the mirror."""
    sampler: Literal["auto", "shuffle", "balanced", "square-root", "repeated", "gathered"] = "auto"
    """Order of the training samples. shuffle: each once per epoch. balanced: classes equally often. square-root: by the
    roots of their counts. repeated: each once, plus copies of samples of rare classes. gathered: each once, with the
    tail's samples together in some of the batches. auto: repeated for images of 16 pixels or more that are augmented
    and not fine-tuned, else shuffle."""
    repeat_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sampler repeated: a class with a share below this is repeated sqrt(threshold / share) times. Default: 1 over the
    number of classes."""
    tail_rows: Count = 16
    """Sampler gathered: number of tail samples that are together in a batch."""
    mix: Literal["none", "mixup", "cutmix", "both"] = "none"
    """Images: train on blends of two images (mixup), on images with a box from another (cutmix), or on one of the two
    in each batch (both). Targets are mixed with the same shares; a row belongs to the tail by its share."""
    mix_alpha: Positive = 1.0
    """Parameter of the beta distribution that the share of each image is drawn from; 1 is uniform."""
    mix_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the epochs after which images are no longer mixed."""
    skip_bad: bool = False
    """Leave out rows without a class or with too many or too few cells, and images that cannot be read. A note counts
    and names them."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Number of processes that prepare batches; the batches do not depend on it."""


@dataclass(frozen=True)
class ModelOptions:
    """Model."""

    __pydantic_config__ = STRICT

    model: str = "auto"
    """mlp, resnet20/32/44/56, resnet18/34/50, package.module:callable, torchvision:NAME or timm:NAME; for fine-tuning
    also a folder written by transformers."""
    width: Positive = 1.0
    """CIFAR ResNets: factor on the number of channels."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the ResNets."""
    hidden: tuple[Count, ...] = (128, 128)
    """MLP: number of units of each hidden layer."""
    weights: Path | None = None
    """Local file with the initial weights (.safetensors, .pt)."""
    finetune: bool = False
    """Images: tune few parameters of a pretrained model for 10 epochs, with a cosine head that starts at the class
    means, and with the model's own image size and normalisation."""
    tune: Literal["lora", "last", "all"] | None = None
    """Fine-tuning: lora (low-rank adapters and the head), last (the head alone), or all. Default: lora if the model has
    linear layers before its head, else last."""
    lora_rank: Count = 8
    """Fine-tuning: rank of the adapters."""


@dataclass(frozen=True)
class MethodOptions:
    """Method: whose loss is made flat, and how."""

    __pydantic_config__ = STRICT

    method: str = "auto"
    """Method: whose loss is made flat. sgd, adamw and muon are plain; sam flattens every class, imbsam the tail
    classes; for tables also blend, boosting, forest and logistic. `imbsam methods` lists all. auto: imbsam for images;
    for tables blend, but imbsam with several processes or with an option that only a network has (a model, weights, a
    loss, a sampler, an average)."""
    base: Literal["sgd", "adamw", "muon"] = "sgd"
    """Base optimizer of a method that is not plain. muon: Muon for the 2-D weights of hidden layers, AdamW for the
    rest, with the learning rate and weight decay of AdamW."""
    rho: NotNegative | None = None
    """Neighbourhood size. Default: 0.2 for digits, else 0.05; some methods have their own."""
    method_options: tuple[str, ...] = ()
    """The method's own options, such as alpha=0.4; `imbsam methods` lists them."""
    ascent: str = "default"
    """Direction of the perturbation: gradient, adaptive, friendly, momentum, random, reuse, rise, stochastic or vasso.
    default: the method's own."""
    ascent_options: tuple[str, ...] = ()
    """The ascent's own options, such as damping=0.3."""
    sharp_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps after which the method perturbs the weights; the steps before are plain and as cheap. Default:
    two thirds for imbsam on images of 16 pixels or more, since a tail that is not learned yet has no minimum to
    flatten; else 0, as published."""
    sharp_recall: Annotated[float, Field(ge=0, le=1)] | None = None
    """Recall of the tail on its own training samples, from 0 to 1, before which the method does not perturb the weights
    either; it is looked at after each epoch. Default: 0.8 for imbsam on images of 16 pixels or more unless it is said
    from which share of the steps to perturb; else nothing is waited for."""
    perturb: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Parameters to perturb: all, norms (those of normalisation layers), or names such as head.*."""
    anneal_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ascent rise and le-sam: share of the steps after which the rise falls, along half a cosine, to 0 at the end.
    Default: it does not fall; for le-sam 0.8, as published."""
    nonfinite: Literal["raise", "skip"] = "raise"
    """Reaction to a step whose loss or gradient is NaN or infinite: an error, or the step is skipped and counted, at
    most 20 in a row."""
    tail: str = "auto"
    """Rule for the tail classes: fewer-than=20, rarest-classes=0.3, rarest-samples=0.1, classes=A,B. auto:
    fewer-than=20 or the rarest third."""
    batch_statistics: Literal["batch", "context"] = "context"
    """BatchNorm: rows that normalise a pass. batch: the whole batch. context: the rows of the pass and some others."""
    context_rows: Count | None = None
    """BatchNorm with context: number of other rows. Default: 8 for images, 32 for tables."""


@dataclass(frozen=True)
class LossOptions:
    """Loss."""

    __pydantic_config__ = STRICT

    loss: str = "auto"
    """cross-entropy, focal, class-balanced, ldam, balanced-softmax, logit-adjustment or vs. auto: logit-adjustment, or
    cross-entropy if a class has no training sample."""
    loss_options: tuple[str, ...] = ()
    """The loss's own options, such as tau=1.5."""
    label_smoothing: Share = 0.0
    """Share of each target that the loss spreads evenly over all classes; it does not change which classes are in the
    tail."""
    reweight_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Deferred re-weighting (DRW): share of the epochs after which classes are weighted."""


@dataclass(frozen=True)
class DecisionOptions:
    """Decision: the assumed class frequencies, and what classes have to reach."""

    __pydantic_config__ = STRICT

    class_prior: Annotated[tuple[str, ...], Field(min_length=1)] = ("auto",)
    """Class frequencies for probabilities and decisions: training, balanced, CLASS=FREQUENCY for each class, or loss
    for those that the loss aims at. auto: probabilities as in training, decisions as if classes were equally
    frequent."""
    at_least: tuple[str, ...] = ()
    """recall:CLASS=SHARE or precision:CLASS=SHARE that a class has to reach, such as recall:melanoma=0.9. Thresholds
    are found on validation data, and the report says what other classes pay."""
    cost: tuple[str, ...] = ()
    """CLASS=COST of missing a class, such as melanoma=10, and 1 for other classes. Decisions have the least expected
    cost."""


@dataclass(frozen=True)
class TrainingOptions:
    """Training."""

    __pydantic_config__ = STRICT

    epochs: Count | None = None
    """Number of passes over the training data. Default: 100 for digits, 60 for tables, 10 for fine-tuning, 30 for other
    images, and up to 200 for fewer than 1,067 of them, so that 32,000 rows are seen."""
    batch_size: Count | None = None
    """Rows per step, over all processes if torchrun starts several. Default: 32 for digits, 128 for tables; for other
    images the largest of 128, 64 and 32 that gives a run 3,000 steps, or 800 for fine-tuning."""
    lr: Positive | None = None
    """Learning rate. Default: 0.1 for sgd, 0.01 for fine-tuning, 0.001 for adamw and muon."""
    momentum: Share = 0.9
    """Momentum of sgd and muon."""
    weight_decay: NotNegative = 5e-4
    """Weight decay of the base optimizer; never part of the perturbation."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine to 0, a tenth after 80 % and 90 % of the epochs, or constant."""
    warmup: NotNegative | None = None
    """Number of epochs of linear warm-up. Default: 5 % of the epochs, at most 5."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward passes under autocast."""
    channels_last: bool = True
    """Images: memory format of convolutions."""
    select: Literal["best", "last"] = "best"
    """Epoch to keep: that with the best validation balanced accuracy, or the last."""
    average: Literal["auto", "none", "ema"] = "auto"
    """ema: evaluate and keep an exponential moving average of the weights over the steps, including BatchNorm's running
    statistics, instead of the last weights. auto: ema for images of 16 pixels or more that are not fine-tuned."""
    average_decay: Share = 0.99
    """Decay of the average; smaller in the first steps, (1 + t) / (10 + t) after t of them."""
    few_below: Count | None = None
    """Classes with fewer training samples are few-shot. Default: 20, or the rarest third of the classes if 20 and 100
    put all of them into one group."""
    many_above: Count | None = None
    """Classes with more training samples are many-shot. Default: 100, or the most frequent third in the same case."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Seed of everything random: split, long tail, weights, batches."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ... auto: cuda if there is one."""
    deterministic: bool = False
    """Use torch's deterministic algorithms, and name the operations that have none."""
    threads: Count | None = None
    """Most threads of one run; an mlp with small steps takes one. Results repeat bit for bit only with the same number,
    as rounding depends on it. Default: all cores, shared among the processes of compare."""
    track: Annotated[tuple[Track, ...], Field(min_length=1)] = ("auto",)
    """tensorboard, mlflow, both, or none. auto: tensorboard if it is installed. mlflow writes to MLFLOW_TRACKING_URI,
    else to mlflow.db in the folder."""


@dataclass(frozen=True)
class Options:
    """All options of one run; in YAML and in result files they are one flat mapping."""

    __pydantic_config__ = STRICT

    data: DataOptions = field(default_factory=DataOptions)
    model: ModelOptions = field(default_factory=ModelOptions)
    method: MethodOptions = field(default_factory=MethodOptions)
    loss: LossOptions = field(default_factory=LossOptions)
    decision: DecisionOptions = field(default_factory=DecisionOptions)
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def flat(self) -> dict[str, object]:
        """Return every option by its name, as JSON values."""
        options: dict[str, object] = {}
        for group in dataclasses.fields(self):
            for name, value in dataclasses.asdict(getattr(self, group.name)).items():
                options[name] = (
                    list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
                )
        return options

    def deciding(self) -> dict[str, object]:
        """Return the options that change the result of a run."""
        return {name: value for name, value in self.flat().items() if name not in WITHOUT_EFFECT}

    def differing(self, held: Mapping[str, object]) -> list[str]:
        """Return the options that change the result and have other values in a run.

        Args:
            held: Options of the run by name, from :meth:`flat`. An option that is missing there was added later, and
                its default changes nothing; if all are missing, nothing is known about the run.
        """
        usual = Options().flat() if held else {}
        return [name for name, value in self.deciding().items() if held.get(name, usual.get(name)) != value]

    def updated(self, values: Mapping[str, object]) -> "Options":
        """Replace some options by name, checked; an option with several values also takes a single one.

        Raises:
            OptionError: If a name is unknown or a value out of range.
        """
        nested: dict[str, dict[str, object]] = {group.name: {} for group in dataclasses.fields(self)}
        groups = {
            option.name: group.name
            for group in dataclasses.fields(self)
            for option in dataclasses.fields(getattr(self, group.name))
        }
        for name, value in {**self.flat(), **{k.replace("-", "_"): v for k, v in values.items()}}.items():
            if name not in groups:
                raise OptionError(f"there is no option {name}. The options are {', '.join(sorted(groups))}.")
            several = isinstance(getattr(getattr(self, groups[name]), name), tuple)
            nested[groups[name]][name] = [value] if several and not isinstance(value, list | tuple) else value
        return checked(Options, nested)


T = TypeVar("T")


def checked(kind: type[T], value: object) -> T:
    """Build a dataclass of options from plain values.

    Raises:
        OptionError: If values do not fit; the message names each as on the command line.
    """
    try:
        return cast(T, _adapter(cast(Hashable, kind)).validate_python(value))
    except ValidationError as error:
        lines = []
        for fault in error.errors():
            name = next((str(part) for part in reversed(fault["loc"]) if isinstance(part, str) and "[" not in part), "")
            reason = fault["msg"].lower().removeprefix("value error, ")
            lines.append(f"--{name.replace('_', '-')}: {reason}; got {fault['input']!r}.")
        raise OptionError("\n".join(dict.fromkeys(lines))) from None


@cache
def _adapter(kind: Hashable) -> TypeAdapter[object]:
    return TypeAdapter(cast(type[object], kind))


def read_yaml(path: Path) -> dict[str, object]:
    """Read a flat mapping of options.

    Raises:
        OptionError: If the file cannot be read or is not a mapping.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise OptionError(f"cannot read options from {path}: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise OptionError(
            f"{path} must contain a single mapping of options, such as `rho: 0.1`; got {type(content).__name__}."
        )
    return content


def to_yaml(options: Mapping[str, object]) -> str:
    """Write a flat mapping of options."""
    return yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True)
