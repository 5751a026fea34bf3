"""Registry of the models by name."""

import warnings
from pathlib import Path

from torch import nn

from imbsam.errors import ModelError, OptionError
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.models.classifier import classifier_name
from imbsam.models.finetune import FineTune, finetuned
from imbsam.models.hugging_face import hugging_face_model, is_folder
from imbsam.models.imported import imported_model, try_out
from imbsam.models.layers import Norm
from imbsam.models.mlp import MLP
from imbsam.models.resnet import RESNETS, resnet
from imbsam.models.weights import load_weights

_DEFAULTS = {"width": 1.0, "norm": "batch", "hidden": (128, 128)}

MODELS: tuple[str, ...] = (*RESNETS, "mlp", "torchvision:NAME", "timm:NAME", "package.module:callable")
"""Names that :func:`build` takes."""


def build(
    name: str,
    spec: InputSpec,
    *,
    num_classes: int,
    cosine_classifier: bool = False,
    weights: Path | None = None,
    finetune: FineTune | None = None,
    width: float = 1.0,
    norm: Norm = "batch",
    hidden: tuple[int, ...] = (128, 128),
) -> nn.Module:
    """Make a model by its name, which maps float samples in the form of ``spec`` to logits ``(B, num_classes)``.

    Networks of this package have their last layer as ``model.classifier``. Random weights come from torch's global
    generator: seed it first.

    Args:
        name: One of :data:`MODELS`; ``package.module:callable`` is called as
            ``callable(spec, num_classes=num_classes)``.
        spec: Form of one sample.
        num_classes: Number of classes C.
        cosine_classifier: End in a :class:`CosineClassifier`, as the LDAM loss needs.
        weights: File with the initial weights, ``.safetensors``, ``.pt`` or ``.pth``. A classifier in it that does not
            fit, for example for other classes, is left out with a warning; everything else must fit.
        finetune: Tune few parameters of a pretrained model, see :class:`FineTune`; its classifier becomes a cosine
            head. ``name`` may then be a folder that Hugging Face's transformers wrote.
        width: Factor on the channels of a ResNet.
        norm: Normalisation of a ResNet: ``"batch"``, or ``"group"`` (8 groups), whose rows do not see each other.
        hidden: Units of each hidden layer of ``mlp``; empty for a linear model.

    Returns:
        The model, in training mode, on the CPU (a callable may choose another device).

    Raises:
        ModelError: If the model is unknown, cannot be made, or does not fit the data or the weights.
        OptionError: If an option is out of range, or does not belong to this model.
    """
    if num_classes < 1:
        raise ModelError(f"a model needs at least one class; got num_classes={num_classes}.")
    adapted = finetune is not None
    cosine = cosine_classifier and not adapted
    if name in RESNETS:
        _refuse(name, hidden=tuple(hidden))
        if not isinstance(spec, ImageSpec):
            raise ModelError(f"{name} takes images, but these data are a table: choose mlp.")
        model: nn.Module = resnet(name, spec.channels, num_classes, width=width, norm=norm, cosine_classifier=cosine)
    elif name == "mlp":
        _refuse(name, width=width, norm=norm)
        model = MLP(spec, num_classes, hidden=hidden, cosine_classifier=cosine)
    else:
        pretrained = finetune is not None and finetune.pretrained and weights is None
        if finetune is not None and (finetune.architecture is not None or is_folder(name)):
            _refuse(name, width=width, norm=norm, hidden=tuple(hidden))
            model = hugging_face_model(name, num_classes, pretrained=pretrained, architecture=finetune.architecture)
            try_out(name, model, spec, num_classes)
        else:
            _check_importable(name)
            _refuse(name, width=width, norm=norm, hidden=tuple(hidden))
            model = imported_model(name, spec, num_classes=num_classes, cosine_classifier=cosine, pretrained=pretrained)
    if weights is not None:
        with warnings.catch_warnings():
            if adapted:
                # Its classifier is not wanted anyway.
                warnings.simplefilter("ignore")
            load_weights(model, weights, new_classifier=classifier_name(model, num_classes))
    if finetune is None:
        return model
    return finetuned(name, model.train(), num_classes, finetune, cosines=cosine_classifier)


def _refuse(name: str, **given: object) -> None:
    """Refuse options that the model does not take, where they are not left at their defaults."""
    for option, value in given.items():
        if value != _DEFAULTS[option]:
            takers = "mlp" if option == "hidden" else ", ".join(RESNETS)
            raise OptionError(f"the model {name} has no option {option} (got {value!r}); it belongs to {takers}.")


def _check_importable(name: str) -> None:
    module, _, attribute = name.partition(":")
    if is_folder(name):
        raise ModelError(f"{name} is a pretrained model of Hugging Face: fine-tune it, --finetune.")
    if not module or not attribute:
        raise ModelError(f"there is no model {name!r}; choose one of {', '.join(MODELS)}.")
