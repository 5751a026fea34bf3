"""The options of a run: their defaults, their limits, and their YAML form."""

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
"""Options that say how a run is made, not what comes out, rounding aside: device and threads sum in another order."""

Backend = Literal["local", "dask", "ray"]
"""Who makes many runs: processes of this machine, or the workers of a cluster."""

Track = Literal["auto", "none", "tensorboard", "mlflow"]
"""Where a run's numbers are written, too."""

Objective = Literal["balanced", "few", "tail", "macro_f1", "overall"]
"""The score on validation data that a search goes by."""

TestTime = Literal["none", "flip"]
"""What outputs are averaged over when a trained model is used: an image alone, or it and its mirror."""

How = Literal["crt", "tau-norm", "smoothed"]
"""How a second stage makes a classifier anew."""

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
    """Table: columns that are text whatever they look like, such as codes that are written in digits."""
    separator: str | None = None
    """CSV: the character between two cells, or comma, semicolon, tab, pipe, space. Default: as the file tells."""
    decimal: Literal[".", ","] | None = None
    """CSV: the mark before a number's fraction. Default: as the file tells."""
    encoding: str | None = None
    """CSV: utf-8, cp1252, utf-16, ... Default: as the file tells."""
    missing: tuple[str, ...] = ("auto",)
    """Table: words for a missing value, beside the empty cell. auto: NA, null and their like; among numbers also ?, -,
    unknown, ..., which is said."""
    imbalance: Annotated[float, Field(ge=1, allow_inf_nan=False)] | None = None
    """Make the training data long-tailed: samples of the most frequent class over those of the rarest."""
    profile: Literal["exponential", "step"] = "exponential"
    """How the class counts fall from the most frequent to the rarest."""
    rare: Literal["auto", "last", "random"] = "auto"
    """Which classes become rare: the last ones, or ones drawn by the seed. auto: random for digits, else last."""
    subset: Literal["drawn", "first"] = "drawn"
    """Which samples of a class stay in the long tail: drawn by the seed, or the first ones, as some published code
    has it."""
    validation_fraction: Share = 0.1
    """Share of the training data held out, stratified, to choose the best epoch."""
    test_fraction: Share = 0.3
    """Share held out for testing where the source has no test data of its own."""
    validation_is_test: bool = False
    """Test on the source's validation data, as papers on iNaturalist do, and hold others out to choose the epoch."""
    image_size: Count | None = None
    """Images: pixels of each side; by default as they are."""
    augment: Literal["auto", "none", "cifar", "imagenet", "trivial", "randaugment"] = "auto"
    """Images: pad-crop-flip (cifar), random resized crop, flip and colour (imagenet). auto: by image size. trivial:
    crop and flip by image size, then one random operation of random strength (TrivialAugment wide); randaugment: two
    of strength 9 of 30."""
    sampler: Literal["auto", "shuffle", "balanced", "square-root", "repeated", "gathered"] = "auto"
    """Order of the training samples. shuffle: each once an epoch; balanced: classes equally often; square-root: by the
    roots of their counts; repeated: each once, and copies of those of rare classes; gathered: each once, the tail's
    together in some of the batches. auto: repeated for images of 16 pixels or more that are augmented and not
    fine-tuned, else shuffle."""
    repeat_threshold: Annotated[float, Field(gt=0, le=1)] | None = None
    """Sampler repeated: a class with a share below this is repeated sqrt(threshold / share) times. Default: 1 over the
    number of classes."""
    tail_rows: Count = 16
    """Sampler gathered: tail samples that stand together."""
    mix: Literal["none", "mixup", "cutmix", "both"] = "none"
    """Images: train on blends of two images (mixup), on images with a box of another (cutmix), or on one of the two by
    batch (both). Targets are mixed alike; a row belongs to the tail by its share."""
    mix_alpha: Positive = 1.0
    """Of the beta distribution that the share of each image comes from; 1 is uniform."""
    mix_until: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the epochs after which images are no longer mixed."""
    skip_bad: bool = False
    """Leave out rows without a class or with too many or too few cells, and images that cannot be read; they are
    counted and named."""
    workers: Annotated[int, Field(ge=0)] = 0
    """Processes that prepare batches; the batches do not depend on it."""


@dataclass(frozen=True)
class ModelOptions:
    """Model."""

    __pydantic_config__ = STRICT

    model: str = "auto"
    """mlp, resnet20/32/44/56, resnet18/34/50, package.module:callable, torchvision:NAME or timm:NAME; to fine-tune also
    a folder that transformers wrote."""
    width: Positive = 1.0
    """CIFAR ResNets: factor on the number of channels."""
    norm: Literal["batch", "group"] = "batch"
    """Normalisation of the ResNets."""
    hidden: tuple[Count, ...] = (128, 128)
    """MLP: units of each hidden layer."""
    weights: Path | None = None
    """Local file with weights to start from (.safetensors, .pt)."""
    finetune: bool = False
    """Images: tune few parameters of a pretrained model, with a cosine head that starts at the class means, 10 epochs,
    and the model's own image size and normalisation."""
    tune: Literal["lora", "last", "all"] | None = None
    """Fine-tuning: low-rank adapters and the head, the head alone, or all. Default: lora where the model has linear
    layers before its head, else last."""
    lora_rank: Count = 8
    """Fine-tuning: rank of the adapters."""


@dataclass(frozen=True)
class MethodOptions:
    """Method: whose loss surface is made flat, and how."""

    __pydantic_config__ = STRICT

    method: str = "auto"
    """sgd, adamw and muon are plain; sam flattens every class, imbsam the tail classes; for tables also blend,
    boosting, forest and logistic; `imbsam methods` lists all. auto: imbsam for images; for tables blend, but imbsam in
    several processes or with what only a network takes (--model, --weights, --loss, --reweight-from, a sampler, an
    average)."""
    base: Literal["sgd", "adamw", "muon"] = "sgd"
    """The optimizer under a method that is not plain. muon: Muon for the 2-D weights of hidden layers, AdamW for the
    rest, with the learning rate and weight decay of AdamW."""
    rho: NotNegative | None = None
    """Neighbourhood size. Default: 0.2 for digits, else 0.05; some methods have their own."""
    method_options: tuple[str, ...] = ()
    """The method's own options, as alpha=0.4; `imbsam methods` lists them."""
    ascent: str = "default"
    """Where the perturbation points: gradient, adaptive, friendly, momentum, random, reuse, rise, stochastic or vasso.
    default: the method's own."""
    ascent_options: tuple[str, ...] = ()
    """The ascent's own options, as damping=0.3."""
    sharp_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the steps after which the method perturbs the weights; before, its steps are plain and as cheap.
    Default: two thirds for imbsam on images of 16 pixels or more, as a tail that is not learnt yet has no minimum to
    flatten; else 0, as published."""
    perturb: Annotated[tuple[str, ...], Field(min_length=1)] = ("all",)
    """Parameters that are perturbed: all, norms (those of normalisation layers), or names, as head.*."""
    anneal_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Ascent rise and le-sam: share of the steps after which the rise falls, along half a cosine, to 0 at the end.
    Default: it does not; of le-sam 0.8, as published."""
    nonfinite: Literal["raise", "skip"] = "raise"
    """A step whose loss or gradient is NaN or infinite: an error, or skipped and counted, at most 20 in a row."""
    tail: str = "auto"
    """fewer-than=20, rarest-classes=0.3, rarest-samples=0.1, classes=A,B. auto: fewer-than=20 or the rarest third."""
    batch_statistics: Literal["batch", "context"] = "context"
    """BatchNorm: what normalises the rows of a pass."""
    context_rows: Count | None = None
    """BatchNorm under context: how many other rows. Default: 8 for images, 32 for tables."""


@dataclass(frozen=True)
class LossOptions:
    """Loss."""

    __pydantic_config__ = STRICT

    loss: str = "auto"
    """cross-entropy, focal, class-balanced, ldam, balanced-softmax, logit-adjustment or vs. auto: logit-adjustment, or
    cross-entropy where a class has no training sample."""
    loss_options: tuple[str, ...] = ()
    """Its parameters, as tau=1.5."""
    label_smoothing: Share = 0.0
    """Share of each target that the loss spreads evenly over all classes; who is in the tail does not change by it."""
    reweight_from: Annotated[float, Field(ge=0, le=1)] | None = None
    """Deferred re-weighting (DRW): the share of the epochs after which classes are weighted."""


@dataclass(frozen=True)
class DecisionOptions:
    """Decision: how frequent the classes are taken to be, and what they are to reach."""

    __pydantic_config__ = STRICT

    class_prior: Annotated[tuple[str, ...], Field(min_length=1)] = ("auto",)
    """Probabilities and decisions under these frequencies: training, balanced, CLASS=FREQUENCY for each class, or loss,
    those that the loss aims at. auto: probabilities as in training, decisions as if classes were equally frequent."""
    at_least: tuple[str, ...] = ()
    """recall:CLASS=SHARE or precision:CLASS=SHARE, as recall:melanoma=0.9: thresholds are found on validation data, and
    what others pay is said."""
    cost: tuple[str, ...] = ()
    """CLASS=COST, as melanoma=10: of missing it, 1 for other classes; decisions are those of least expected cost."""


@dataclass(frozen=True)
class TrainingOptions:
    """Training."""

    __pydantic_config__ = STRICT

    epochs: Count | None = None
    """Passes over the training data. Default: 100 for digits, 60 for tables, 30 for other images, 10 to fine-tune."""
    batch_size: Count | None = None
    """Rows of a step, of all processes together where torchrun starts several. Default: 32 for digits, 128 for
    others and to fine-tune."""
    lr: Positive | None = None
    """Learning rate. Default: 0.1 for sgd, 0.01 to fine-tune, 0.001 for adamw and muon."""
    momentum: Share = 0.9
    """Of sgd and muon."""
    weight_decay: NotNegative = 5e-4
    """Of the base optimizer; never part of the perturbation."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """Learning rate after the warm-up: cosine to 0, a tenth after 80 % and 90 % of the epochs, or constant."""
    warmup: NotNegative | None = None
    """Epochs of linear warm-up. Default: 5 % of the epochs, at most 5."""
    clip_norm: Positive | None = None
    """Largest norm of the gradient."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """bfloat16: forward passes under autocast."""
    channels_last: bool = True
    """Images: memory format of convolutions."""
    select: Literal["best", "last"] = "best"
    """Which epoch is kept: best validation balanced accuracy, or the last."""
    average: Literal["none", "ema"] = "none"
    """ema: measure and keep an exponential moving average of the weights over the steps, running statistics of
    BatchNorm included, in place of the last ones."""
    average_decay: Share = 0.999
    """Of the average: how much of it stays at a step; less in the first steps, (1 + t) / (10 + t) after t."""
    few_below: Count | None = None
    """Classes with fewer training samples are few-shot. Default: 20; the rarest third of the classes where 20 and 100
    put all of them into one group."""
    many_above: Count | None = None
    """Classes with more training samples are many-shot. Default: 100, or the most frequent third likewise."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Of everything random: split, long tail, weights, batches."""
    device: str = "auto"
    """cpu, cuda, cuda:1, ... auto: cuda where there is one."""
    deterministic: bool = False
    """Use torch's deterministic algorithms, and say which operations have none."""
    threads: Count | None = None
    """Threads of one run; bits repeat with the same number only, as others round in another order. Default: all cores,
    shared among the processes of compare."""
    track: Annotated[tuple[Track, ...], Field(min_length=1)] = ("auto",)
    """tensorboard, mlflow, both, or none. auto: tensorboard where it is installed. mlflow: to MLFLOW_TRACKING_URI, else
    to mlflow.db in the folder."""


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
        """Every option by its name, JSON-able."""
        options: dict[str, object] = {}
        for group in dataclasses.fields(self):
            for name, value in dataclasses.asdict(getattr(self, group.name)).items():
                options[name] = (
                    list(value) if isinstance(value, tuple) else str(value) if isinstance(value, Path) else value
                )
        return options

    def deciding(self) -> dict[str, object]:
        """Those that decide what comes out of a run."""
        return {name: value for name, value in self.flat().items() if name not in WITHOUT_EFFECT}

    def differing(self, held: Mapping[str, object]) -> list[str]:
        """Which of the deciding options a run was made with other values of.

        Args:
            held: Its options by name, as :meth:`flat` gives them. One that is not among them came later, and its
                default changes nothing; where there is none at all, nothing is known of the run.
        """
        usual = Options().flat() if held else {}
        return [name for name, value in self.deciding().items() if held.get(name, usual.get(name)) != value]

    def updated(self, values: Mapping[str, object]) -> "Options":
        """Replace some options by name, checked; for an option of several values, a single one stands for itself.

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
        OptionError: With every value that does not fit, named as on the command line.
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
        raise OptionError(f"{path} must hold one mapping of options, as `rho: 0.1`; got {type(content).__name__}.")
    return content


def to_yaml(options: Mapping[str, object]) -> str:
    """Write a flat mapping of options."""
    return yaml.safe_dump(dict(options), sort_keys=False, allow_unicode=True)
