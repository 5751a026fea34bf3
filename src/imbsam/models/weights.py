"""Weights from a local file, checked by name and by shape before any is loaded."""

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from imbsam.errors import ModelError

_WRAPPERS = ("state_dict", "model")


def load_weights(model: nn.Module, path: Path, *, new_classifier: str | None = None) -> None:
    """Load the weights of a file into a model, which is unchanged if this raises an error.

    Args:
        model: Model that gets the weights; changed in place.
        path: File, ``.safetensors``, or ``.pt`` / ``.pth`` with a state dict, bare or under ``state_dict`` or
            ``model``; nothing in the file is executed. A prefix ``module.`` on every name is ignored.
        new_classifier: Name of the model's last layer. If the file has no such layer, or one of another shape (other
            classes), the model keeps its own and a warning says so. By default everything must fit.

    Raises:
        ModelError: If the file is missing, of another kind or damaged, or its names or shapes are not the model's.
    """
    path = Path(path)
    weights = _without_prefix(_read(path))
    expected = model.state_dict()
    if new_classifier is not None:
        weights = _with_own_classifier(weights, expected, new_classifier, path)
    _check_fit(weights, expected, path)
    model.load_state_dict(dict(weights))


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise ModelError(f"there is no weights file {path}.")
    if path.suffix not in {".safetensors", ".pt", ".pth"}:
        raise ModelError(f"weights must be a .safetensors, .pt or .pth file; got {path}.")
    try:
        loaded: object = (
            load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
        )
    except Exception as error:  # A damaged file raises anything, from KeyError to UnpicklingError.
        first_line = (str(error).splitlines() or [""])[0]
        raise ModelError(
            f"cannot read the weights in {path}: {type(error).__name__}: {first_line} "
            "The file must hold tensors alone: torch.save(model.state_dict(), ...) or safetensors."
        ) from error
    for wrapper in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(wrapper), Mapping):
            loaded = loaded[wrapper]
    if not isinstance(loaded, Mapping) or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise ModelError(f"{path} contains no state dict (names to tensors): save model.state_dict() in it.")
    return loaded


def _without_prefix(weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    # DistributedDataParallel puts "module." before every name.
    if all(name.startswith("module.") for name in weights):
        return {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    return weights


def _with_own_classifier(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], classifier: str, path: Path
) -> Mapping[str, Tensor]:
    def of_classifier(name: str) -> bool:
        return name.startswith(f"{classifier}.")

    own = {name: tensor for name, tensor in expected.items() if of_classifier(name)}
    theirs = {name: tensor.shape for name, tensor in weights.items() if of_classifier(name)}
    if theirs == {name: tensor.shape for name, tensor in own.items()}:
        return weights
    found = ", ".join(f"{name} {tuple(shape)}" for name, shape in theirs.items()) or "none"
    wanted = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in own.items())
    warnings.warn(
        f"the classifier in {path} does not fit and is left out: it has {found}, the model {wanted}. "
        "The model's classifier starts untrained.",
        stacklevel=4,
    )
    return {name: tensor for name, tensor in weights.items() if not of_classifier(name)} | own


def _check_fit(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path) -> None:
    shapes = [
        f"{name} {tuple(weights[name].shape)} instead of {tuple(expected[name].shape)}"
        for name in expected
        if name in weights and weights[name].shape != expected[name].shape
    ]
    faults = {
        "missing": [name for name in expected if name not in weights],
        "unknown": [name for name in weights if name not in expected],
        "of another shape": shapes,
    }
    told = [f"{len(names)} {fault} ({_some(names)})" for fault, names in faults.items() if names]
    if told:
        raise ModelError(
            f"the weights in {path} are not of this model: {'; '.join(told)}. "
            "Build the model with the name and options that the file was written with."
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
