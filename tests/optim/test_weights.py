"""Parameters of every kind: absent from a pass, frozen, sparse, foreign, tied, of any dtype; and their checkpoints."""

import weakref

import pytest
import torch
from torch import nn

import oracles
from cases import (
    BATCH_NORM,
    EMBEDDING,
    HEAD_AND_TAIL,
    MLP,
    NO_TAIL,
    ONLY_TAIL,
    ROUTED,
    TAIL,
    TIED,
    Case,
    Words,
    cross_entropy,
    tokens,
)
from imbsam.errors import PassError
from imbsam.optim import SAM, ImbSAM
from optim.loops import (
    METHODS,
    assert_gradients_close,
    contents,
    gradients,
    identical,
    imbsam,
    make_passes,
    plain_step,
    sam,
    sgd,
    take_step,
)

SPARSE = Case("sparse embedding", lambda: Words(sparse=True), tokens)


def test_head_only_and_tail_only_parameters_get_their_gradient() -> None:
    model = ROUTED.model()
    x, y = ROUTED.batch(HEAD_AND_TAIL)
    make_passes(imbsam(ROUTED, model, rho=0.0), model, ROUTED.loss, (x, y))
    head = [p.grad.clone() for p in model.head_expert.parameters()]
    make_passes(imbsam(ROUTED, model, rho=0.5), model, ROUTED.loss, (x, y))
    assert identical(head, [p.grad for p in model.head_expert.parameters()]), "head rows are not perturbed"
    assert all(p.grad is not None for p in model.tail_expert.parameters())
    assert model.unused.grad is None


def test_a_parameter_only_in_the_second_pass_gets_its_gradient() -> None:
    """davda54/sam issue 51: a graph that changes between the passes."""
    a, b = (nn.Parameter(torch.tensor([1.0, 2.0])) for _ in range(2))
    visits = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        visits.append(1)
        used = a if len(visits) == 1 else b
        return (used**2).sum().expand(len(rows))

    optimizer = SAM(torch.optim.SGD([a, b], lr=0.1), rho=0.5)
    optimizer.step(closure, targets=NO_TAIL)
    assert torch.equal(a.detach(), torch.tensor([1.0, 2.0])), "seen in the ascent alone: back in place, not stepped"
    torch.testing.assert_close(b.detach(), torch.tensor([0.8, 1.6]))


def test_frozen_parameters_stay_and_get_no_gradient() -> None:
    model = MLP.model()
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    optimizer = imbsam(MLP, model, rho=0.5)
    for _ in range(2):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None


def test_a_layer_thawed_between_steps_joins_in() -> None:
    model, twin = MLP.model(), MLP.model()
    model[0].requires_grad_(False)
    optimizer = imbsam(MLP, model, sgd(model.parameters(), momentum=0.0, weight_decay=0.0))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    model[0].requires_grad_(True)
    twin.load_state_dict(model.state_dict())
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    fresh = imbsam(MLP, twin, sgd(twin.parameters(), momentum=0.0, weight_decay=0.0))
    take_step(fresh, twin, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("method", METHODS)
def test_sparse_gradients_equal_dense_ones(method: object) -> None:
    sparse, dense = SPARSE.model(), EMBEDDING.model()
    options = {"momentum": 0.0, "weight_decay": 0.0}
    one = method(SPARSE, sparse, sgd(sparse.parameters(), **options), rho=0.5)
    other = method(EMBEDDING, dense, sgd(dense.parameters(), **options), rho=0.5)
    for x, y in SPARSE.batches():
        take_step(one, sparse, cross_entropy, (x, y))
        take_step(other, dense, cross_entropy, (x, y))
        assert sparse.words.weight.grad.is_sparse
        torch.testing.assert_close(contents(sparse), contents(dense), atol=1e-12, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_parameters_outside_the_optimizer_keep_their_place_and_get_the_plain_rule(method: object) -> None:
    """The direction is that of the optimizer's parameters alone; the others' gradient holds the step's, no ascent's."""
    model = MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    params = list(model.parameters())
    rhos = [0.0, 0.0, 0.4, 0.4]
    own = params[2:]

    def losses_of(rows: torch.Tensor) -> torch.Tensor:
        return MLP.loss(model(x[rows]), y[rows])

    is_tail = TAIL[y] if method is imbsam else torch.ones(len(y), dtype=torch.bool)
    tail_rows = is_tail.nonzero().squeeze(1)
    e = oracles.perturbation(oracles.gradient(own, losses_of(tail_rows).sum() / len(y)), rhos[2:])
    with oracles.displaced(own, e):
        expected = oracles.gradient(params, losses_of(tail_rows).sum() / len(y))
    if not is_tail.all():
        head_rows = (~is_tail).nonzero().squeeze(1)
        expected = oracles.added(oracles.gradient(params, losses_of(head_rows).sum() / len(y)), expected)
    optimizer = method(MLP, model, sgd(own), rho=0.4)
    outside = [p.detach().clone() for p in params[:2]]
    for _ in range(2):
        with optimizer.passes(y) as passes:
            for p in passes:
                assert identical(outside, [w.detach() for w in params[:2]])
                p.backward(losses_of(p.rows))
        assert_gradients_close(gradients(model), expected)
        optimizer.zero_grad()
    assert identical(outside, [w.detach() for w in params[:2]])


def test_tied_weights_are_perturbed_once() -> None:
    model = TIED.model()
    x, y = TIED.batch(HEAD_AND_TAIL)
    optimizer = sam(TIED, model, rho=0.5)
    shifts = []
    before = [p.detach().clone() for p in model.parameters()]
    with optimizer.passes(y) as passes:
        for p in passes:
            shifts.append(
                sum(float(((a.detach() - b) ** 2).sum()) for a, b in zip(model.parameters(), before, strict=True))
            )
            p.backward(TIED.loss(model(x[p.rows]), y[p.rows]))
    assert shifts == [0.0, pytest.approx(0.25)]
    assert model.second.weight is model.first.weight


class HalfAndHalf(nn.Module):
    """A float16 and a bfloat16 layer between float64 ones."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            [
                nn.Linear(6, 6, dtype=torch.float64),
                nn.Linear(6, 6, dtype=torch.bfloat16),
                nn.Linear(6, 6, dtype=torch.float16),
                nn.Linear(6, 5, dtype=torch.float32),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x.to(layer.weight.dtype)).tanh()
        return x.double()


@pytest.mark.parametrize("method", METHODS)
def test_parameters_of_several_dtypes_share_one_norm(method: object) -> None:
    torch.manual_seed(1)
    model = HalfAndHalf()
    x, y = MLP.batch(HEAD_AND_TAIL)
    optimizer = method(MLP, model, rho=0.5)
    before = [p.detach().clone() for p in model.parameters()]
    lengths = []
    with optimizer.passes(y) as passes:
        for p in passes:
            moved = sum(
                float(((a.detach() - b).double() ** 2).sum()) for a, b in zip(model.parameters(), before, strict=True)
            )
            lengths.append(moved**0.5)
            p.backward(cross_entropy(model(x[p.rows]), y[p.rows]))
    assert max(lengths) == pytest.approx(0.5, rel=5e-3)
    assert identical(before, [p.detach() for p in model.parameters()])
    optimizer.step()
    assert all(bool(p.isfinite().all()) for p in model.parameters())


@pytest.mark.parametrize("scale", [6e-8, 6e4])
def test_float16_gradients_at_either_end_of_the_range_perturb_by_rho(scale: float) -> None:
    """The published epsilon 1e-16 is 0 in float16, and squares leave its range."""
    p = nn.Parameter(torch.zeros(3, dtype=torch.float16))
    slope = torch.tensor([scale, 0.0, -scale], dtype=torch.float16)
    seen = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        seen.append(p.detach().double())
        return (p * slope).sum().expand(len(rows))

    SAM(torch.optim.SGD([p], lr=0.0), rho=0.5).step(closure, targets=torch.tensor([0]))
    torch.testing.assert_close(seen[1], 0.5**1.5 * torch.tensor([1.0, 0.0, -1.0]).double(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_bfloat16_weights_survive_many_perturbations(method: object) -> None:
    """w + e - e would drift; learning rate zero shows it."""
    model = MLP.model(torch.bfloat16)
    optimizer = method(MLP, model, sgd(model.parameters(), lr=0.0), rho=0.37)
    before = contents(model)
    for seed in range(60):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed, torch.bfloat16))
    assert identical(before, contents(model))


def test_a_model_cast_to_a_wider_dtype_between_steps_keeps_every_bit() -> None:
    model = MLP.model(torch.float32)
    optimizer = imbsam(MLP, model, sgd(model.parameters(), lr=0.0))
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, dtype=torch.float32))
    model.double()
    with torch.no_grad():
        for p in model.parameters():
            p += 1e-12
    before = [p.detach().clone() for p in model.parameters()]
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(before, [p.detach() for p in model.parameters()])


def test_complex_parameters_are_climbed_by_their_modulus() -> None:
    p = nn.Parameter(torch.tensor([3 + 4j, 0j], dtype=torch.complex128))
    seen = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        seen.append(p.detach().clone())
        return (p.abs() ** 2).sum().expand(len(rows))

    SAM(torch.optim.SGD([p], lr=0.1), rho=0.5).step(closure, targets=torch.tensor([0]))
    torch.testing.assert_close(seen[1], torch.tensor([3.3 + 4.4j, 0j], dtype=torch.complex128))


def test_the_storage_of_the_weights_never_changes() -> None:
    """CUDA graphs and flat parameters hold on to it."""
    model = MLP.model()
    places = [p.data_ptr() for p in model.parameters()]
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    with optimizer.passes(y) as passes:
        for p in passes:
            assert places == [w.data_ptr() for w in model.parameters()]
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    optimizer.step()
    assert places == [w.data_ptr() for w in model.parameters()]


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.module(x)


@pytest.mark.parametrize("saved", ["the model", "the model inside a wrapper", "a model around it"])
def test_a_checkpoint_of_perturbed_weights_is_refused(saved: str) -> None:
    model = MLP.model()
    wrapped = Wrapper(model)
    known, held = {
        "the model": (model, model),
        "the model inside a wrapper": (wrapped, model),
        "a model around it": (model, wrapped),
    }[saved]
    optimizer = imbsam(MLP, known, sgd(model.parameters()))
    x, y = MLP.batch(HEAD_AND_TAIL)
    before = [p.detach().clone() for p in model.parameters()]
    refusals = []
    with optimizer.passes(y) as passes:
        for p in passes:
            perturbed = not identical(before, [w.detach() for w in model.parameters()])
            if perturbed:
                with pytest.raises(PassError, match="take its state_dict after the passes"):
                    held.state_dict()
            else:
                assert identical(before, list(held.state_dict().values()))
            refusals.append(perturbed)
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    assert any(refusals)
    assert identical(before, list(held.state_dict().values()))


def test_the_checkpoint_guard_goes_when_the_loss_raises() -> None:
    model = BATCH_NORM.model()
    optimizer = imbsam(BATCH_NORM, model)
    y = HEAD_AND_TAIL.repeat(3)
    x, y = BATCH_NORM.batch(y)
    before = contents(model)
    with pytest.raises(ZeroDivisionError), optimizer.passes(y) as passes:  # noqa: PT012
        for p in passes:
            losses = BATCH_NORM.loss(model(x[p.rows]), y[p.rows])
            if p.rows.numel() < len(y) and passes.norms:
                raise ZeroDivisionError
            p.backward(losses)
    assert identical(before, contents(model))
    model.state_dict()
    assert not model._state_dict_pre_hooks


def test_rho_of_a_group_at_zero_leaves_its_weights_in_place() -> None:
    model = MLP.model()
    groups = [{"params": list(model[0].parameters()), "rho": 0.0}, {"params": list(model[2].parameters()), "rho": 0.4}]
    optimizer = ImbSAM(torch.optim.SGD(groups, lr=0.1), TAIL, model=model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    first = [p.detach().clone() for p in model[0].parameters()]
    last = [p.detach().clone() for p in model[2].parameters()]
    moved = []
    with optimizer.passes(y) as passes:
        for p in passes:
            assert identical(first, [w.detach() for w in model[0].parameters()])
            moved.append(not identical(last, [w.detach() for w in model[2].parameters()]))
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    assert moved.count(True) == 1


def test_no_memory_is_kept_for_batches_without_a_tail() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    take_step(optimizer, model, MLP.loss, MLP.batch(NO_TAIL))
    assert not optimizer._weights._saved


def test_the_ascent_gradient_is_freed_once_it_was_climbed() -> None:
    """One copy of the weights is all the memory a step needs beyond the base's."""
    model = MLP.model()
    x, y = MLP.batch(ONLY_TAIL)
    ascents = []
    with imbsam(MLP, model).passes(y) as passes:
        for p in passes:
            assert all(ascent() is None for ascent in ascents)
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
            ascents = [weakref.ref(w.grad) for w in model.parameters()]
    assert len(ascents) == 4


def test_two_optimizers_may_share_a_model() -> None:
    """As in adversarial training: each perturbs its own part only, and neither keeps the other from working."""
    model = MLP.model()
    one = imbsam(MLP, model, sgd(model[0].parameters()))
    two = imbsam(MLP, model, sgd(model[2].parameters()))
    for batch in MLP.batches():
        first, last = contents(model[0]), contents(model[2])
        take_step(one, model, MLP.loss, batch)
        assert identical(last, contents(model[2]))
        assert not identical(first, contents(model[0]))
        first = contents(model[0])
        take_step(two, model, MLP.loss, batch)
        assert identical(first, contents(model[0]))


def test_plain_steps_of_the_base_may_alternate_with_the_passes() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
        before = contents(model)
        plain_step(optimizer.base, model, MLP.loss, batch)
        assert not identical(before, contents(model))
