"""Directions of a perturbation: the interface of the rules, and the plain rule, along the gradient."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from imbsam.optim._numbers import check_number
from imbsam.optim._tensors import each, is_sharded, local, summed_over_shards

Memory = Mapping[Tensor, Tensor]
"""Tensors that a rule keeps for each parameter from step to step."""


@dataclass(frozen=True)
class Slope:
    """Parameters of one group that a rule may move, aligned with their gradients.

    Args:
        rho: Neighbourhood size.
        params: Parameters, of any shapes.
        grads: Their ascent gradients, of the same shapes, which a rule may overwrite; empty for a rule that needs none.
        names: Their names, where known.
        state: State of the base optimizer by parameter, which includes tensors of its shape; not to be changed.
        options: Options of the group, such as ``lr`` and ``momentum``.
        step: Number of steps made so far.
    """

    rho: float
    params: list[Tensor]
    grads: list[Tensor]
    names: list[str | None]
    state: Mapping[Tensor, Mapping[str, object]] = field(default_factory=dict)
    options: Mapping[str, object] = field(default_factory=dict)
    step: int = 0


@dataclass(frozen=True)
class Climbed:
    """Result of a rule that moved the parameters.

    Args:
        norm: Norm of the gradient, shape ``()``, by which a non-finite one is noticed; ``None`` without a gradient.
        memory: Tensors to keep once the step has been made, by parameter and shaped like it.
    """

    norm: Tensor | None = None
    memory: Memory = field(default_factory=dict)


class Ascent:
    """A rule that moves parameters along their ascent gradient."""

    spares_passes = False
    """Whether some or all steps are made without an ascent gradient."""
    learns = False
    """Whether the rule looks at the gradients that its terms had in the step, see :meth:`learn`."""
    remembers = False
    """Whether a direction depends on earlier steps, so that ranks that climb apart would keep different memories."""

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        """Return whether the rule looks at the ascent gradient of this step; if not, a pass is saved.

        Args:
            memory: Tensors that the rule kept in earlier steps of the same term, by parameter and shaped like it.
            step: Number of steps made so far.
        """
        return True

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters, in place.

        Args:
            slopes: One entry per parameter group; the groups share one global norm.
            memory: Tensors that the rule kept in earlier steps of the same term, by parameter and shaped like it.

        Returns:
            The gradient's norm, and the tensors to keep.
        """
        raise NotImplementedError

    def learn(self, gradient: Mapping[Tensor, Tensor], memory: Memory) -> Memory:
        """Look at the gradient of a perturbed term in the step; called where :attr:`learns` is set.

        Args:
            gradient: Gradient at the perturbed weights, by parameter and shaped like it; not to be overwritten.
            memory: Tensors that the rule kept in earlier steps of the same term, by parameter and shaped like it.

        Returns:
            Tensors to keep once the step has been made.
        """
        raise NotImplementedError


class Gradient(Ascent):
    """Ascent along the normalised gradient, ``e = rho * g / (|g| + d)`` (Foret et al. 2021, eq. 2; d = 0 there).

    The norm is global, over all parameters of all groups. A zero gradient gives no perturbation.

    Args:
        damping: d. When the tail's loss is almost zero, its gradient is only noise. Plain normalisation turns it into a
            perturbation of full length; damping keeps it short.

    Raises:
        OptionError: If ``damping`` is negative or not finite.
    """

    def __init__(self, damping: float = 0.0) -> None:
        self.damping = checked_damping(damping)

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add ``rho * g / (|g| + d)`` to the parameters."""
        norm = global_norm([g for slope in slopes for g in slope.grads])
        add_normalised(slopes, norm, self.damping)
        return Climbed(norm)

    def __repr__(self) -> str:
        return f"Gradient(damping={self.damping})"


def checked_damping(damping: float) -> float:
    """Return a damping that is finite and at least 0.

    Raises:
        OptionError: If the damping is negative or not finite.
    """
    check_number("damping", damping, least=0)
    return damping


def add_normalised(slopes: Sequence[Slope], norm: Tensor, damping: float) -> None:
    """Add ``rho * g / (norm + damping)`` to the parameters, or nothing where rho is 0; overwrites the gradients."""
    length = norm + damping if damping else norm
    for slope in slopes:
        # No perturbation along a zero gradient, or one of NaN.
        scale = (slope.rho / length).nan_to_num_(nan=0.0, posinf=0.0)
        for params, grads in _by_device(slope.params, slope.grads):
            on_device = scale.to(grads[0].device, non_blocking=True)
            if any(g.is_sparse for g in grads):
                for p, g in zip(params, grads, strict=True):
                    p.add_(g * on_device.to(g.dtype))
            else:
                own = [local(g) for g in grads]
                each("mul_", own, on_device)
                each("add_", [local(p) for p in params], own)


def global_norm(grads: Sequence[Tensor]) -> Tensor:
    """Compute the Euclidean norm over all tensors together, for sharded ones over the parts of all ranks.

    Args:
        grads: Dense or sparse tensors of any floating or complex dtype, on any devices; at least one.

    Returns:
        A scalar on the first tensor's device, float64 if any tensor is, else float32: half precision would
        overflow in the squares.
    """
    together = norm_of_one_kind(grads)
    if together is not None:
        return together
    values, dtype = [], torch.float32
    for g in grads:
        value = g.coalesce().values() if g.is_sparse else local(g)
        value = torch.view_as_real(value) if value.is_complex() else value
        dtype = torch.float64 if value.dtype == torch.float64 else dtype
        values.append(value)
    norms = each("norm", values, 2, dtype=dtype)
    if any(map(is_sharded, grads)):
        return _over_ranks([norm.square() for norm in norms], grads).sqrt()
    home = norms[0].device
    norm: Tensor = torch.linalg.vector_norm(torch.stack([n.to(home, non_blocking=True) for n in norms]))
    return norm


def norm_of_one_kind(tensors: Sequence[Tensor]) -> Tensor | None:
    """Compute the norm of :func:`global_norm` where no tensor needs a treatment of its own, else return ``None``.

    Args:
        tensors: Tensors as for :func:`global_norm`.
    """
    kinds = {(type(t), t.layout, t.dtype, t.device) for t in tensors}
    kind, layout, dtype, _ = next(iter(kinds))
    if len(kinds) > 1 or kind is not Tensor or layout is not torch.strided:
        return None
    if dtype not in (torch.float32, torch.float64):
        return None
    norm: Tensor = torch.linalg.vector_norm(torch.stack(each("norm", tensors, 2)))
    return norm


def _over_ranks(own: Sequence[Tensor], tensors: Sequence[Tensor]) -> Tensor:
    """Sum numbers that belong to tensors, by one message for all tensors sharded over the same ranks."""
    layouts: dict[tuple[object, ...], tuple[Tensor, list[Tensor]]] = {}
    for number, tensor in zip(own, tensors, strict=True):
        key = (tensor.device_mesh, *tensor.placements) if is_sharded(tensor) else ()  # type: ignore[attr-defined]
        layouts.setdefault(key, (tensor, []))[1].append(number)
    home = own[0].device
    sums = [(tensor, torch.stack([n.to(home) for n in numbers]).sum()) for tensor, numbers in layouts.values()]
    whole = [summed_over_shards(number, tensor) if is_sharded(tensor) else number for tensor, number in sums]
    return torch.stack(whole).sum()


def _by_device(params: list[Tensor], grads: list[Tensor]) -> list[tuple[list[Tensor], list[Tensor]]]:
    devices = {g.device for g in grads}
    if len(devices) == 1:
        return [(params, grads)]
    pairs = list(zip(params, grads, strict=True))
    return [
        ([p for p, g in pairs if g.device == device], [g for _, g in pairs if g.device == device])
        for device in sorted(devices, key=str)
    ]


def _real(tensor: Tensor) -> Tensor:
    """Return a tensor of real numbers; a complex tensor is split into its real and imaginary part."""
    if not tensor.is_complex():
        return tensor
    return torch.view_as_real(tensor.to_dense() if tensor.is_sparse else tensor.resolve_conj())


def dot(first: Sequence[Tensor], second: Sequence[Tensor]) -> Tensor:
    """Compute the inner product over all tensors together, for complex ones its real part ``Re(sum conj(a) b)``.

    Args:
        first: Dense or sparse tensors, at least one.
        second: Tensors, as many and of the same shapes.

    Returns:
        A scalar on the first tensor's device, float64 if any tensor is, else float32.
    """
    pairs = [(_real(local(a)), _real(local(b))) for a, b in zip(first, second, strict=True)]
    dtype = torch.float64 if any(a.dtype == torch.float64 for a, _ in pairs) else torch.float32
    home = first[0].device
    products = [(a * b).sum(dtype=dtype).to(home, non_blocking=True) for a, b in pairs]
    return _over_ranks(products, first) if any(map(is_sharded, first)) else torch.stack(products).sum()
