"""In skorch a model ends at the weights of the plain loop, and scikit-learn searches over its options."""

import pickle
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import EpochScoring, GradientNormClipping, LRScheduler
from torch import Tensor, nn

from cases import MLP, Case
from imbsam.errors import DataError, OptionError, PassError
from imbsam.integrations.skorch import SharpnessAwareMixin
from imbsam.optim import ImbSAM
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


class Squeezed(nn.Module):
    """One number a row, as binary classifiers and regressors have it."""

    def __init__(self, *, outputs: int = 1, squeeze: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, outputs, dtype=torch.float64)
        self.squeeze = squeeze

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).squeeze(-1) if self.squeeze else self.layer(x)


X = plain.dataset().tensors[0].numpy()
KINDS = {
    "binary": (NeuralNetBinaryClassifier, nn.BCEWithLogitsLoss, {}, (X[:, 0] > 0).astype(np.float64)),
    "regression": (NeuralNetRegressor, nn.MSELoss, {}, X[:, 0]),
    "regression of columns": (NeuralNetRegressor, nn.MSELoss, {"squeeze": False}, X[:, :1]),
    "several labels": (
        NeuralNet,
        nn.BCEWithLogitsLoss,
        {"outputs": 3, "squeeze": False},
        (X[:, :3] > 0).astype(np.float64),
    ),
}


def of_kind(kind: str, *, mixed_in: bool = True, optimizer: object = None, **options: object) -> NeuralNet:
    net, criterion, module, _ = KINDS[kind]
    made = type("Sharp", (SharpnessAwareMixin, net) if mixed_in else (net,), {})
    settings = {"lr": 0.1, "max_epochs": 2, "batch_size": BATCH_SIZE, "train_split": None, "verbose": 0}
    optimizer = optimizer or partial(plain.optimizer_over, name="sam")
    return made(partial(Squeezed, **module), criterion=criterion, optimizer=optimizer, **{**settings, **options})


@pytest.mark.parametrize("mixed_in", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_without_classes_takes_any_targets(kind: str, mixed_in: bool) -> None:
    _, criterion, module, y = KINDS[kind]
    made = of_kind(kind, mixed_in=mixed_in).fit(X, y)
    model = Squeezed(**module)
    optimizer = plain.optimizer_for("sam", model)
    for _ in range(2):
        for x_rows, y_rows in zip(torch.tensor(X).split(BATCH_SIZE), torch.tensor(y).split(BATCH_SIZE), strict=True):

            def closure(x_rows: Tensor = x_rows, y_rows: Tensor = y_rows) -> Tensor:
                optimizer.zero_grad()
                loss = criterion()(model(x_rows), y_rows)
                loss.backward()
                return loss

            loss = optimizer.step(closure)
    torch.testing.assert_close(made.module_.state_dict(), model.state_dict(), atol=1e-14, rtol=0)
    assert made.history[-1, "batches", -1, "train_loss"] == pytest.approx(float(loss), rel=1e-12)
    assert made.forward(X).shape == y.shape


@pytest.mark.parametrize("kind", KINDS)
def test_predictions_in_training_have_the_shape_of_the_outputs(kind: str) -> None:
    made = of_kind(kind).initialize()
    x, y = torch.tensor(X), torch.tensor(KINDS[kind][3])
    expected = made.module_(x).detach()
    assert torch.equal(made.train_step_single((x, y))["y_pred"], expected)


def binary_imbsam(params: object, lr: float) -> ImbSAM:
    return ImbSAM(torch.optim.SGD(params, lr=lr), torch.tensor([False, True]))


def test_a_binary_classifier_may_give_its_classes_as_integers() -> None:
    class Sharp(SharpnessAwareMixin, NeuralNetBinaryClassifier):
        def row_targets(self, X: object, y: Tensor) -> Tensor:
            return y.long()

    made = Sharp(Squeezed, optimizer=binary_imbsam, train_split=None, verbose=0, max_epochs=1)
    before = Squeezed().layer.weight
    made.fit(X, KINDS["binary"][3])
    assert not torch.equal(made.module_.layer.weight, before)


def test_predictions_that_meet_targets_of_another_shape_are_named() -> None:
    made = of_kind("regression", module__squeeze=False)
    with (
        pytest.warns(UserWarning, match="Using a target size"),
        pytest.raises(DataError, match=r"losses of shape \(6, 6\) of predictions of shape \(6, 1\)"),
    ):
        made.fit(X, X[:, 0])


class Pairs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = MLP.model()

    def forward(self, one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        return self.net(one + other), other


class Own(SharpnessAwareMixin, NeuralNet):
    """Targets in a mapping, and outputs in a tuple."""

    def row_targets(self, X: object, y: dict[str, Tensor]) -> Tensor:
        return y["class"]

    def get_loss(self, y_pred: object, y_true: dict[str, Tensor], X: object = None, training: bool = False) -> Tensor:
        return super().get_loss(y_pred[0], y_true["class"], X=X, training=training)


def test_targets_in_a_mapping_and_outputs_in_a_tuple() -> None:
    x, y = plain.dataset().tensors
    optimizer = partial(plain.optimizer_over, name="imbsam")
    made = Own(Pairs, criterion=nn.CrossEntropyLoss, optimizer=optimizer, lr=0.1).initialize()
    expected = made.module_(x, x)[0].detach()
    step = made.train_step_single(({"one": x, "other": x}, {"class": y, "weight": 2.0}))
    torch.testing.assert_close(step["y_pred"][0], expected, atol=1e-12, rtol=0)
    assert torch.equal(step["y_pred"][1], x)


def test_targets_that_say_no_classes_are_named() -> None:
    x, y = plain.dataset().tensors
    made = net("imbsam").initialize()
    with pytest.raises(DataError, match=r"y of a batch is a dict.*override row_targets\(X, y\)"):
        made.train_step_single((x, {"class": y}))


def test_rows_may_be_taken_by_the_net() -> None:
    class Takes(SharpNet):
        def take_rows(self, X: Tensor, y: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
            taken.append(len(rows))
            return X[rows], y[rows]

    taken: list[int] = []
    x, y = plain.dataset().tensors
    made = Takes(
        MLP.model, criterion=nn.CrossEntropyLoss, optimizer=partial(plain.optimizer_over, name="imbsam"), lr=0.1
    )
    made.initialize().train_step_single((x, y))
    assert taken
    assert max(taken) < len(y)
