"""Losses whose rows depend on each other: found in the first step, and right where whole batches are forwarded."""

import random
import warnings

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, TAIL
from imbsam.errors import OptionError, RowsWarning
from imbsam.optim import METHODS, ImbSAM, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import identical, imbsam, sgd, take_step


@pytest.fixture(autouse=True)
def nothing_is_compiled() -> None:
    torch._dynamo.reset()


Y = torch.arange(30) % len(TAIL)
X = torch.randn(30, 6, generator=torch.Generator().manual_seed(0)).double()


def network(*, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Dropout(dropout), nn.ReLU(), nn.Linear(8, 5)).double()


def contrastive(model: nn.Module, rows: Tensor) -> Tensor:
    """Supervised contrastive loss of each row against the others."""
    z, t = F.normalize(model(X[rows])), Y[rows]
    itself = torch.eye(len(rows), dtype=torch.bool)
    similar = (z @ z.T / 0.2).masked_fill(itself, -1e9).log_softmax(1)
    same = (t[:, None] == t) & ~itself
    return -(similar * same).sum(1) / same.sum(1).clamp(min=1)


def paired(model: nn.Module, rows: Tensor) -> Tensor:
    """Both views of a row in one forward, and each row's loss against the mean of all."""
    out = model(torch.cat([X[rows], X[rows] + 0.1]))
    a, b = out.chunk(2)
    return (a - b.mean(0)).square().sum(1)


def mixed(model: nn.Module, rows: Tensor) -> Tensor:
    """Mixup inside the closure."""
    order = torch.randperm(len(rows))
    out = model(0.7 * X[rows] + 0.3 * X[rows][order])
    return 0.7 * F.cross_entropy(out, Y[rows], reduction="none") + 0.3 * F.cross_entropy(
        out, Y[rows][order], reduction="none"
    )


def by_number(model: nn.Module, rows: Tensor) -> Tensor:
    """Divided by the number of rows that are forwarded."""
    return F.cross_entropy(model(X[rows]), Y[rows], reduction="none") / len(rows)


def plain(model: nn.Module, rows: Tensor) -> Tensor:
    return F.cross_entropy(model(X[rows]), Y[rows], reduction="none")


def method(name: str, model: nn.Module, **options: object) -> SharpnessAware:
    return create(name, model, base=sgd(model.parameters()), priors=PRIORS, tail=TAIL, **options)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("losses", [contrastive, paired, mixed])
def test_rows_that_depend_on_each_other_are_found_in_the_first_step(losses: object, dropout: float) -> None:
    model = network(dropout=dropout)
    optimizer = method("imbsam", model)
    with pytest.warns(RowsWarning, match=r"loss depends on the rows beside it .* ImbSAM .*rows=\"all\""):
        optimizer.step(lambda rows: losses(model, rows), targets=Y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step(lambda rows: losses(model, rows), targets=Y)


def test_a_loss_that_depends_on_the_number_of_rows_is_found() -> None:
    model = network()
    with pytest.warns(RowsWarning):
        method("imbsam", model).step(lambda rows: by_number(model, rows), targets=Y)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("name", METHODS)
def test_rows_that_do_not_are_not_warned_of(name: str, dropout: float) -> None:
    model = network(dropout=dropout)
    optimizer = method(name, model)
    for _ in range(2):
        optimizer.step(lambda rows: plain(model, rows), targets=Y)


def test_methods_that_forward_whole_batches_have_nothing_to_look_for() -> None:
    for name in ("plain", "sam", "gsam", "sam-drw"):
        model = network()
        forwarded: list[int] = []
        model.register_forward_hook(lambda module, args, out, seen=forwarded: seen.append(len(args[0])))
        method(name, model).step(lambda rows, model=model: contrastive(model, rows), targets=Y)
        assert set(forwarded) == {len(Y)}


@pytest.mark.parametrize("name", METHODS)
def test_the_look_draws_no_random_number_and_changes_no_step(name: str) -> None:
    found = []
    for check in (True, False):
        model = network(dropout=0.3)
        optimizer = method(name, model, check_rows=check)
        torch.manual_seed(3)
        for _ in range(3):
            optimizer.step(lambda rows, model=model: plain(model, rows), targets=Y)
        found.append([p.detach().clone() for p in model.parameters()])
    assert identical(*found)


def test_it_costs_two_forwards_of_eight_rows_once() -> None:
    model = network()
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    optimizer = method("imbsam", model)
    for _ in range(2):
        optimizer.step(lambda chosen: plain(model, chosen), targets=Y)
    tail = int(TAIL[Y].sum())
    assert rows == [tail, tail, 30 - tail, 8, 8, tail, tail, 30 - tail]


@pytest.mark.parametrize("name", METHODS)
def test_whole_batches_are_forwarded_where_asked_for(name: str) -> None:
    model = network()
    rows: list[int] = []
    model.register_forward_hook(lambda module, args, out: rows.append(len(args[0])))
    optimizer = method(name, model, rows="all")
    for _ in range(2):
        optimizer.step(lambda chosen: contrastive(model, chosen), targets=Y)
    assert set(rows) == {len(Y)}


def test_with_whole_batches_the_step_is_the_papers_of_the_loss_of_each_row_in_the_batch() -> None:
    model = network()
    params = list(model.parameters())
    everything = torch.arange(len(Y))
    expected = oracles.imbsam_gradient(
        params, lambda rows: contrastive(model, everything)[rows], TAIL[Y], [0.3] * len(params)
    )
    optimizer = ImbSAM(sgd(params), TAIL, rho=0.3, model=model, rows="all")
    with optimizer.passes(Y) as passes:
        for p in passes:
            p.backward(contrastive(model, p.rows))
    torch.testing.assert_close([p.grad for p in params], list(expected), atol=1e-12, rtol=0)
    torch.testing.assert_close(passes.loss, contrastive(model, everything).mean().detach(), atol=1e-12, rtol=0)


def test_beside_batch_norm_it_is_the_batch_policy() -> None:
    found = []
    for options in ({"rows": "all"}, {"batch_statistics": "batch"}):
        model = BATCH_NORM.model()
        optimizer = imbsam(BATCH_NORM, model, **options)
        for batch in BATCH_NORM.batches():
            take_step(optimizer, model, BATCH_NORM.loss, batch)
        found.append([p.detach().clone() for p in model.parameters()])
    assert identical(*found)


def test_other_words_are_refused() -> None:
    with pytest.raises(OptionError, match="rows must be 'needed' or 'all'; got 'some'"):
        method("imbsam", network(), rows="some")


def test_random_numbers_of_python_and_numpy_are_the_same_in_both_forwards() -> None:
    model = network()

    def drawing(rows: Tensor) -> Tensor:
        noise = torch.tensor([random.gauss(0, 1) for _ in range(len(rows))]).double()
        noise += torch.from_numpy(np.random.standard_normal(len(rows)))
        return F.cross_entropy(model(X[rows] + noise[:, None]), Y[rows], reduction="none")

    before = random.getstate()
    method("imbsam", model).step(drawing, targets=Y)
    assert random.getstate() != before


def test_losses_that_are_nearly_zero_are_not_compared_to_the_last_bit() -> None:
    model = network()

    def fitted(rows: Tensor) -> Tensor:
        return F.cross_entropy(model(X[rows]), Y[rows], reduction="none") * 0 + len(rows) * 1e-9

    method("imbsam", model).step(fitted, targets=Y)
