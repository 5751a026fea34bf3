"""Operations on many tensors at a time, and on tensors sharded over ranks by ``fully_shard``."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import torch
from torch import Tensor, nn

Given = ParamSpec("Given")
Result = TypeVar("Result")

_PLAIN = (Tensor, nn.Parameter)
_ENGINE = torch.autograd.Variable._execution_engine


def each(
    operator: str, tensors: Sequence[Tensor], others: Sequence[Tensor] | Tensor | float, **options: object
) -> list[Tensor]:
    """Apply an operator to each tensor: torch's fused version, or the plain one where torch has none of that name."""
    fused = getattr(torch, f"_foreach_{operator}", None)
    if fused is not None:
        found: list[Tensor] = fused(tensors, others, **options)
        return found
    plain = torch.linalg.vector_norm if operator == "norm" else getattr(Tensor, operator)
    many = others if isinstance(others, list | tuple) else [others] * len(tensors)
    return [plain(tensor, other, **options) for tensor, other in zip(tensors, many, strict=True)]


def backpropagate(losses: Tensor, weights: Tensor, *, retain_graph: bool) -> None:
    """Backpropagate losses, each with its weight: ``losses.backward(weights)`` without its checks.

    They take as long as the backward of a small network.

    Args:
        losses: Losses, shape ``(R,)``, with a graph.
        weights: Weights of the same shape, dtype and device.
        retain_graph: Whether the graph is kept for another backward.
    """
    if type(losses) is not Tensor:
        losses.backward(weights, retain_graph=retain_graph)  # type: ignore[no-untyped-call]
        return
    _ENGINE.run_backward((losses,), (weights,), retain_graph, False, (), allow_unreachable=True, accumulate_grad=True)


def outside_graphs(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Run a function outside compiled graphs, also where a whole training step is compiled."""
    made: list[Callable[Given, Result]] = []

    @wraps(function)
    def left_out(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        if not torch.compiler.is_dynamo_compiling():
            return function(*args, **kwargs)
        if not made:
            made.append(torch.compiler.disable(function))  # type: ignore[no-untyped-call]
        return made[0](*args, **kwargs)

    return left_out


def local(tensor: Tensor) -> Tensor:
    """Return the part of a tensor that this rank holds: all of it where it is not sharded."""
    # Told by its attribute: importing torch.distributed.tensor would cost everybody a third of a second.
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def real_parts(tensor: Tensor) -> Tensor:
    """Return the real numbers that a tensor on this rank is made of, to be drawn or changed in place."""
    own = local(tensor)
    return torch.view_as_real(own) if own.is_complex() else own


def is_sharded(tensor: Tensor) -> bool:
    """Return whether other ranks hold parts of the tensor."""
    # The plain kinds need no look for attributes that they lack, which takes longest where it finds none.
    return type(tensor) not in _PLAIN and hasattr(tensor, "placements") and hasattr(tensor, "to_local")


def summed_over_shards(own: Tensor, layout: Tensor) -> Tensor:
    """Add up a number that each rank has of its part."""
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    assert isinstance(layout, DTensor)
    placements = [Partial() if isinstance(each, Shard) else Replicate() for each in layout.placements]
    whole: Tensor = DTensor.from_local(own, layout.device_mesh, placements, run_check=False).full_tensor()
    return whole


def gathering(model: nn.Module | None) -> list[nn.Module]:
    """Return the modules that gather weights from all ranks for a forward."""
    return [module for module in model.modules() if hasattr(module, "reshard")] if model is not None else []


def gathered_again(modules: Sequence[nn.Module]) -> None:
    """Make the next forward gather the weights anew, where they have changed since the last one.

    Args:
        modules: Modules from :func:`gathering`.
    """
    for module in modules:
        module.reshard()  # type: ignore[operator]
