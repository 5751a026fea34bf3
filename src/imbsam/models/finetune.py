"""Preparation of a pretrained network for fine-tuning (LIFT, Shi et al. 2024): adapters and a cosine head."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Self

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from imbsam.errors import ModelError
from imbsam.models.classifier import CosineClassifier, classifier_of
from imbsam.models.lora import add_adapters

Tune = Literal["lora", "last", "all"]

SCALE = 25.0
"""Factor that turns cosines into logits (Shi et al. 2024)."""


@dataclass(frozen=True)
class FineTune:
    """Choice of the parameters of a pretrained model to tune, and of the source of its weights.

    Args:
        tune: ``"lora"`` for adapters beside the linear layers (else the convolutions) and the head, ``"last"`` for the
            head alone, ``"all"`` for every parameter. None is ``"lora"`` where the model has linear layers before its
            head, else ``"last"``.
        rank: Rank of the adapters.
        pretrained: Whether to load the weights of timm, torchvision or the folder of Hugging Face. False makes only the
            structure, whose weights are loaded later.
        architecture: Configuration to build a model of Hugging Face from when its folder is not read.
    """

    tune: Tune | None = None
    rank: int = 8
    pretrained: bool = True
    architecture: Mapping[str, object] | None = None


class FineTuned(nn.Module):
    """Network whose frozen BatchNorm layers stay unchanged in training, including their statistics.

    Args:
        network: Network that ends in a :class:`CosineClassifier`.
        head: Name of that layer.
        frozen: Whether BatchNorm layers are frozen.
    """

    def __init__(self, network: nn.Module, head: str, *, frozen: bool) -> None:
        super().__init__()
        self.network = network
        self._head = head
        self._frozen = frozen

    @property
    def head(self) -> CosineClassifier:
        """The last layer."""
        found = self.network.get_submodule(self._head)
        assert isinstance(found, CosineClassifier)
        return found

    def train(self, mode: bool = True) -> Self:
        """Set the training mode, in which frozen BatchNorm layers still normalise by their running statistics."""
        super().train(mode)
        for module in self.network.modules():
            if self._frozen and isinstance(module, _BatchNorm):
                module.eval()
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute logits, shape ``(B, num_classes)``."""
        logits: Tensor = self.network(inputs)
        return logits


def finetuned(name: str, model: nn.Module, num_classes: int, chosen: FineTune, *, cosines: bool) -> FineTuned:
    """Freeze the parameters of a model that are not tuned, and give it a cosine head.

    Args:
        name: Name of the model, for messages.
        model: Model with its pretrained weights; changed in place.
        num_classes: Number of classes C.
        chosen: Choice of the parameters to tune.
        cosines: Whether the head returns plain cosines, as the LDAM loss needs them, instead of logits.

    Returns:
        The model, in training mode. With adapters its features are the same as before, bit for bit.

    Raises:
        ModelError: If it is unclear which layer is the head, or no layer can take an adapter.
    """
    found = classifier_of(model, num_classes)
    if found is None:
        raise ModelError(
            f"the model {name} has not exactly one linear layer of {num_classes} outputs, so it is unclear what the "
            "head is: name the last layer `classifier`, or choose another model."
        )
    head, before = found
    tune = _resolved(model, head, chosen.tune)
    if tune != "all":
        model.requires_grad_(False)
    if tune == "lora" and not add_adapters(model, chosen.rank, without=head):
        raise ModelError(f"the model {name} has no layer before its head that takes an adapter: choose --tune last.")
    parent, _, attribute = head.rpartition(".")
    made = CosineClassifier(before.in_features, num_classes, scale=1.0 if cosines else SCALE).to(before.weight)
    setattr(model.get_submodule(parent), attribute, made)
    return FineTuned(model, head, frozen=tune != "all").train()


def tuned_parameters(model: nn.Module) -> tuple[int, int]:
    """Count the parameters that require a gradient, and all parameters."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, tuned in sizes if tuned), sum(size for size, _ in sizes)


def _resolved(model: nn.Module, head: str, tune: Tune | None) -> Tune:
    if tune is not None:
        return tune
    inner = any(isinstance(layer, nn.Linear) for name, layer in model.named_modules() if name != head)
    return "lora" if inner else "last"
