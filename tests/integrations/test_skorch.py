"""In skorch a model ends at the weights of the plain loop, and scikit-learn searches over its options."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring, GradientNormClipping, LRScheduler
from torch import Tensor, nn

from cases import MLP, Case
from imbsam.errors import OptionError, PassError
from imbsam.integrations.skorch import SharpnessAwareMixin
from integrations import plain
from integrations.plain import BATCH_SIZE, CASES, METHODS


class SharpNet(SharpnessAwareMixin, NeuralNetClassifier):
    pass


def net(name: str, case: Case = MLP, dtype: torch.dtype = torch.float64, **options: object) -> SharpNet:
    settings = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": partial(plain.optimizer_over, name=name),
        "optimizer__rho": 0.05,
        "lr": 0.1,
        "max_epochs": 2,
        "batch_size": BATCH_SIZE,
        "train_split": None,
        "verbose": 0,
    }
    return SharpNet(partial(case.model, dtype), **{**settings, **options})


def arrays(case: Case = MLP) -> tuple[np.ndarray, np.ndarray]:
    return tuple(tensor.numpy() for tensor in plain.dataset(case).tensors)


def by_hand(
    name: str, case: Case = MLP, *, epochs: int = 2, rho: float = 0.05, clip: float | None = None, gamma: float = 1.0
) -> tuple[nn.Module, list[float]]:
    model = case.model()
    optimizer = plain.optimizer_for(name, model, rho=rho)
    return model, plain.train(
        model,
        optimizer,
        plain.batches(plain.dataset(case)),
        epochs=epochs,
        clip=(lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)) if clip else lambda: None,
        scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=gamma) if gamma < 1 else None,
    )


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_float64_ends_at_the_same_weights_bit_for_bit(name: str, case: Case) -> None:
    made = net(name, case).fit(*arrays(case))
    model, losses = by_hand(name, case)
    assert plain.same(made.module_, model)
    batches = [batch["train_loss"] for epoch in made.history[:, "batches"] for batch in epoch]
    assert batches == losses


def test_clipping_sees_the_combined_gradient() -> None:
    made = net("imbsam", callbacks=[GradientNormClipping(0.1)]).fit(*arrays())
    assert plain.same(made.module_, by_hand("imbsam", clip=0.1)[0])
    assert not plain.same(made.module_, by_hand("imbsam")[0])


def test_a_learning_rate_schedule_reaches_the_base_optimizer() -> None:
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5, step_every="batch")
    made = net("sam", callbacks=[schedule]).fit(*arrays())
    assert plain.same(made.module_, by_hand("sam", gamma=0.5)[0])


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str, tmp_path: Path) -> None:
    files = {"f_params": tmp_path / "model.pt", "f_optimizer": tmp_path / "optimizer.pt"}
    first = net(name, max_epochs=1).fit(*arrays())
    first.save_params(**files)
    second = net(name).initialize()
    second.load_params(**files)
    second.partial_fit(*arrays())
    assert plain.same(second.module_, by_hand(name, epochs=3)[0])


def test_predictions_in_training_are_those_at_the_weights_of_each_row_in_order() -> None:
    made = net("imbsam").initialize()
    x, y = plain.dataset().tensors
    expected = made.module_(x)
    step = made.train_step_single((x, y))
    torch.testing.assert_close(step["y_pred"], expected, atol=1e-12, rtol=0)
    assert float(step["loss"]) == pytest.approx(float(plain.losses_of(made.module_, (x, y)).mean().detach()))


def test_scores_on_training_and_validation_rows_are_means() -> None:
    accuracy = EpochScoring("accuracy", on_train=True, lower_is_better=False, name="train_accuracy")
    made = net("imbsam", train_split=lambda dataset, y: (dataset, dataset), callbacks=[accuracy]).fit(*arrays())
    x, y = plain.dataset().tensors
    assert made.history[-1, "valid_loss"] == pytest.approx(
        float(plain.losses_of(made.module_, (x, y)).mean().detach()), rel=1e-9
    )
    assert 0 < made.history[-1, "train_accuracy"] < 1


def test_the_default_criterion_of_skorch_serves() -> None:
    made = SharpNet(
        lambda: nn.Sequential(MLP.model(), nn.Softmax(1)),
        optimizer=partial(plain.optimizer_over, name="imbsam"),
        max_epochs=1,
        lr=0.1,
        batch_size=BATCH_SIZE,
        verbose=0,
        train_split=None,
    )
    losses = made.fit(*arrays()).history[-1, "train_loss"]
    assert losses == pytest.approx(np.average(by_hand("imbsam", epochs=1)[1], weights=[6, 6, 6, 6, 2]), rel=1e-6)


def test_a_grid_search_over_rho_refits_at_the_best() -> None:
    x, y = arrays()
    y = y % 3  # Three rows of each class and more, for two folds.
    search = GridSearchCV(net("sam"), {"optimizer__rho": [0.0, 0.3], "lr": [0.01, 0.1]}, cv=2, scoring="accuracy")
    search.fit(x, y)
    best = search.best_params_
    assert search.best_estimator_.optimizer_.param_groups[0]["rho"] == best["optimizer__rho"]
    again = clone(net("sam")).set_params(**best).fit(x, y)
    assert plain.same(again.module_, search.best_estimator_.module_)


def test_rho_can_be_set_on_a_net_that_has_been_trained() -> None:
    made = net("imbsam").fit(*arrays())
    made.set_params(optimizer__rho=0.7)
    assert made.optimizer_.param_groups[0]["rho"] == 0.7


def test_a_net_can_be_pickled_and_trained_on() -> None:
    made = net("looksam", max_epochs=1).fit(*arrays())
    again = pickle.loads(pickle.dumps(made))
    again.partial_fit(*arrays())
    assert plain.same(again.module_, by_hand("looksam")[0])


def test_an_optimizer_of_another_kind_is_refused() -> None:
    with pytest.raises(OptionError, match="optimizer made SGD"):
        net("sam", optimizer=lambda params, lr, rho: torch.optim.SGD(params, lr=lr)).fit(*arrays())


def test_a_sum_is_refused() -> None:
    with pytest.raises(OptionError, match="no loss for each row"):
        net("sam", criterion__reduction="sum").fit(*arrays())


def test_without_the_mixin_a_class_aware_method_is_named() -> None:
    made = NeuralNetClassifier(
        MLP.model,
        criterion=nn.CrossEntropyLoss,
        optimizer=partial(plain.optimizer_over, name="imbsam"),
        train_split=None,
        verbose=0,
    )
    with pytest.raises(TypeError, match="needs the class of each row"):
        made.fit(*arrays())


def test_without_the_mixin_a_class_agnostic_method_takes_the_closure_of_skorch() -> None:
    made = NeuralNetClassifier(
        MLP.model,
        criterion=nn.CrossEntropyLoss,
        optimizer=partial(plain.optimizer_over, name="sam"),
        lr=0.1,
        max_epochs=2,
        batch_size=BATCH_SIZE,
        train_split=None,
        verbose=0,
    ).fit(*arrays())
    torch.testing.assert_close(made.module_.state_dict(), by_hand("sam")[0].state_dict(), atol=1e-14, rtol=0)


def test_a_criterion_that_gives_a_mean_is_named() -> None:
    class Mean(nn.Module):
        def forward(self, logits: Tensor, y: Tensor) -> Tensor:
            return nn.functional.cross_entropy(logits, y)

    with pytest.raises(PassError, match="reduction='none'"):
        net("sam", criterion=Mean).fit(*arrays())
