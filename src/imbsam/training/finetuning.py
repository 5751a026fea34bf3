"""Fine-tuning: its requirements, the reading of its images, and the initial head."""

from collections.abc import Mapping
from dataclasses import asdict, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from imbsam import data
from imbsam.config import ModelOptions, Options
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.models.finetune import FineTune, FineTuned
from imbsam.models.hugging_face import is_folder
from imbsam.models.pretrained import Expected
from imbsam.training.methods import BLENDS

BATCH = 512
ARCHITECTURE = "architecture"
"""Key in a run's preprocessing of the configuration that a model of Hugging Face is built from."""


def is_finetuning(options: Options) -> bool:
    """Return whether a pretrained model is fine-tuned."""
    return options.model.finetune


def check_finetuning(options: Options) -> None:
    """Refuse fine-tuning without pretrained weights, and its options without it.

    Raises:
        OptionError: If the options conflict in this way.
    """
    chosen, usual = options.model, ModelOptions()
    has_rank = chosen.lora_rank != usual.lora_rank
    if not is_finetuning(options):
        if chosen.tune != usual.tune or has_rank:
            raise OptionError("--tune and --lora-rank choose what is tuned in a pretrained model: add --finetune.")
        return
    if options.method.method in BLENDS:
        raise OptionError(f"--finetune trains a network, but --method {options.method.method} is for tables.")
    folder = is_folder(chosen.model)
    if chosen.weights is None and ":" not in chosen.model and not folder:
        raise OptionError(
            f"--finetune starts from pretrained weights, but --model {chosen.model} has none: give --weights "
            "FILE, or a model with pretrained weights (timm:NAME, torchvision:NAME, package.module:callable, or a "
            "folder "
            "written by transformers)."
        )
    if chosen.weights is not None and folder:
        raise OptionError(f"--model {chosen.model} is a folder with its own weights: leave out --weights.")
    if has_rank and chosen.tune in ("last", "all"):
        raise OptionError(f"--lora-rank is for adapters, but --tune {chosen.tune} has none: leave it out.")


def held_inputs(preprocess: Mapping[str, object]) -> Expected:
    """Return how the images of a run are read, so that no model has to be asked again.

    Args:
        preprocess: Preprocess of the run.
    """
    spec = data.spec_of(preprocess)
    if not isinstance(spec, ImageSpec):
        return Expected()
    architecture = preprocess.get(ARCHITECTURE)
    return Expected(spec.mean, spec.std, spec.height, architecture if isinstance(architecture, Mapping) else None)


def as_expected(dataset: data.Dataset, expected: Expected, source: str) -> data.Dataset:
    """Return the data normalised as the model's weights expect it; grey images use the mean over the channels.

    Args:
        dataset: Data as they were loaded.
        expected: Inputs that the model expects.
        source: Name of the source, for the message.

    Raises:
        OptionError: If the data are a table, or the model expects another number of channels.
    """
    spec = dataset.spec
    if not isinstance(spec, ImageSpec):
        raise OptionError(f"--finetune is for images, but {source} is a table: leave it out.")
    mean, std = (_of_channels(values, spec.channels) for values in (expected.mean, expected.std))
    spec = replace(spec, mean=mean or spec.mean, std=std or spec.std)
    preprocess = {**dataset.preprocess, "spec": asdict(spec)}
    if expected.architecture is not None:
        preprocess[ARCHITECTURE] = dict(expected.architecture)
    return replace(dataset, spec=spec, preprocess=preprocess)


def _of_channels(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    if values is None or len(values) == channels:
        return values
    if channels == 1:
        return (sum(values) / len(values),)
    raise OptionError(f"--model normalises {len(values)} channels, but the images have {channels}: choose another.")


def finetune_of(options: Options, preprocess: Mapping[str, object], *, pretrained: bool) -> FineTune | None:
    """Return what :func:`imbsam.models.build` needs to make the model; None if it is trained from scratch.

    Args:
        options: Options of the run.
        preprocess: Preprocessing of its data.
        pretrained: Whether the model's library is to load weights.
    """
    if not is_finetuning(options):
        return None
    architecture = preprocess.get(ARCHITECTURE)
    return FineTune(
        options.model.tune,
        options.model.lora_rank,
        pretrained,
        architecture if isinstance(architecture, Mapping) else None,
    )


@torch.no_grad()
def class_means(
    model: FineTuned, train: data.Samples, spec: InputSpec, num_classes: int, precision: torch.autocast
) -> Tensor:
    """Compute the direction of each class's mean feature over all training data, in eval mode (Shi et al. 2024).

    Args:
        model: Model, which is in training mode afterwards.
        train: Training samples.
        spec: Form of the model's inputs.
        num_classes: Number of classes C.
        precision: Precision of the forwards.

    Returns:
        Directions, float64 on the CPU, shape ``(C, features)``, each row of length 1; zeros for a class without a
        sample.
    """
    weight = model.head.weight
    sums = torch.zeros(weight.shape, dtype=torch.float64)
    features: list[Tensor] = []

    def keep(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        features.append(inputs[0])

    hook = model.head.register_forward_pre_hook(keep)
    model.eval()
    try:
        transform = data.evaluation_transform(spec)
        for inputs, targets in data.batches(train, batch_size=BATCH, shuffle=False, transform=transform):
            with precision:
                model(inputs.to(weight.device))
            sums.index_add_(0, targets, normalize(features.pop().double().cpu(), eps=1e-6))
    finally:
        hook.remove()
        model.train()
    return normalize(sums, eps=1e-12)


@torch.no_grad()
def start_head(model: FineTuned, means: Tensor) -> None:
    """Set the head to the class means; a class without a sample keeps its random weights.

    Args:
        model: Model, which is changed in place.
        means: Result of :func:`class_means`.
    """
    found = means.any(dim=1).to(model.head.weight.device)
    model.head.weight[found] = means.to(model.head.weight)[found]
