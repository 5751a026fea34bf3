"""Inputs that the weights of a pretrained model expect: image size, mean and standard deviation."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from imbsam.errors import ModelError
from imbsam.models.hugging_face import architecture_of, is_folder
from imbsam.models.imported import is_user_code, library, user_callable


@dataclass(frozen=True)
class Expected:
    """Inputs that a model's weights were trained on; None for what is not known.

    Args:
        mean: Mean of each channel, for pixel values in [0, 1].
        std: Standard deviation of each channel.
        size: Pixels of each side.
        architecture: Configuration that a model of Hugging Face is built from.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    architecture: Mapping[str, object] | None = None


def expected_inputs(name: str) -> Expected:
    """Find out which images a model expects, from its library, folder or callable.

    A callable can have an attribute ``pretrained_cfg`` in timm's form: a mapping with ``mean``, ``std`` and
    ``input_size`` (channels, height, width).

    Args:
        name: Name of the model, as for :func:`imbsam.models.build`.

    Returns:
        The inputs, as far as they are known.

    Raises:
        ModelError: If the model cannot be found, or its ``pretrained_cfg`` has another form.
    """
    source, _, attribute = name.partition(":")
    try:
        if is_folder(name):
            return _of_folder(Path(name))
        if source == "timm":
            found = library("timm").get_pretrained_cfg(attribute)
            return Expected() if found is None else _of_config(found.to_dict())
        if source == "torchvision":
            preset = library("torchvision").get_model_weights(attribute).DEFAULT.transforms()
            return Expected(tuple(preset.mean), tuple(preset.std), preset.crop_size[0])
        if is_user_code(name):
            said: object = getattr(user_callable(name), "pretrained_cfg", None)
            return Expected() if said is None else _of_config(cast(Mapping[str, object], said))
    except ModelError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(
            f"cannot find out which images the model {name} takes: {type(error).__name__}: {error}. "
            "Check its name and its configuration."
        ) from error
    return Expected()


def _of_config(config: Mapping[str, object]) -> Expected:
    size = cast(Sequence[int] | None, config.get("input_size"))
    return Expected(_numbers(config.get("mean")), _numbers(config.get("std")), None if size is None else int(size[-1]))


def _of_folder(folder: Path) -> Expected:
    architecture = architecture_of(folder)
    side = architecture.get("image_size")
    size = None if side is None else int(cast(Sequence[int], side)[0] if isinstance(side, list) else cast(int, side))
    processor = folder / "preprocessor_config.json"
    held: Mapping[str, object] = json.loads(processor.read_text(encoding="utf-8")) if processor.is_file() else {}
    normalises = held.get("do_normalize", True)
    mean, std = (_numbers(held.get(name)) if normalises else None for name in ("image_mean", "image_std"))
    return Expected(mean, std, size, architecture)


def _numbers(values: object) -> tuple[float, ...] | None:
    return None if values is None else tuple(float(value) for value in cast(Sequence[float], values))
