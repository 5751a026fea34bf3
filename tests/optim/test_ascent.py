"""Where the perturbation points."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from cases import HEAD_AND_TAIL, MLP
from imbsam.errors import OptionError
from imbsam.optim import Ascent, Climbed, Gradient, Slope, create
from imbsam.optim.ascent import Memory, _by_device, dot, global_norm
from optim.loops import assert_gradients_close, gradients, imbsam, make_passes, sgd, take_step


def climbed(rho: float, grads: list[Tensor], damping: float = 0.0) -> tuple[list[Tensor], Tensor]:
    params = [torch.zeros_like(g.to_dense()) for g in grads]
    norm = (
        Gradient(damping=damping).climb([Slope(rho, params, [g.clone() for g in grads], [None] * len(grads))], {}).norm
    )
    return params, norm


def test_the_perturbation_is_rho_long_and_along_the_gradient() -> None:
    (e,), norm = climbed(0.5, [torch.tensor([3.0, 4.0])])
    torch.testing.assert_close(e, torch.tensor([0.3, 0.4]))
    assert float(norm) == 5.0


def test_damping_enters_the_denominator() -> None:
    (e,), _ = climbed(0.5, [torch.tensor([3.0, 4.0])], damping=5.0)
    torch.testing.assert_close(e, torch.tensor([0.15, 0.2]))


@pytest.mark.parametrize("damping", [0.0, 0.3])
def test_a_zero_gradient_gives_no_perturbation(damping: float) -> None:
    (e,), norm = climbed(0.5, [torch.zeros(3)], damping)
    assert torch.equal(e, torch.zeros(3))
    assert float(norm) == 0.0


def test_groups_share_one_norm_and_keep_their_rho() -> None:
    a, b = torch.zeros(1), torch.zeros(1)
    Gradient().climb(
        [Slope(1.0, [a], [torch.tensor([3.0])], [None]), Slope(0.1, [b], [torch.tensor([4.0])], [None])], {}
    )
    torch.testing.assert_close(torch.cat([a, b]), torch.tensor([0.6, 0.08]))


def test_a_sparse_gradient_moves_its_rows_alone() -> None:
    twice_the_same_row = torch.sparse_coo_tensor([[1, 1]], [[1.0, 2.0], [2.0, 2.0]], (3, 2), check_invariants=True)
    dense = torch.tensor([[0.0, 0.0], [3.0, 4.0], [0.0, 0.0]])
    (e,), norm = climbed(1.0, [twice_the_same_row])
    torch.testing.assert_close(e, dense / 5)
    assert float(norm) == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("dtypes", "expected"),
    [
        ([torch.float16, torch.bfloat16], torch.float32),
        ([torch.float32], torch.float32),
        ([torch.float32, torch.float64], torch.float64),
    ],
)
def test_norms_and_products_are_in_double_where_a_gradient_is_and_in_single_elsewhere(
    dtypes: list[torch.dtype], expected: torch.dtype
) -> None:
    grads = [torch.tensor([3.0, 4.0], dtype=dtype) for dtype in dtypes]
    norm, product = global_norm(grads), dot(grads, grads)
    assert norm.dtype == product.dtype == expected
    assert float(product) == pytest.approx(25 * len(grads))
    assert float(norm) ** 2 == pytest.approx(25 * len(grads))


def test_the_norm_of_half_precision_is_taken_in_single() -> None:
    big = torch.full((10000,), 6e4, dtype=torch.float16)
    assert float(global_norm([big])) == pytest.approx(6e6, rel=1e-3)
    assert global_norm([big]).dtype == torch.float32
    assert global_norm([big, torch.ones(1, dtype=torch.float64)]).dtype == torch.float64


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_norm_tells_of_a_non_finite_gradient(bad: float) -> None:
    assert not bool(climbed(0.5, [torch.ones(3), torch.tensor([1.0, bad])])[1].isfinite())


@pytest.mark.parametrize("damping", [-0.1, float("nan"), float("inf")])
def test_damping_out_of_range_is_refused(damping: float) -> None:
    with pytest.raises(OptionError, match="damping must be finite and at least 0"):
        Gradient(damping=damping)


def test_a_huge_damping_tends_to_the_plain_gradient() -> None:
    model, twin = MLP.model(), MLP.model()
    batch = MLP.batch(HEAD_AND_TAIL)
    take_step(imbsam(MLP, model, ascent=Gradient(damping=1e12)), model, MLP.loss, batch)
    take_step(imbsam(MLP, twin, rho=0.0), twin, MLP.loss, batch)
    assert_gradients_close(gradients(model), gradients(twin), atol=1e-11)


def test_an_ascent_of_ones_own_is_one_small_class() -> None:
    class Sign(Ascent):
        """The signed gradient: every coordinate moves by rho."""

        def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
            for slope in slopes:
                for p, g in zip(slope.params, slope.grads, strict=True):
                    p.add_(slope.rho * g.sign())
            return Climbed(global_norm([g for slope in slopes for g in slope.grads]))

    ascent = Sign()
    w = nn.Parameter(torch.tensor([1.0, -2.0]))
    seen = []

    def closure(rows: Tensor) -> Tensor:
        seen.append(w.detach().clone())
        return (w**2).sum().expand(len(rows))

    optimizer = imbsam(MLP, nn.ParameterList([w]), torch.optim.SGD([w], lr=0.0), rho=0.5, ascent=ascent)
    optimizer.step(closure, targets=torch.tensor([3, 3]))
    torch.testing.assert_close(seen[1], torch.tensor([1.5, -2.5]))


@pytest.mark.parametrize("name", ["gradient", "adaptive", "friendly", "stochastic", "reuse"])
def test_an_ascent_tells_the_norm_it_divided_by_so_that_a_bad_one_is_noticed(name: str) -> None:
    model = MLP.model()
    optimizer = create("sam", model, base=sgd(model.parameters()), ascent=name)
    passes = make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert len(passes.norms) == 1
    assert float(passes.norms[0]) > 0


def test_an_ascent_is_asked_with_its_memory_whether_it_needs_a_gradient() -> None:
    asked = []

    class Asking(Gradient):
        def needs_gradient(self, memory: Memory, step: int) -> bool:
            asked.append((dict(memory), step))
            return True

    model = MLP.model()
    optimizer = imbsam(MLP, model, ascent=Asking())
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert {(len(memory), step) for memory, step in asked} == {(0, 0)}


def test_parameters_of_several_devices_are_moved_by_the_scale_on_their_own() -> None:
    devices = ("meta", "cpu", "meta")
    params = [torch.zeros(2, device=device) for device in devices]
    grads = [torch.ones(2, device=device) for device in devices]
    found = {of_device[0].device.type: (of_device, theirs) for of_device, theirs in _by_device(params, grads)}
    assert [id(p) for p in found["cpu"][0]] == [id(params[1])]
    assert [id(p) for p in found["meta"][0]] == [id(params[0]), id(params[2])]
    assert [id(g) for g in found["meta"][1]] == [id(grads[0]), id(grads[2])]
