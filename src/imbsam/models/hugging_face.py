"""Image classifiers of Hugging Face's transformers, from a folder on this machine."""

import importlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from torch import Tensor, nn

from imbsam.errors import ModelError

CONFIG = "config.json"
_OF_THE_CLASSES = ("id2label", "label2id", "num_labels", "problem_type", "torch_dtype", "dtype")


class Classifier(nn.Module):
    """Model of transformers with the interface of our models: images in, logits out.

    Args:
        network: Network called with ``pixel_values``, whose result has ``logits``.
        channels: Number of channels that it takes; grey images are repeated.
    """

    def __init__(self, network: nn.Module, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits, shape ``(B, num_classes)``."""
        if images.shape[1] == 1 != self.channels:
            images = images.expand(-1, self.channels, -1, -1)
        logits: Tensor = self.network(pixel_values=images).logits
        return logits


def is_folder(name: str) -> bool:
    """Return whether a model's name is a folder written by transformers."""
    return (Path(name) / CONFIG).is_file()


def architecture_of(folder: Path) -> dict[str, object]:
    """Read the configuration that the model in a folder is built from, without its classes.

    Args:
        folder: Folder with a ``config.json``.

    Raises:
        ModelError: If the file is damaged, or does not name a type of model.
    """
    try:
        found: object = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {folder / CONFIG}: {error}") from None
    if not isinstance(found, dict) or not isinstance(found.get("model_type"), str):
        raise ModelError(f"{folder / CONFIG} names no model_type: it was not written by transformers.")
    return {name: value for name, value in found.items() if name not in _OF_THE_CLASSES}


def hugging_face_model(
    name: str, num_classes: int, *, pretrained: bool, architecture: Mapping[str, object] | None
) -> nn.Module:
    """Make an image classifier with C classes.

    Args:
        name: Folder of the model.
        num_classes: Number of classes C.
        pretrained: Load the folder's weights; a last layer for other classes is replaced by a new one.
        architecture: Configuration to build the model from where it is not pretrained.

    Raises:
        ModelError: If transformers is not installed, or the model cannot be made.
    """
    library = _transformers()
    kind = library.AutoModelForImageClassification
    verbosity = library.logging.get_verbosity()
    # It reports at length that the classifier is made anew.
    library.logging.set_verbosity_error()
    try:
        if pretrained:
            network = kind.from_pretrained(
                name, num_labels=num_classes, ignore_mismatched_sizes=True, local_files_only=True
            )
        else:
            told = dict(architecture or architecture_of(Path(name)))
            config = library.AutoConfig.for_model(str(told.pop("model_type")), num_labels=num_classes, **told)
            network = kind.from_config(config)
    except Exception as error:  # transformers raises anything.
        first_line = (str(error).splitlines() or [""])[0]
        raise ModelError(f"making the model {name} failed: {type(error).__name__}: {first_line}") from error
    finally:
        library.logging.set_verbosity(verbosity)
    return Classifier(network.float(), int(getattr(network.config, "num_channels", 3))).train()


def _transformers() -> ModuleType:
    try:
        return importlib.import_module("transformers")
    except ImportError as error:
        raise ModelError(
            f"a model of Hugging Face needs transformers: pip install 'imbsam[transformers]' ({error})."
        ) from None
