"""Base "muon": which weights go to Muon and which to AdamW, and the step of the pair."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from cases import BATCH_NORM, MLP, Attention, Tied, Words
from imbsam.errors import OptionError
from imbsam.optim import METHODS, create
from imbsam.optim.muon import hidden_matrices
from optim.family import PRIORS
from optim.loops import contents, identical, plain_step, take_step


class Shared(nn.Module):
    """The output layer has the weight of the embedding, as in language models."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 4)
        self.out = nn.Linear(4, 5, bias=False)
        self.out.weight = self.words.weight


class Positions(nn.Module):
    """A matrix that no layer multiplies by."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.zeros(7, 4))
        self.recurrent = nn.LSTM(4, 3)
        self.norm = nn.LayerNorm((7, 3))
        self.bag = nn.EmbeddingBag(9, 3)
        self.out = nn.Linear(3, 2)


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def convolutional_output() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), nn.Conv1d(2, 3, 1))


@pytest.mark.parametrize(
    ("make", "hidden"),
    [
        (perceptron, ["0.weight", "3.weight"]),
        (MLP.build, ["0.weight"]),
        (Attention, ["attention.in_proj_weight", "attention.out_proj.weight"]),
        (Tied, ["first.weight"]),
        (Shared, ["hidden.weight"]),
        (Positions, ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0"]),
        (convolutional_output, ["0.weight"]),
        (lambda: nn.Sequential(nn.Linear(6, 6), nn.utils.parametrizations.weight_norm(nn.Linear(6, 2))), []),
        (BATCH_NORM.build, []),
        (Words, []),
        (lambda: nn.Linear(6, 2), []),
        (nn.Identity, []),
    ],
)
def test_hidden_matrices_are_the_weights_of_layers_before_the_last(
    make: Callable[[], nn.Module], hidden: list[str]
) -> None:
    model = make()
    found = hidden_matrices(model)
    assert [name for name, p in model.named_parameters() if p in found] == hidden


def test_muon_gets_the_hidden_matrices_and_adamw_the_rest() -> None:
    model = perceptron()
    optimizer = create("sam", model, base="muon", lr=0.003, momentum=0.8, weight_decay=0.02, rho=0.2)
    matrices, rest = optimizer.param_groups
    assert [type(base) for base in optimizer.base.optimizers] == [torch.optim.Muon, torch.optim.AdamW]
    assert matrices["param_names"] == ["0.weight", "3.weight"]
    assert sorted(matrices["param_names"] + rest["param_names"]) == sorted(name for name, _ in model.named_parameters())
    assert [(g["lr"], g["weight_decay"], g["rho"]) for g in (matrices, rest)] == [(0.003, 0.02, 0.2)] * 2
    assert (matrices["momentum"], matrices["adjust_lr_fn"]) == (0.8, "match_rms_adamw")


def test_frozen_parameters_are_in_neither() -> None:
    model = perceptron()
    for frozen in (model[0], model[5]):
        frozen.requires_grad_(False)
    matrices, rest = create("sam", model, base="muon").param_groups
    assert matrices["param_names"] == ["3.weight"]
    assert rest["param_names"] == ["1.weight", "1.bias", "3.bias"]


def test_muon_stands_alone_where_there_is_no_rest() -> None:
    model = nn.Sequential(nn.Linear(6, 6, bias=False), nn.Linear(6, 2, bias=False))
    model[1].requires_grad_(False)
    (base,) = create("sam", model, base="muon").base.optimizers
    assert type(base) is torch.optim.Muon


@pytest.mark.parametrize("make", [BATCH_NORM.build, Words, lambda: perceptron().requires_grad_(False)])
def test_a_model_without_a_hidden_matrix_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(OptionError, match=r"base 'muon' is for matrices of hidden layers, but (Sequential|Words) has"):
        create("sam", make(), base="muon")


@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_over_muon(name: str) -> None:
    model = MLP.model(torch.float32)
    optimizer = create(name, model, base="muon", lr=0.01, priors=PRIORS)
    before = contents(model)
    for batch in MLP.batches(torch.float32):
        take_step(optimizer, model, MLP.loss, batch)
    assert not any(torch.equal(old, new) for old, new in zip(before, contents(model), strict=True))
    assert all(bool(t.isfinite().all()) for t in contents(model, optimizer))


def test_without_a_perturbation_it_is_the_two_of_torch_bit_for_bit() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer = create("plain", model, base="muon", lr=0.01, momentum=0.9, weight_decay=0.1)
    first: Tensor = twin[0].weight
    bases: list[Optimizer] = [
        torch.optim.Muon([first], lr=0.01, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW([p for p in twin.parameters() if p is not first], lr=0.01, weight_decay=0.1),
    ]
    for batch in MLP.batches(torch.float32):
        take_step(optimizer, model, MLP.loss, batch)
        plain_step(bases[0], twin, MLP.loss, batch)
        bases[1].step()
        twin.zero_grad()
    assert identical(contents(model), contents(twin))
