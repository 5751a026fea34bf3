"""Weights that are spread over ranks, as ``fully_shard`` leaves them: what a rank holds, and what all hold together."""

from torch import Tensor, nn


def local(tensor: Tensor) -> Tensor:
    """The part of a tensor that this rank holds: all of it, where it is not sharded."""
    # Told by its attribute: importing torch.distributed.tensor would cost everybody a third of a second.
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def is_sharded(tensor: Tensor) -> bool:
    """Whether other ranks hold parts of the tensor."""
    return hasattr(tensor, "placements") and hasattr(tensor, "to_local")


def summed_over_shards(own: Tensor, layout: Tensor) -> Tensor:
    """Add up a number that each rank has of its part.

    Args:
        own: This rank's number, shape ``()``.
        layout: A sharded tensor that says which ranks hold other parts, and which hold copies.

    Returns:
        Shape ``()``, the same on every rank.
    """
    from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

    assert isinstance(layout, DTensor)
    placements = [Partial() if isinstance(each, Shard) else Replicate() for each in layout.placements]
    whole: Tensor = DTensor.from_local(own, layout.device_mesh, placements, run_check=False).full_tensor()
    return whole


def gathered_again(model: nn.Module | None) -> None:
    """Let the next forward gather the weights anew, where they have changed since the last one."""
    for module in model.modules() if model is not None else ():
        if hasattr(module, "reshard"):
            module.reshard()  # type: ignore[operator]
