"""Loss surface: the mean loss of some classes as a function of the weights, and its gradient."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from imbsam.errors import ModelError, NonFiniteError, OptionError
from imbsam.sharpness.rows import Rows

Criterion = Callable[[Tensor, Tensor], Tensor]


class LossSurface:
    """Mean losses of classes around a model's weights, in evaluation mode.

    The loss of a part of the classes is the mean over the rows that they have in the data set,
    ``L = sum_c (n_c / n) mean_i l_i``; each class mean is estimated on the rows that were drawn of it. A point is a
    vector of all trainable weights, shape ``(P,)``.

    The model is called with other tensors in place of its weights, which are never written. After each call its mode
    and its buffers are the same as before, also if it raises an error.

    Args:
        model: Model whose rows do not see each other in evaluation mode.
        criterion: Function of the model's output and targets ``(b,)`` that returns losses ``(b,)``.
        rows: Rows whose losses are computed.
        batch_size: Largest number of rows forwarded at once.
        dtype: Dtype to compute in; by default that of the weights. Use ``torch.float64`` for reference values.
        graph_bytes: Approximate memory in which Hessian products may keep graphs from one product to the next.

    Attributes:
        forwarded: Number of rows forwarded so far.

    Raises:
        ModelError: If no weight is trainable, or a BatchNorm normalises by the batch in evaluation mode too.
        OptionError: If ``batch_size`` is below 1 or ``dtype`` is not floating.
    """

    def __init__(
        self,
        model: nn.Module,
        criterion: Criterion,
        rows: Rows,
        *,
        batch_size: int = 128,
        dtype: torch.dtype | None = None,
        graph_bytes: int = 2**30,
    ) -> None:
        trainable = {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}
        if not trainable:
            raise ModelError("the model has no trainable weight, so its loss has no surface.")
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
                raise ModelError(
                    f"{name or 'the model'} is a BatchNorm without running statistics: the loss of a row depends on "
                    "the rows beside it. Measure a model with track_running_stats=True."
                )
        if batch_size < 1:
            raise OptionError(f"batch_size must be at least 1; got {batch_size}.")
        dtype = next(iter(trainable.values())).dtype if dtype is None else dtype
        if not dtype.is_floating_point:
            raise OptionError(f"dtype must be a floating one, such as torch.float64; got {dtype}.")
        self.model, self.criterion, self.rows = model, criterion, rows
        self.batch_size, self.dtype, self.graph_bytes = batch_size, dtype, graph_bytes
        self.forwarded = 0
        self.shapes: Mapping[str, torch.Size] = {name: p.shape for name, p in trainable.items()}
        self.weights = torch.cat([p.to(dtype).flatten() for p in trainable.values()])

    @property
    def classes(self) -> list[int]:
        """Every class that has a row."""
        return self.rows.present

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.weights.device

    def shaped(self, vector: Tensor) -> dict[str, Tensor]:
        """Return a vector as tensors with the weights' names and shapes, which share its memory.

        Args:
            vector: Vector, shape ``(P,)``.
        """
        parts = torch.split(vector, [shape.numel() for shape in self.shapes.values()])
        return {name: part.view(shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def losses(self, point: Mapping[str, Tensor], inputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the loss of each row at a point.

        Args:
            point: Tensors of the point by name, with the weights' shapes.
            inputs: Inputs, shape ``(b, ...)``.
            targets: Class of each sample, shape ``(b,)``.

        Returns:
            Losses, shape ``(b,)``.

        Raises:
            OptionError: If the criterion does not return one loss per row.
        """
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        if inputs.is_floating_point():
            inputs = inputs.to(self.dtype)
        others = {
            name: (t.detach().to(self.dtype) if t.is_floating_point() else t.detach().clone())
            for name, t in (*self.model.named_parameters(), *self.model.named_buffers())
            if name not in point
        }
        self.forwarded += len(targets)
        with _evaluating(self.model), torch.autocast(self.device.type, enabled=False):
            found: Tensor = self.criterion(functional_call(self.model, {**others, **point}, (inputs,)), targets)
        if found.shape != targets.shape:
            raise OptionError(
                f"the criterion must return one loss per row, shape {tuple(targets.shape)}; got {tuple(found.shape)}. "
                'Use reduction="none".'
            )
        return found

    @torch.no_grad()
    def class_losses(self, point: Tensor | None = None, classes: Sequence[int] | None = None) -> Tensor:
        """Compute the mean loss of each class at a point: one pass over the rows serves all classes and groups.

        Args:
            point: Point, shape ``(P,)``; by default the model's weights.
            classes: Classes to measure; by default all that have rows.

        Returns:
            Tensor of shape ``(C,)``, float64, on the CPU; NaN for a class without rows or that was not asked for. Far
            from the weights a loss may be infinite.
        """
        tensors = self.shaped(self.weights if point is None else point)
        sums = torch.zeros(self.rows.num_classes, dtype=torch.float64)
        chosen = self.classes if classes is None else classes
        for places in self.batches(chosen):
            targets = self.rows.targets[places]
            sums.index_add_(0, targets, self.losses(tensors, self.rows.inputs(places), targets).double().cpu())
        sums /= self.rows.drawn
        absent = torch.ones_like(sums, dtype=torch.bool)
        absent[list(chosen)] = False
        return sums.masked_fill(absent, torch.nan)

    def mean_loss(self, class_losses: Tensor, classes: Sequence[int]) -> Tensor:
        """Compute the loss of a part from the losses of its classes.

        Args:
            class_losses: Losses from :meth:`class_losses`, shape ``(..., C)``.
            classes: Classes of the part.

        Returns:
            Tensor of shape ``(...)``, float64.
        """
        shares = self.rows.shares(classes)
        present = shares > 0
        return class_losses[..., present] @ shares[present]

    def loss(self, classes: Sequence[int], point: Tensor | None = None) -> float:
        """Compute the loss of a part of the classes at a point.

        Args:
            classes: Classes of the part.
            point: Point, shape ``(P,)``; by default the model's weights.
        """
        return float(self.mean_loss(self.class_losses(point, self._present(classes)), classes))

    def gradient(self, classes: Sequence[int], point: Tensor | None = None) -> tuple[float, Tensor]:
        """Compute the loss of a part of the classes and its gradient.

        Args:
            classes: Classes of the part.
            point: Point, shape ``(P,)``; by default the model's weights.

        Returns:
            The loss, and the gradient, shape ``(P,)``.

        Raises:
            NonFiniteError: If either is NaN or infinite.
        """
        total, gradient = 0.0, torch.zeros_like(self.weights)
        for places in self.batches(classes):
            leaves = self.leaves(point)
            loss = self.weighted_loss(leaves, places, classes)
            found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
            gradient += torch.cat([g.flatten() for g in found])
            total += float(loss.detach())
        self.check_finite(torch.tensor(total), "loss", classes)
        self.check_finite(gradient, "gradient", classes)
        return total, gradient

    def weighted_loss(self, point: Mapping[str, Tensor], places: Tensor, classes: Sequence[int]) -> Tensor:
        """Compute the contribution of some of a part's rows to its loss, with a graph.

        Args:
            point: Tensors of a point by name, with the weights' shapes.
            places: Indices of the rows among those drawn, shape ``(b,)``.
            classes: Classes of the part.

        Returns:
            A scalar.
        """
        each = self.rows.shares(classes) / self.rows.drawn.clamp(min=1)
        targets = self.rows.targets[places]
        losses = self.losses(point, self.rows.inputs(places), targets)
        return losses @ each[targets].to(losses)

    def batches(self, classes: Sequence[int]) -> Sequence[Tensor]:
        """Return the indices of a part's rows among those drawn, cut into batches.

        Args:
            classes: Classes of the part.
        """
        return torch.split(self.rows.places(classes), self.batch_size)

    def leaves(self, point: Tensor | None = None) -> dict[str, Tensor]:
        """Return the tensors of a point, as leaves to take gradients by.

        Args:
            point: Point, shape ``(P,)``; by default the model's weights.
        """
        shaped = self.shaped(self.weights if point is None else point)
        return {name: part.detach().requires_grad_() for name, part in shaped.items()}

    def check_finite(self, values: Tensor, what: str, classes: Sequence[int]) -> None:
        """Refuse values that are NaN or infinite.

        Args:
            values: Values of any shape.
            what: Name of the values, for the message.
            classes: Classes of which they are.

        Raises:
            NonFiniteError: If a value is NaN or infinite; the message names the first class whose own loss is.
        """
        if bool(values.isfinite().all()):
            return
        losses = self.class_losses(classes=self._present(classes))
        culprit = next((f" (class {c}: mean loss {losses[c]:g})" for c in classes if losses[c].isinf()), "")
        culprit = culprit or next((f" (class {c})" for c in self._present(classes) if losses[c].isnan()), "")
        raise NonFiniteError(
            f"the {what} of {len(classes)} of {self.rows.num_classes} classes is not finite{culprit}. Check the "
            "model's weights and the rows; a wider dtype helps if numbers overflow."
        )

    def _present(self, classes: Sequence[int]) -> list[int]:
        return [index for index in classes if self.rows.drawn[index]]


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the mode of each module afterwards."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True
