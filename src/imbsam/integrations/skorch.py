"""skorch: a mixin for ``NeuralNet`` and its subclasses."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from skorch.dataset import unpack_data
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from imbsam.errors import DataError, OptionError
from imbsam.integrations.batches import take_rows
from imbsam.integrations.micro_batches import use_model
from imbsam.integrations.targets import targets_for
from imbsam.optim import SharpnessAware


class _Net(Protocol):
    def initialize_criterion(self) -> object: ...
    def initialize_optimizer(self) -> object: ...
    def get_loss(self, y_pred: object, y_true: object, X: object = None, training: bool = False) -> Tensor: ...


class SharpnessAwareMixin:
    """Mixin to put before ``NeuralNetClassifier`` in a class's bases; ``optimizer`` is a function that makes ours.

    skorch calls it with the parameters, ``lr`` and the values given as ``optimizer__...``, so a grid search can vary
    ``optimizer__rho`` like any parameter. A criterion with ``reduction="mean"`` is set to ``"none"``; the mean over
    rows is taken where skorch needs one. If a row has several losses, as with several labels, its loss is their mean;
    as all rows have equally many, the mean over rows is the criterion's own. Callbacks that clip, schedule, score and
    save work as usual.

    Example:
        >>> def imbsam(params, lr, rho=0.05):  # doctest: +SKIP
        ...     return ImbSAM(torch.optim.SGD(params, lr=lr, momentum=0.9), tail, rho=rho)
        >>> class SharpNet(SharpnessAwareMixin, NeuralNetClassifier): ...  # doctest: +SKIP
        >>> SharpNet(Network, optimizer=imbsam, optimizer__rho=0.2, lr=0.1).fit(x, y)  # doctest: +SKIP
    """

    optimizer_: SharpnessAware
    module_: nn.Module
    criterion_: nn.Module
    infer: Callable[..., Tensor | tuple[Tensor, ...]]
    notify: Callable[..., None]
    get_all_learnable_params: Callable[[], object]
    _set_training: Callable[[bool], None]

    def initialize_criterion(self) -> object:
        """Make the criterion, with one loss for each row."""
        made = cast(_Net, super()).initialize_criterion()
        reduction = getattr(self.criterion_, "reduction", "none")
        if reduction == "sum":
            raise OptionError(
                'criterion__reduction="sum" has no loss for each row: leave it out, and the mean over rows is used.'
            )
        if reduction == "mean":
            self.criterion_.reduction = "none"  # type: ignore[assignment]
        return made

    def initialize_optimizer(self) -> object:
        """Make the optimizer, and tell it the module."""
        made = cast(_Net, super()).initialize_optimizer()
        if not isinstance(self.optimizer_, SharpnessAware):
            raise OptionError(
                f"optimizer made {type(self.optimizer_).__name__}: give a function that makes one of imbsam's, "
                "for example lambda params, lr: ImbSAM(torch.optim.SGD(params, lr=lr), tail)."
            )
        use_model(self.optimizer_, self.module_)
        return made

    def get_loss(self, y_pred: object, y_true: object, X: object = None, training: bool = False) -> Tensor:
        """Compute the loss of each row in training, shape ``(R,)``, else their mean.

        Raises:
            DataError: If predictions and targets differ in shape, so that the criterion would pair rows with other
                rows.
        """
        losses = cast(_Net, super()).get_loss(y_pred, y_true, X=X, training=training)
        if isinstance(y_pred, Tensor) and isinstance(y_true, Tensor) and losses.numel() > y_pred.numel():
            raise DataError(
                f"the criterion made losses of shape {tuple(losses.shape)} of predictions of shape "
                f"{tuple(y_pred.shape)} and targets of shape {tuple(y_true.shape)}: give both the same shape, "
                "for example by y.reshape(-1, 1) or a module that ends with squeeze(-1)."
            )
        if not training:
            return losses.mean()
        return losses.flatten(1).mean(1) if losses.ndim > 1 else losses

    def row_targets(self, X: object, y: object) -> Tensor:
        """Return the class of each row of a batch; by default ``y``. Without need for classes only their number counts.

        Args:
            X: The inputs of the batch.
            y: Its targets.

        Returns:
            Targets, shape ``(B,)``, or others that the method takes.

        Raises:
            DataError: If ``y`` is not a tensor.
        """
        if isinstance(y, Tensor):
            return y
        raise DataError(
            f"y of a batch is a {type(y).__name__}, which does not contain the class of each row: override "
            "row_targets(X, y) with a tensor of them."
        )

    def take_rows(self, X: object, y: object, rows: Tensor) -> object:
        """Return some rows of a batch; override it for batches other than tensors, lists and constants in containers.

        Args:
            X: The inputs of the batch.
            y: Its targets.
            rows: Indices of the rows, shape ``(R,)``, on the CPU.

        Returns:
            The rows of both, or ``NotImplemented`` to cut them as usual.
        """
        return NotImplemented

    def train_step_single(self, batch: object, **fit_params: object) -> dict[str, object]:
        """Make the passes over a batch.

        Returns:
            The mean ``loss`` at the unperturbed weights, and ``y_pred`` of each row from the first pass that forwards
            it.
        """
        self._set_training(True)
        x, y = unpack_data(batch)
        targets = targets_for(self.optimizer_, (x, y), lambda _: self.row_targets(x, y))
        size = len(targets)
        predicted: list[tuple[Tensor, tuple[Tensor, ...]]] = []
        seen = torch.zeros(size, dtype=torch.bool)
        with self.optimizer_.passes(targets) as passes:
            for each in passes:
                rows = each.rows.cpu()
                x_rows, y_rows = self._cut(x, y, rows, size)
                with torch.set_grad_enabled(each.needs_gradient):
                    outputs = self.infer(x_rows, **fit_params)
                    losses = self.get_loss(outputs, y_rows, X=x_rows, training=True)
                each.backward(losses)
                fresh = ~seen[rows]
                if bool(fresh.any()):
                    predicted.append((rows[fresh], _rows_of(outputs, fresh)))
                seen[rows] = True
        whole = _in_order(predicted)
        return {"loss": passes.loss, "y_pred": whole if isinstance(outputs, tuple) else whole[0]}

    def _cut(self, x: object, y: object, rows: Tensor, size: int) -> tuple[object, object]:
        if len(rows) == size:
            return x, y
        own = self.take_rows(x, y, rows)
        if own is NotImplemented:
            return take_rows(x, rows, size), take_rows(y, rows, size)
        return cast(tuple[object, object], own)

    def train_step(self, batch: object, **fit_params: object) -> dict[str, object]:
        """Make one step."""
        made = self.train_step_single(batch, **fit_params)
        self.notify("on_grad_computed", named_parameters=TeeGenerator(self.get_all_learnable_params()), batch=batch)
        self.optimizer_.step()
        return made


def _rows_of(outputs: Tensor | tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    """Return rows of a module's output: a tensor, or several in a tuple; one without rows is kept whole."""
    parts = outputs if isinstance(outputs, tuple) else (outputs,)
    return tuple(part.detach()[rows.to(part.device)] if part.ndim else part.detach() for part in parts)


def _in_order(pieces: list[tuple[Tensor, tuple[Tensor, ...]]]) -> tuple[Tensor, ...]:
    """Put the outputs of all rows into the order of the batch; of output without rows, the first pass's is kept."""
    order = torch.cat([rows for rows, _ in pieces]).argsort()
    columns = zip(*(parts for _, parts in pieces), strict=True)
    return tuple(
        column[0] if not column[0].ndim else torch.cat(column)[order.to(column[0].device)] for column in columns
    )
