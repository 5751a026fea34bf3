"""skorch: a mixin for ``NeuralNet`` and its subclasses."""

from collections.abc import Callable
from typing import Protocol, cast

import torch
from skorch.dataset import unpack_data
from skorch.utils import TeeGenerator
from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.integrations.micro_batches import take_rows, use_model
from imbsam.optim import SharpnessAware


class _Net(Protocol):
    def initialize_criterion(self) -> object: ...
    def initialize_optimizer(self) -> object: ...
    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: object = None, training: bool = False) -> Tensor: ...


class SharpnessAwareMixin:
    """Stands before ``NeuralNetClassifier`` in a class's bases; ``optimizer`` is a function that makes one of ours.

    skorch calls it with the parameters, ``lr`` and what is given as ``optimizer__...``, so a grid search goes over
    ``optimizer__rho`` as over any parameter. A criterion with ``reduction="mean"`` is set to ``"none"``; the mean is
    taken where skorch wants one. Callbacks that clip, schedule, score and save work as ever.

    Example:
        >>> def imbsam(params, lr, rho=0.05):  # doctest: +SKIP
        ...     return ImbSAM(torch.optim.SGD(params, lr=lr, momentum=0.9), tail, rho=rho)
        >>> class SharpNet(SharpnessAwareMixin, NeuralNetClassifier): ...  # doctest: +SKIP
        >>> SharpNet(Network, optimizer=imbsam, optimizer__rho=0.2, lr=0.1).fit(x, y)  # doctest: +SKIP
    """

    optimizer_: SharpnessAware
    module_: nn.Module
    criterion_: nn.Module
    infer: Callable[..., Tensor]
    notify: Callable[..., None]
    get_all_learnable_params: Callable[[], object]
    _set_training: Callable[[bool], None]

    def initialize_criterion(self) -> object:
        """Make the criterion, with one loss for each row."""
        made = cast(_Net, super()).initialize_criterion()
        reduction = getattr(self.criterion_, "reduction", "none")
        if reduction == "sum":
            raise OptionError(
                'criterion__reduction="sum" has no loss for each row: leave it out, and the mean over rows is meant.'
            )
        if reduction == "mean":
            self.criterion_.reduction = "none"  # type: ignore[assignment]
        return made

    def initialize_optimizer(self) -> object:
        """Make the optimizer, and tell it the module."""
        made = cast(_Net, super()).initialize_optimizer()
        if not isinstance(self.optimizer_, SharpnessAware):
            raise OptionError(
                f"optimizer made {type(self.optimizer_).__name__}: give a function that makes one of imbsam's, as "
                "lambda params, lr: ImbSAM(torch.optim.SGD(params, lr=lr), tail)."
            )
        use_model(self.optimizer_, self.module_)
        return made

    def get_loss(self, y_pred: Tensor, y_true: Tensor, X: object = None, training: bool = False) -> Tensor:
        """The loss of each row in training, shape ``(R,)``, else their mean."""
        losses = cast(_Net, super()).get_loss(y_pred, y_true, X=X, training=training)
        return losses if training else losses.mean()

    def train_step_single(self, batch: object, **fit_params: object) -> dict[str, Tensor]:
        """Make the passes over a batch.

        Returns:
            The mean ``loss`` at the unperturbed weights, and ``y_pred`` of each row, as the first pass that forwards
            it predicts.
        """
        self._set_training(True)
        x, y = unpack_data(batch)
        predicted = torch.empty(0)
        seen = torch.zeros(len(y), dtype=torch.bool)
        with self.optimizer_.passes(y) as passes:
            for each in passes:
                rows = each.rows.cpu()
                x_rows = take_rows(x, rows, len(y))
                with torch.set_grad_enabled(each.needs_gradient):
                    outputs = self.infer(x_rows, **fit_params)
                    losses = self.get_loss(outputs, y[each.rows], X=x_rows, training=True)
                each.backward(losses)
                if not bool(seen.any()):
                    predicted = outputs.new_empty((len(y), *outputs.shape[1:]))
                fresh = ~seen[rows]
                predicted[rows[fresh].to(outputs.device)] = outputs.detach()[fresh.to(outputs.device)]
                seen[rows] = True
        return {"loss": passes.loss, "y_pred": predicted}

    def train_step(self, batch: object, **fit_params: object) -> dict[str, Tensor]:
        """Make one step."""
        made = self.train_step_single(batch, **fit_params)
        self.notify("on_grad_computed", named_parameters=TeeGenerator(self.get_all_learnable_params()), batch=batch)
        self.optimizer_.step()
        return made
