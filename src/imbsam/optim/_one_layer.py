"""Perturbations of one linear layer, a different one for each class, in one pass over all rows."""

from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from imbsam.errors import PassError

if TYPE_CHECKING:
    from imbsam.optim._step import Step


class OneLayer:
    """Inputs and output gradients of a layer ``z = f W' + b`` in a step, and the effect of its perturbations on each row.

    The gradient of a class's mean loss is ``g_c = sum_j d_j f_j'`` for the weights and ``sum_j d_j`` for the bias, over
    the class's rows j, with ``d_j`` the gradient of the mean loss at ``z_j``. So a perturbation ``s_c g_c`` changes the
    output of a row i of the class by ``s_c sum_j d_j (f_j . f_i + 1)``: no class needs weights of its own.

    Args:
        layer: The layer, which takes one row for each row of the batch, in order.
        classes: Classes of the rows, shape ``(B,)``, int64.
        shares: Factor from the gradient of the step's loss at a row's output to that of its class's mean loss, shape
            ``(B,)``.
        factors: Factor on the perturbation of each row's class, shape ``(B,)``.
    """

    def __init__(self, layer: nn.Linear, classes: Tensor, shares: Tensor, factors: Tensor) -> None:
        self._layer = layer
        self._classes = classes
        self._shares = shares
        self._factors = factors
        self._handle: RemovableHandle | None = None
        self._seen: dict[int, tuple[Tensor, Tensor | None]] = {}
        self._scales: tuple[Tensor, Tensor] | None = None

    def watch(self, step: "Step | None") -> None:
        """Record the layer's inputs in the passes of a step; with ``None`` stop recording."""
        if step is not None:
            self._step = step
            self._handle = self._layer.register_forward_hook(self._called)
        elif self._handle is not None:
            self._handle.remove()

    def _called(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
        span, (features,) = self._step.span, inputs
        if features.ndim != 2 or len(features) != span.stop - span.start:
            raise PassError(
                f"the classifier was called with shape {tuple(features.shape)} in a pass over {span.stop - span.start} "
                "rows: classifier= needs a layer that takes one row of features for each row of the batch."
            )
        if self._scales is not None:
            return output + self._moved(features, span).to(output.dtype)
        self._seen[span.start] = (features.detach(), None)
        if output.requires_grad:
            output.register_hook(  # type: ignore[no-untyped-call]
                lambda grad: self._seen.update({span.start: (features.detach(), grad)})
            )
        return None

    def _all(self, which: int) -> Tensor:
        parts = [part for _, seen in sorted(self._seen.items()) if (part := seen[which]) is not None]
        found = torch.cat(parts) if parts else torch.empty(0)
        if len(found) != len(self._classes):
            raise PassError("a pass did not go through the classifier: classifier= names a layer that is not in use.")
        return found.to(torch.promote_types(found.dtype, torch.float32))

    @cached_property
    def _features(self) -> Tensor:
        return self._all(0)

    @cached_property
    def _slopes(self) -> Tensor:
        """d, shape ``(B, K)``: of the losses themselves, whatever they are multiplied by."""
        grads = self._all(1)
        return grads * (self._shares.to(grads) / self._step.loss_scale)[:, None]

    @cached_property
    def _same(self) -> Tensor:
        """1 where two rows are of one class, shape ``(B, B)``."""
        classes = self._classes.to(self._slopes.device)
        return (classes[:, None] == classes).to(self._slopes)

    def squares(self) -> tuple[Tensor, Tensor]:
        """The squared norm of the gradients of weights and of bias for each row's class, shape ``(B,)`` each."""
        products = self._slopes @ self._slopes.T * self._same
        pairs = products * (self._features @ self._features.T)
        # One sum over the pairs of a class, for each of its rows.
        of_weights, of_bias = (self._same @ each.sum(1) for each in (pairs, products))
        return of_weights.clamp(min=0), of_bias.clamp(min=0)

    def move(self, of_weights: Tensor, of_bias: Tensor) -> None:
        """Perturb both in the forwards to come by their gradient times the class's factor and these, ``(B,)`` each."""
        factors = self._factors.to(of_weights)
        self._scales = factors * of_weights, factors * of_bias

    def _moved(self, features: Tensor, span: slice) -> Tensor:
        assert self._scales is not None
        of_weights, of_bias = (each[span, None] for each in self._scales)
        alike = features.to(self._features.dtype) @ self._features.T
        return (self._same[span] * (of_weights * alike + of_bias)) @ self._slopes
