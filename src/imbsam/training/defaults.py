"""Defaults that depend on the data: the options that the user left open, and the tail rule."""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from imbsam.config import Options
from imbsam.data.sources import is_bundled
from imbsam.data.transforms import LARGEST_PADDED
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.priors import CUSTOMARY_BOUNDS, ClassPriors
from imbsam.storage.texts import readable
from imbsam.training.finetuning import is_finetuning
from imbsam.training.methods import NETWORK, base_of, rho_of, usual_method
from imbsam.training.schedule import usual_warmup

Kind = Literal["tiny", "image", "large", "table"]

DEFAULTS: dict[Kind, dict[str, object]] = {
    "tiny": {"model": "mlp", "augment": "none", "epochs": 100, "batch_size": 32, "rho": 0.2},
    "image": {"model": "resnet20", "augment": "crop", "epochs": 30, "rho": 0.05},
    "large": {"model": "resnet18", "augment": "imagenet", "epochs": 30, "rho": 0.05},
    "table": {"model": "mlp", "augment": "none", "epochs": 60, "batch_size": 128, "rho": 0.05},
}
"""Measured defaults of rho, the tail rule, the loss and BatchNorm: docs/evidence.md, "What the defaults rest on"."""


LATE = 2 / 3
"""Share of the steps after which the tail of images is perturbed; measured in docs/evidence.md."""

LEARNED = 0.8
"""Recall of the tail of images on its training samples from which it is perturbed; measured in docs/evidence.md."""

FINETUNING: dict[str, object] = {"epochs": 10}
"""Defaults of fine-tuning, with the learning rate of 0.01 as in LIFT (Shi et al. 2024)."""

BATCH_SIZES = (128, 64, 32)
STEPS, FINETUNING_STEPS = 3000, 800
"""Smallest number of steps of a run on images, if a smaller batch allows it; measured in docs/evidence.md."""

FEWEST_ROWS, MOST_EPOCHS = 32_000, 200
"""Few images are trained on for more epochs, until this number of rows has been seen or epochs have been made."""


def kind_of(spec: InputSpec) -> Kind:
    """Return the kind of data that chooses the defaults: tables, and images below 16, up to 96, or more pixels."""
    if not isinstance(spec, ImageSpec):
        return "table"
    size = max(spec.height, spec.width)
    return "tiny" if size < 16 else "image" if size <= LARGEST_PADDED else "large"


def rare_classes(source: str, options: Options) -> Literal["last", "random"]:
    """Return which classes the long-tail maker makes rare."""
    rare = options.data.rare
    return rare if rare != "auto" else "random" if is_bundled(source) else "last"


def imbalance(source: str, options: Options) -> float | None:
    """Return the imbalance factor to make; the bundled digits are balanced, so they are always made long-tailed."""
    return 50.0 if options.data.imbalance is None and is_bundled(source) else options.data.imbalance


def resolved(options: Options, source: str, spec: InputSpec, priors: ClassPriors) -> Options:
    """Fill in every option that was left open, so that the run's file records what was used."""
    options = usual_method(options, is_table=kind_of(spec) == "table")
    defaults = dict(DEFAULTS[kind_of(spec)])
    lr = 0.1
    waits = options.method.method == NETWORK and kind_of(spec) in ("image", "large")
    if is_finetuning(options) and isinstance(spec, ImageSpec):
        defaults |= FINETUNING
        lr = 0.01
        if spec.height == spec.width:
            # The model need not be asked again.
            defaults["image_size"] = spec.height
    defaults |= {
        "rare": rare_classes(source, options),
        "imbalance": imbalance(source, options),
        "lr": lr if base_of(options.method) == "sgd" else 1e-3,
        "rho": rho_of(options.method, float(str(defaults["rho"]))),
        "sampler": _sampler(options, spec),
        "average": "ema" if _is_from_scratch(options, spec) else "none",
        "sharp_from": LATE if waits else 0.0,
        "loss": "logit-adjustment" if int(priors.counts.min()) > 0 else "cross-entropy",
    }
    if waits and options.method.sharp_from is None:
        defaults["sharp_recall"] = LEARNED
    flat = options.flat()
    defaults["many_above"], defaults["few_below"] = _shot_bounds(options, priors)
    if _is_from_scratch(options, spec):
        defaults["epochs"] = max(int(str(defaults["epochs"])), min(MOST_EPOCHS, -(-FEWEST_ROWS // priors.total)))
    epochs = int(str(flat["epochs"] or defaults["epochs"]))
    defaults["warmup"] = usual_warmup(epochs)
    if "batch_size" not in defaults:
        defaults["batch_size"] = _batch_size(epochs * priors.total, is_finetuning(options))
    return options.updated({name: value for name, value in defaults.items() if flat[name] in (None, "auto")})


def _batch_size(rows: int, finetunes: bool) -> int:
    """Return the largest batch size with which this number of rows over all epochs gives enough steps."""
    steps = FINETUNING_STEPS if finetunes else STEPS
    return next((size for size in BATCH_SIZES if rows >= steps * size), BATCH_SIZES[-1])


def _sampler(options: Options, spec: InputSpec) -> str:
    """Choose the sampler: copies of rare images are worth their forward only where augmentation varies them."""
    is_augmented = options.data.augment != "none"
    return "repeated" if is_augmented and _is_from_scratch(options, spec) else "shuffle"


def _is_from_scratch(options: Options, spec: InputSpec) -> bool:
    """Tell whether a network learns images of 16 pixels or more from random weights."""
    return kind_of(spec) in ("image", "large") and not is_finetuning(options)


def _shot_bounds(options: Options, priors: ClassPriors) -> tuple[int, int]:
    """Return the bounds for the data, or the customary ones where the user gives one of the two."""
    training = options.training
    return priors.shot_bounds() if training.few_below is None and training.many_above is None else CUSTOMARY_BOUNDS


def tail_classes(rule: str, priors: ClassPriors, classes: Sequence[str]) -> Tensor:
    """Apply a tail rule of the command line.

    Args:
        rule: ``auto``, ``fewer-than=N``, ``rarest-classes=SHARE``, ``rarest-samples=SHARE`` or ``classes=NAME,NAME``.
        priors: Class priors of the training data.
        classes: Names of the classes, length C.

    Returns:
        Boolean mask over classes, shape ``(C,)``.

    Raises:
        OptionError: If the rule cannot be read or names an unknown class.
        PriorsError: If its value is out of range.
    """
    name, _, value = rule.partition("=")
    try:
        if rule == "auto":
            few = int((priors.counts < 20).sum())
            return priors.tail(fewer_than=20) if 0 < few < len(classes) else priors.tail(rarest_classes=1 / 3)
        if name == "fewer-than":
            return priors.tail(fewer_than=int(value))
        if name == "rarest-classes":
            return priors.tail(rarest_classes=float(value))
        if name == "rarest-samples":
            return priors.tail(rarest_samples=float(value))
    except ValueError as error:
        if type(error) is not ValueError:
            raise
        raise OptionError(f"--tail {rule}: {value!r} is not a number.") from None
    if name != "classes":
        raise OptionError(
            f"--tail {rule} is not a tail rule. Give fewer-than=20, rarest-classes=0.3, rarest-samples=0.1, "
            "classes=NAME,NAME or auto."
        )
    named = readable(value).split(",")
    unknown = [wanted for wanted in named if wanted not in classes]
    if unknown:
        raise OptionError(f"--tail {rule}: there is no class {unknown[0]!r}. The classes are {', '.join(classes)}.")
    return priors.tail(classes=[list(classes).index(wanted) for wanted in named])
