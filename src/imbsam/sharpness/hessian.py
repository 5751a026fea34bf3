"""Products of the Hessian of a part's loss with vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from imbsam.sharpness.surface import LossSurface


@dataclass(frozen=True)
class _Slope:
    """Gradient of some rows' loss with its graph.

    Args:
        gradients: Gradients by the leaves that the loss depends on.
        leaves: Tensors of the weights.
        size: Size of the graph in bytes.
    """

    gradients: Mapping[str, Tensor]
    leaves: Mapping[str, Tensor]
    size: int


class HessianProduct:
    """Product ``H v`` of the Hessian of a part's loss at the model's weights, by two backwards (Pearlmutter 1994).

    The graph of the gradient does not depend on ``v``: it is kept as far as ``surface.graph_bytes`` allows, and a
    product is then one backward through it. Rows without a kept graph are forwarded again for each product.

    Args:
        surface: Loss surface to measure on.
        classes: Classes of the part.
    """

    def __init__(self, surface: LossSurface, classes: Sequence[int]) -> None:
        self._surface, self._classes = surface, classes
        self._batches = surface.batches(classes)
        self._kept: dict[int, _Slope] = {}
        self._room = surface.graph_bytes

    def __call__(self, vector: Tensor) -> Tensor:
        """Compute the product.

        Args:
            vector: Vector, shape ``(P,)``, of the surface's dtype.

        Returns:
            Tensor of shape ``(P,)``.

        Raises:
            NonFiniteError: If the product is NaN or infinite.
        """
        along = self._surface.shaped(vector)
        product = torch.zeros_like(vector)
        for number, places in enumerate(self._batches):
            slope = self._kept.get(number) or self._slope(places)
            if number in self._kept or slope.size <= self._room:
                self._room -= 0 if number in self._kept else slope.size
                self._kept[number] = slope
            product += _derivative(slope, along, keep=number in self._kept)
        self._surface.check_finite(product, "Hessian", self._classes)
        return product

    def _slope(self, places: Tensor) -> _Slope:
        leaves = self._surface.leaves()
        sizes: dict[int, int] = {}

        def pack(saved: Tensor) -> Tensor:
            storage = saved.untyped_storage()
            sizes[storage.data_ptr()] = storage.nbytes()
            # Detached: a node that held its own output would never be freed.
            return saved.detach()

        with saved_tensors_hooks(pack, lambda saved: saved):
            loss = self._surface.weighted_loss(leaves, places, self._classes)
            found = torch.autograd.grad(loss, list(leaves.values()), create_graph=True, materialize_grads=True)
        gradients = {name: g for name, g in zip(leaves, found, strict=True) if g.requires_grad}
        return _Slope(gradients, leaves, sum(sizes.values()))


def _derivative(slope: _Slope, along: Mapping[str, Tensor], *, keep: bool) -> Tensor:
    """Compute the derivative of the gradient in a direction, shape ``(P,)``, as that of <gradient, direction>."""
    leaves = list(slope.leaves.values())
    if not slope.gradients:
        return torch.cat([torch.zeros_like(leaf).flatten() for leaf in leaves])
    found = torch.autograd.grad(
        list(slope.gradients.values()),
        leaves,
        [along[name] for name in slope.gradients],
        retain_graph=keep,
        materialize_grads=True,
    )
    return torch.cat([part.flatten() for part in found])
