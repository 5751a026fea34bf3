"""BatchNorm: statistics move once a step, at the unperturbed weights, with the whole batch."""

import copy

import pytest
import torch
from torch import nn

from cases import (
    BATCH_NORM,
    BATCHES,
    COUPLED,
    HEAD_AND_TAIL,
    MLP,
    NO_TAIL,
    ONLY_TAIL,
    TAIL,
    Case,
    batch_norm_cnn,
    frozen_batch_norm,
    images,
)
from imbsam.errors import PassError
from imbsam.optim import SAM, ImbSAM
from imbsam.optim._batchnorm import BatchNorms
from optim.loops import METHODS, Forwards, contents, identical, imbsam, sam, sgd, take_step

FROZEN = Case("frozen batch norm", frozen_batch_norm, images)


def buffers(model: nn.Module) -> list[torch.Tensor]:
    return [b.clone() for b in model.buffers()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("statistics", ["batch", "context"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
@pytest.mark.parametrize("case", COUPLED, ids=str)
def test_running_statistics_are_those_of_one_plain_forward(
    case: Case, targets: torch.Tensor, method: object, statistics: str, dtype: torch.dtype
) -> None:
    model = case.model(dtype)
    optimizer = method(case, model, batch_statistics=statistics, context_rows=2, rho=0.5)
    for seed in range(3):
        x, y = case.batch(targets, seed, dtype)
        plain = copy.deepcopy(model)
        plain(x)
        take_step(optimizer, model, case.loss, (x, y))
        assert identical(buffers(model), buffers(plain))
        for m in model.modules():
            if isinstance(m, nn.modules.batchnorm._BatchNorm):
                assert int(m.num_batches_tracked) == seed + 1


def test_the_ordinary_closure_moves_the_statistics_once_too() -> None:
    model = BATCH_NORM.model()
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    plain = copy.deepcopy(model)
    plain(x)
    optimizer = sam(BATCH_NORM, model)

    def closure() -> torch.Tensor:
        loss = BATCH_NORM.loss(model(x), y).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert identical(buffers(model), buffers(plain))


@pytest.mark.parametrize("method", METHODS)
def test_frozen_statistics_do_not_move_and_do_not_couple_the_rows(method: object) -> None:
    model = FROZEN.model()
    before = buffers(model)
    forwards = Forwards(model)
    y = HEAD_AND_TAIL.repeat(4)
    take_step(method(FROZEN, model, context_rows=1), model, FROZEN.loss, FROZEN.batch(y))
    assert identical(before, buffers(model))
    tail = int(TAIL[y].sum())
    assert sorted(forwards.rows) == (sorted([tail, tail, len(y) - tail]) if method is imbsam else [len(y)] * 2)


def test_the_mode_is_looked_up_at_every_step() -> None:
    """Freezing BatchNorm for fine-tuning half way, and thawing it, need no new optimizer."""
    model = BATCH_NORM.model()
    optimizer = imbsam(BATCH_NORM, model, context_rows=1)
    forwards = Forwards(model)
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL.repeat(3))
    tail = int(TAIL[y].sum())
    for training, expected in (
        (True, [len(y), tail + 1, tail + 1]),
        (False, [tail, tail, len(y) - tail]),
        (True, [len(y), tail + 1, tail + 1]),
    ):
        model.train(training)
        before = buffers(model)
        take_step(optimizer, model, BATCH_NORM.loss, (x, y))
        assert forwards.rows == expected
        assert identical(before, buffers(model)) is not training
        forwards.rows.clear()


def test_statistics_cast_to_a_wider_dtype_keep_every_bit() -> None:
    model = BATCH_NORM.model(torch.float32)
    optimizer = imbsam(BATCH_NORM, model)
    take_step(optimizer, model, BATCH_NORM.loss, BATCH_NORM.batch(HEAD_AND_TAIL, dtype=torch.float32))
    model.double()
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    plain = copy.deepcopy(model)
    plain(x)
    take_step(optimizer, model, BATCH_NORM.loss, (x, y))
    assert identical(buffers(model), buffers(plain))


class OwnBatchNorm(nn.Module):
    """A BatchNorm of another make, as codebases write them."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x - self.running_mean
        mean = x.mean(0)
        self.running_mean.lerp_(mean.detach(), 0.1)
        return x - mean


UNTRACKED = [nn.Linear(6, 8), nn.BatchNorm1d(8, track_running_stats=False), nn.Linear(8, 5)]
LIVE = {
    "torch's": lambda: batch_norm_cnn(),
    "another make": lambda: nn.Sequential(nn.Linear(6, 8), OwnBatchNorm(8), nn.Linear(8, 5)),
    "untracked": lambda: nn.Sequential(*copy.deepcopy(UNTRACKED)),
    "untracked, in eval mode": lambda: nn.Sequential(*copy.deepcopy(UNTRACKED)).eval(),
    "lazy": lambda: nn.Sequential(nn.Linear(6, 8), nn.LazyBatchNorm1d(), nn.Linear(8, 5)),
}


@pytest.mark.parametrize("kind", LIVE)
@pytest.mark.parametrize("method", [SAM, ImbSAM])
def test_an_optimizer_that_was_not_given_the_model_refuses_batch_norm(method: type, kind: str) -> None:
    case = Case(kind, LIVE[kind], images) if kind == "torch's" else Case(kind, LIVE[kind])
    model = case.model()
    x, y = case.batch(HEAD_AND_TAIL)
    if kind == "lazy":
        model(x)
    base = sgd(model.parameters())
    optimizer = method(base, TAIL) if method is ImbSAM else method(base)
    before = contents(model)
    for _ in range(2):
        with pytest.raises(PassError, match=r"forward calls a .*BatchNorm.*ImbSAM\(base, tail, model=model\)"):
            take_step(optimizer, model, case.loss, (x, y))
        assert identical(before, contents(model))
    model(x)


@pytest.mark.parametrize("kind", LIVE)
def test_every_make_of_batch_norm_is_found_in_the_model(kind: str) -> None:
    case = Case(kind, LIVE[kind], images) if kind == "torch's" else Case(kind, LIVE[kind])
    model = case.model()
    x, y = case.batch(HEAD_AND_TAIL.repeat(2))
    if kind == "lazy":
        model(x)
    plain = copy.deepcopy(model)
    plain(x)
    forwards = Forwards(model)
    take_step(imbsam(case, model, context_rows=1), model, case.loss, (x, y))
    assert forwards.rows == [len(y), int(TAIL[y].sum()) + 1, int(TAIL[y].sum()) + 1]
    assert identical(buffers(model), buffers(plain))


def test_a_model_without_batch_norm_need_not_be_given() -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = ImbSAM(sgd(model.parameters()), TAIL), imbsam(MLP, twin)
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def test_a_frozen_batch_norm_need_not_be_given() -> None:
    model = FROZEN.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL)
    before = contents(model)
    take_step(optimizer, model, FROZEN.loss, FROZEN.batch(HEAD_AND_TAIL))
    assert not identical(before, contents(model))


def test_no_hook_outlives_the_first_step() -> None:
    hooks = nn.modules.module._global_forward_pre_hooks
    count = len(hooks)
    model = MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL)
    with optimizer.passes(HEAD_AND_TAIL):
        assert len(hooks) == count + 1
    assert len(hooks) == count
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    with optimizer.passes(HEAD_AND_TAIL):
        assert len(hooks) == count


def test_other_models_may_be_called_between_steps_without_being_taken_for_this_one() -> None:
    teacher, model = BATCH_NORM.model().train(), MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), TAIL)
    optimizer.passes(HEAD_AND_TAIL)
    teacher(BATCH_NORM.batch(NO_TAIL)[0])
    take_step(optimizer, model, MLP.loss, MLP.batch(ONLY_TAIL))


# Weighted statistics


LAYERS = {
    "1-D": (lambda: nn.BatchNorm1d(3), (5, 3)),
    "1-D, not affine": (lambda: nn.BatchNorm1d(3, affine=False), (5, 3)),
    "1-D with places": (lambda: nn.BatchNorm1d(3, affine=False), (5, 3, 4)),
    "2-D": (lambda: nn.BatchNorm2d(3), (5, 3, 4, 2)),
    "3-D": (lambda: nn.BatchNorm3d(3, track_running_stats=False), (5, 3, 2, 2, 2)),
}


def weighed(layer: nn.Module, groups: list[tuple[int, float]], x: torch.Tensor) -> torch.Tensor:
    statistics = BatchNorms([layer])
    statistics.weigh(groups)
    y = layer(x)
    statistics.weigh(None)
    return y


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["plain", "channels last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_row_counts_in_the_statistics_as_often_as_its_weight_says(
    kind: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    """Two rows that stand for three each normalise as if each were there three times; gradients alike."""
    make, shape = LAYERS[kind]
    times = torch.tensor([1, 1, 1, 3, 3])
    draw = torch.Generator().manual_seed(0)
    values = torch.randn(shape, dtype=torch.float64, generator=draw).to(dtype).double()
    layer, twin = make().to(dtype), make().double()
    if layer.affine:
        for own, other in zip(layer.parameters(), twin.parameters(), strict=True):
            with torch.no_grad():
                other.copy_(torch.randn(3, dtype=torch.float64, generator=draw).to(dtype).double())
                own.copy_(other)
    x, z = values.to(dtype, copy=True), values.clone()
    x = (x.contiguous(memory_format=layout) if len(shape) == 4 else x).requires_grad_()
    y = weighed(layer, [(3, 1 / 3), (2, 2 / 3)], x)
    repeated = torch.arange(5).repeat_interleave(times)
    first = torch.tensor([0, 1, 2, 3, 6])
    expected = twin(z.requires_grad_()[repeated])[first]
    slack = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 5e-2}[dtype]
    torch.testing.assert_close(y.double(), expected, atol=slack, rtol=slack)
    assert y.dtype == dtype
    weight = torch.randn(shape, dtype=torch.float64, generator=draw)
    (y.double() * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(x.grad.double(), z.grad, atol=10 * slack, rtol=10 * slack)
    for own, other in zip(layer.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(own.grad.double(), other.grad, atol=10 * slack, rtol=10 * slack)


def test_folded_rows_have_the_weight_of_theirs_and_what_does_not_fold_is_normalised_as_ever() -> None:
    x = torch.randn(6, 3, dtype=torch.float64)
    layer = nn.BatchNorm1d(3).double()
    halves = weighed(layer, [(1, 0.7), (2, 0.3)], x)
    each = weighed(layer, [(2, 0.7), (4, 0.3)], x)
    torch.testing.assert_close(halves, each, atol=1e-12, rtol=0)
    assert torch.equal(weighed(layer, [(3, 0.5), (1, 0.5)], x), layer(x))


def test_nothing_is_left_on_the_layers_after_a_step_or_an_exception() -> None:
    model = BATCH_NORM.model()
    optimizer = imbsam(BATCH_NORM, model, context_rows=2)
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    inside = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        inside.append(sum("forward" in vars(m) for m in model.modules()))
        if len(inside) == 5:
            raise KeyboardInterrupt
        return BATCH_NORM.loss(model(x[rows]), y[rows])

    optimizer.step(closure, targets=y)
    assert not any("forward" in vars(m) or "row_groups" in vars(m) for m in model.modules())
    with pytest.raises(KeyboardInterrupt):
        optimizer.step(closure, targets=y)
    assert inside == [0, 2, 2, 0, 2]
    assert not any("forward" in vars(m) or "row_groups" in vars(m) for m in model.modules())


def test_a_frozen_layer_and_one_of_another_make_keep_their_own_forward() -> None:
    model = nn.Sequential(nn.BatchNorm1d(2).eval(), OwnBatchNorm(2), nn.BatchNorm1d(2))
    BatchNorms(model).weigh([(2, 1.0)])
    assert ["forward" in vars(m) for m in model] == [False, False, True]


def test_micro_batches_of_a_context_pass_are_weighted_each_by_itself() -> None:
    """Two tail rows before three context rows, which stand for five: in a micro-batch of four, and in one of one."""
    model = BATCH_NORM.model()
    optimizer = imbsam(BATCH_NORM, model, context_rows=3)
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    seen = []
    with optimizer.passes(y) as passes:
        for p in passes:
            for part in p.split(4):
                groups = vars(model[1]).get("row_groups")
                seen += [] if groups is None else [groups]
                part.backward(BATCH_NORM.loss(model(x[part.rows]), y[part.rows]))
    (own, context), (left,) = seen[0], seen[1]
    assert own == (2, pytest.approx(2 / (2 + 2 * 5 / 3)))
    assert context == (2, pytest.approx(1 - own[1]))
    assert left == (1, 1.0)
    assert seen[2:] == seen[:2]


@pytest.mark.parametrize(
    ("layers", "rows"),
    [([nn.BatchNorm2d(3), nn.BatchNorm3d(3)], 8), ([nn.BatchNorm2d(3), nn.BatchNorm1d(3)], 32)],
)
def test_rows_of_a_table_take_more_context_than_images_do(layers: list[nn.Module], rows: int) -> None:
    assert BatchNorms(layers).context_rows == rows


def test_a_pass_takes_as_many_context_rows_as_its_model_needs() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).double()
    x, y = torch.randn(64, 3, dtype=torch.float64), torch.tensor([0] * 60 + [1] * 4)
    forwarded = []
    with ImbSAM(sgd(model.parameters()), torch.tensor([False, True]), model=model).passes(y) as passes:
        for p in passes:
            rows, targets = p.select(x, y)
            forwarded.append(len(targets))
            p.backward(nn.functional.cross_entropy(model(rows), targets, reduction="none"))
    assert forwarded == [64, 36, 36]


def test_a_step_that_nobody_checks_leaves_no_nan_in_the_running_statistics() -> None:
    model = BATCH_NORM.model()
    optimizer = imbsam(BATCH_NORM, model, nonfinite="unchecked")
    before = [buffer.clone() for buffer in model.buffers()]
    x, y = BATCH_NORM.batch(HEAD_AND_TAIL)
    take_step(optimizer, model, BATCH_NORM.loss, (torch.full_like(x, torch.nan), y))
    assert identical(list(model.buffers()), before)
