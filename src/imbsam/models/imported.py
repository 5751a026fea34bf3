"""Models from outside this package: a callable of the user's, torchvision's and timm's."""

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor, nn

from imbsam.errors import ModelError
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.models.classifier import CosineClassifier, classifier_name

_LIBRARIES = {"torchvision": "torchvision.models", "timm": "timm"}


def imported_model(
    name: str, spec: InputSpec, *, num_classes: int, cosine_classifier: bool = False, pretrained: bool = False
) -> nn.Module:
    """Make a model from outside this package, and try it on samples of zeros.

    Args:
        name: ``torchvision:NAME``, ``timm:NAME``, or ``package.module:callable``. The callable is called as
            ``callable(spec, num_classes=num_classes)`` and returns a module that takes samples as ``spec`` says
            and returns logits ``(B, num_classes)``. Its module is searched like any import, then in the working
            directory, which stays on ``sys.path``.
        spec: Form of one sample.
        num_classes: Number of classes C.
        cosine_classifier: Replace the model's last layer by a :class:`CosineClassifier`; a model that has one
            already stays as it is.
        pretrained: Load the weights that timm or torchvision have for the model, from their cache or the internet.

    Returns:
        The model, in training mode, with random weights unless pretrained or the callable loads some.

    Raises:
        ModelError: If the model cannot be imported or made, does not fit the samples, or has no last layer that
            a cosine classifier can replace.
    """
    make = _maker(name, spec, pretrained)
    try:
        model = make(spec, num_classes)
    except Exception as error:  # Foreign code raises anything.
        raise ModelError(f"making the model {name} failed: {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"the model {name} must be a torch.nn.Module; {name} returned {type(model).__name__}.")
    try_out(name, model, spec, num_classes)
    if cosine_classifier and not any(isinstance(module, CosineClassifier) for module in model.modules()):
        _replace_classifier(name, model, num_classes)
    return model.train()


def is_user_code(name: str) -> bool:
    """Return whether the model is made by a module of the user's, ``package.module:callable``.

    Args:
        name: Name of the model, as for :func:`build`.
    """
    module, colon, _ = name.partition(":")
    return bool(colon) and module not in _LIBRARIES


def _maker(name: str, spec: InputSpec, pretrained: bool) -> Callable[[InputSpec, int], object]:
    source, _, attribute = name.partition(":")
    if source not in _LIBRARIES:
        made_by = user_callable(name)
        return lambda spec, num_classes: made_by(spec, num_classes=num_classes)
    if not isinstance(spec, ImageSpec):
        raise ModelError(f"{name} takes images, but these data are a table: choose mlp.")
    channels = spec.channels
    held = library(source)
    if source == "timm":
        return lambda spec, num_classes: held.create_model(
            attribute, pretrained=pretrained, num_classes=num_classes, in_chans=channels
        )
    if channels != 3:
        raise ModelError(f"{name} takes RGB images, but these have {channels} channel: choose timm:NAME or resnet20.")
    if pretrained:
        return lambda spec, num_classes: _with_weights_of_torchvision(held, attribute, num_classes)
    return lambda spec, num_classes: held.get_model(attribute, weights=None, num_classes=num_classes)


def _with_weights_of_torchvision(held: ModuleType, name: str, num_classes: int) -> object:
    """Load torchvision's weights without the classifier, since torchvision refuses another number of classes."""
    given: dict[str, Tensor] = held.get_model(name, weights="DEFAULT").state_dict()
    model: nn.Module = held.get_model(name, weights=None, num_classes=num_classes)
    own = model.state_dict()
    model.load_state_dict({k: given[k] if given[k].shape == value.shape else value for k, value in own.items()})
    return model


def library(source: str) -> ModuleType:
    """Import ``torchvision.models`` or ``timm``.

    Args:
        source: ``"torchvision"`` or ``"timm"``.

    Raises:
        ModelError: If it cannot be imported.
    """
    try:
        return importlib.import_module(_LIBRARIES[source])
    except (ImportError, OSError, RuntimeError) as error:  # The last two: it was built for another torch.
        release = torch.__version__.partition("+")[0]
        raise ModelError(
            f"{source} cannot be imported: {_told(error)} Install a build of it that fits torch {release} "
            f"(pip install {source} torch=={release}), or choose another model."
        ) from error


def user_callable(name: str) -> Callable[..., object]:
    """Import the callable that makes a user's model.

    Args:
        name: ``package.module:callable``.

    Raises:
        ModelError: If it cannot be imported, or is not a callable.
    """
    module_name, _, attribute = name.partition(":")
    try:
        module = _user_module(module_name)
    except Exception as error:  # Importing runs the user's code.
        raise ModelError(f"cannot import the module {module_name!r} of the model {name}: {_told(error)}") from error
    found: object = getattr(module, attribute, None)
    if not callable(found):
        kind = "has no" if found is None else "has no callable"
        raise ModelError(
            f"the module {module_name!r} ({module.__file__}) {kind} {attribute!r}: check the model {name}."
        )
    return found


def _user_module(module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        here = str(Path.cwd())
        if error.name != module_name.partition(".")[0] or here in sys.path:
            raise
        # A console command does not search the working directory as "python -m" does. Last, so it shadows nothing.
        sys.path.append(here)
        return importlib.import_module(module_name)


def try_out(name: str, model: nn.Module, spec: InputSpec, num_classes: int) -> None:
    """Forward two samples of zeros, and leave the model in eval mode.

    Args:
        name: Name of the model, for messages.
        model: Model to try.
        spec: Form of one sample.
        num_classes: Number of classes C.

    Raises:
        ModelError: If it fails, or returns anything but logits ``(2, C)``.
    """
    shape = (
        (spec.channels, spec.height, spec.width)
        if isinstance(spec, ImageSpec)
        else (spec.numeric + len(spec.cardinalities),)
    )
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    model.eval()
    try:
        with torch.no_grad():
            logits: object = model(torch.zeros(2, *shape, device=device))
    except Exception as error:  # Foreign code raises anything.
        raise ModelError(f"the model {name} fails on samples of shape {shape}: {_told(error)}") from error
    told = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
    if told != (2, num_classes):
        raise ModelError(
            f"the model {name} must return logits (B, {num_classes}); for 2 samples of shape {shape} it returned "
            f"{told}."
        )


def _replace_classifier(name: str, model: nn.Module, num_classes: int) -> None:
    layer = classifier_name(model, num_classes)
    if layer is None:
        raise ModelError(
            f"the model {name} has not exactly one linear layer of {num_classes} outputs, so it is unclear what the "
            "cosine classifier replaces: end the model in an imbsam.models.CosineClassifier, or choose another loss."
        )
    parent, _, attribute = layer.rpartition(".")
    linear = model.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    replacement = CosineClassifier(linear.in_features, num_classes).to(linear.weight.device)
    setattr(model.get_submodule(parent), attribute, replacement)


def _told(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text if text.endswith(".") else f"{text}."
