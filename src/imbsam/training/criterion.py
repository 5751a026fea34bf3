"""The loss of a run, made from its options, with smoothed targets and deferred re-weighting."""

from torch import nn

from imbsam import losses
from imbsam.config import DataOptions, Options
from imbsam.errors import OptionError
from imbsam.priors import ClassPriors
from imbsam.training.methods import LAYERS


def criterion_of(options: Options, priors: ClassPriors) -> nn.Module:
    """Make the per-sample loss of a run on the CPU, with deferred re-weighting if chosen.

    Args:
        options: Options of the run.
        priors: Class priors of its training data.

    Raises:
        OptionError: If the loss or one of its options is unknown.
    """
    criterion, epochs = loss_of(options, priors), options.training.epochs
    if options.loss.reweight_from is not None:
        assert epochs is not None
        criterion = losses.Deferred(criterion, priors, start=round(options.loss.reweight_from * epochs))
    return criterion


def loss_of(options: Options, priors: ClassPriors) -> nn.Module:
    """Make the per-sample loss of a run without deferred re-weighting, with smoothed targets if chosen.

    Args:
        options: Options of the run.
        priors: Class priors of its training data.

    Raises:
        OptionError: If the loss or one of its options is unknown.
    """
    loss, smoothing = (
        losses.build(options.loss.loss, priors, options=loss_values(options)),
        options.loss.label_smoothing,
    )
    return losses.Smoothed(loss, smoothing) if smoothing else loss


def loss_values(options: Options) -> dict[str, float]:
    """Read the parameters given to the loss.

    Raises:
        OptionError: If a parameter is not of the form NAME=NUMBER.
    """
    values: dict[str, float] = {}
    for pair in options.loss.loss_options:
        name, _, value = pair.partition("=")
        try:
            values[name.replace("-", "_")] = float(value)
        except ValueError:
            raise OptionError(f"--loss-options {pair}: give NAME=NUMBER, for example tau=1.5.") from None
    return values


def check_soft_targets(options: Options) -> None:
    """Refuse mixed or smoothed targets for a loss that cannot use them, and options of mixing without mixing.

    Raises:
        OptionError: If the options conflict in this way.
    """
    chosen, usual = options.data, DataOptions()
    for name in ("mix_alpha", "mix_until"):
        if chosen.mix == "none" and getattr(chosen, name) != getattr(usual, name):
            raise OptionError(f"--{name.replace('_', '-')} needs mixed images: add --mix mixup, cutmix or both.")
    if chosen.sampler != "repeated" and chosen.repeat_threshold is not None:
        raise OptionError("--repeat-threshold needs a sampler: add --sampler repeated.")
    smoothing = options.loss.label_smoothing
    asked = f"--mix {chosen.mix}" if chosen.mix != "none" else f"--label-smoothing {smoothing}" if smoothing else None
    if asked and options.loss.loss == "ldam":
        raise OptionError(
            f"--loss ldam has a margin for a single class, but {asked} gives an image several. Choose another loss, "
            "for example --loss logit-adjustment."
        )
    if chosen.mix != "none" and any(pair.partition("=")[0] in LAYERS for pair in options.method.method_options):
        raise OptionError(
            f"--method-options classifier=... takes images of a single class, but --mix {chosen.mix} gives an image "
            "several. Leave one of the two out."
        )
    if smoothing and "label_smoothing" in loss_values(options):
        raise OptionError(
            "--label-smoothing and --loss-options label_smoothing=... are the same option: give only one of them."
        )
