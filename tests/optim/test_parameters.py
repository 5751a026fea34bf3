"""What fine-tuning does to parameters, in every method: dtypes and rates by group, tied, frozen and thawed ones."""

from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import oracles
from cases import HEAD_AND_TAIL, MLP, TAIL, Case, frozen_batch_norm, images, tokens
from imbsam.optim import METHODS, SharpnessAware, create
from optim.family import GRADIENTS, PRIORS
from optim.loops import assert_gradients_close, contents, gradients, identical, sgd, take_step
from optim.test_contract import step, weights_of

EVERY = pytest.mark.parametrize("name", METHODS)


def made(name: str, model: nn.Module, params: Sequence[object] | None = None, **options: object) -> SharpnessAware:
    base = sgd(list(model.parameters()) if params is None else params, **options)
    return create(name, model, base=base, priors=PRIORS, tail=TAIL)


# Groups of several dtypes


class TwoDtypes(nn.Module):
    """A layer in half precision before one in float32."""

    def __init__(self, half: torch.dtype) -> None:
        super().__init__()
        self.low = nn.Linear(6, 8, dtype=half)
        self.high = nn.Linear(8, 5, dtype=torch.float32)

    def forward(self, x: Tensor) -> Tensor:
        return self.high(self.low(x.to(self.low.weight.dtype)).tanh().float())


@EVERY
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
def test_groups_of_two_dtypes_come_back_bitwise_and_learn_each_at_its_rate(name: str, half: torch.dtype) -> None:
    torch.manual_seed(1)
    model = TwoDtypes(half)
    # The universal methods divide by one rho.
    rho = 0.3 if name in ("trace-sam", "frob-sam", "det-sam") else 0.1
    groups = [
        {"params": list(model.low.parameters()), "lr": 0.5, "rho": 0.3},
        {"params": list(model.high.parameters()), "lr": 0.0, "rho": rho},
    ]
    optimizer = made(name, model, groups, weight_decay=0.0)
    start, resting = weights_of(model.low), weights_of(model.high)
    moved: set[torch.dtype] = set()
    for seed in range(4):
        x, y = MLP.batch(HEAD_AND_TAIL, seed, torch.float32)
        before = weights_of(model)
        torch.manual_seed(seed)
        with optimizer.passes(y) as passes:
            for p in passes:
                moved |= {w.dtype for w, b in zip(model.parameters(), before, strict=True) if not torch.equal(w, b)}
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
        assert identical(before, weights_of(model))
        assert all(p.grad is not None and p.grad.dtype == p.dtype for p in model.parameters())
        optimizer.step()
    assert moved == (set() if name == "plain" else {half, torch.float32})
    assert identical(resting, weights_of(model.high))
    assert not identical(start, weights_of(model.low))
    assert all(bool(p.isfinite().all()) for p in model.parameters())


# Tied weights


class LanguageModel(nn.Module):
    """The output layer has the embedding's weight, as a module's parameter of two names."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.hidden = nn.Linear(8, 8)
        self.out = nn.Linear(8, 20, bias=False)
        self.out.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.hidden(self.words(x).mean(1)).tanh())


class WrittenOut(nn.Module):
    """The same with one parameter of one name, used twice in the formula."""

    def __init__(self) -> None:
        super().__init__()
        self.tied_weight = nn.Parameter(torch.empty(20, 8))
        self.hidden = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.hidden(F.embedding(x, self.tied_weight).mean(1)).tanh(), self.tied_weight)


NEXT_WORD = Case("next word", LanguageModel, tokens)


def tied_and_written_out() -> tuple[nn.Module, nn.Module]:
    model, twin = NEXT_WORD.model(), WrittenOut().double()
    hidden = {f"hidden.{name}": value for name, value in model.hidden.state_dict().items()}
    twin.load_state_dict({"tied_weight": model.words.weight.detach(), **hidden})
    return model, twin


@EVERY
def test_an_embedding_tied_to_the_output_layer_is_one_parameter(name: str) -> None:
    model, twin = tied_and_written_out()
    one, other = made(name, model), made(name, twin)
    for number in range(4):
        step(one, model, NEXT_WORD, number, torch.float64)
        step(other, twin, NEXT_WORD, number, torch.float64)
        assert identical(contents(model, one), contents(twin, other))
    assert model.out.weight is model.words.weight


@pytest.mark.parametrize("name", GRADIENTS)
def test_a_tied_embedding_follows_the_textbook_loop(name: str) -> None:
    model, twin = tied_and_written_out()
    optimizer = made(name, model)
    params, rule = list(twin.parameters()), oracles.SGD(0.1, 0.9, 0.01)
    rhos = [optimizer.param_groups[0]["rho"]] * len(params)
    for x, y in NEXT_WORD.batches():

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return NEXT_WORD.loss(twin(x[rows]), y[rows])

        grads = GRADIENTS[name](params, losses_of, y, rhos)
        rule.step(params, grads)
        take_step(optimizer, model, NEXT_WORD.loss, (x, y))
        assert_gradients_close(gradients(model), grads)
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)


# Frozen and thawed


@EVERY
def test_batch_norm_in_evaluation_mode_keeps_its_statistics_and_learns_scale_and_shift(name: str) -> None:
    case = Case("frozen batch norm", frozen_batch_norm, images)
    model = case.model()
    optimizer = made(name, model)
    statistics = [b.clone() for b in model.buffers()]
    scale = model[1].weight.detach().clone()
    for number in range(3):
        step(optimizer, model, case, number, torch.float64)
    assert identical(statistics, list(model.buffers()))
    assert not torch.equal(scale, model[1].weight)


@EVERY
def test_a_layer_frozen_and_thawed_in_mid_training_rests_and_joins_in_again(name: str) -> None:
    model = MLP.model()
    optimizer = made(name, model)
    at: list[list[Tensor]] = []
    for number in range(9):
        if number in (3, 6):
            model[0].requires_grad_(number == 6)
        step(optimizer, model, MLP, number, torch.float64)
        at.append(weights_of(model))
    assert not identical(at[1][:2], at[2][:2])
    assert identical(at[2][:2], at[5][:2]), "not even its momentum moves it"
    assert not identical(at[5][:2], at[6][:2])
    assert all(not torch.equal(a, b) for a, b in zip(at[2][2:], at[5][2:], strict=True))


@pytest.mark.parametrize("name", GRADIENTS)
def test_freezing_and_thawing_follows_the_textbook_loop(name: str) -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer = made(name, model)
    params, rule = list(twin.parameters()), oracles.SGD(0.1, 0.9, 0.01)
    rhos = [optimizer.param_groups[0]["rho"]] * len(params)
    for number, (x, y) in enumerate(MLP.batches() * 2):

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return MLP.loss(twin(x[rows]), y[rows])

        for each in (model, twin):
            each[0].requires_grad_(number not in (3, 4, 5))
        grads = GRADIENTS[name](params, losses_of, y, rhos)
        rule.step(params, grads)
        take_step(optimizer, model, MLP.loss, (x, y))
        assert_gradients_close(gradients(model), grads)
        torch.testing.assert_close(list(model.parameters()), params, atol=1e-12, rtol=0)
