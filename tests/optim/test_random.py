"""The random ascent: its samplers, and that it spends no pass on a direction."""

import pytest
import torch
from torch import nn

import oracles
from cases import BATCH_NORM, BATCHES, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import SAM, ImbSAM, Random, Slope
from optim.family import GROUPS, assert_follows, grouped
from optim.loops import Forwards, contents, identical, sgd, take_step

DRAWS = {"sphere": oracles.sphere_draw, "gaussian": oracles.normal_draw, "cube": oracles.cube_draw(0.7)}


@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize("sampler", DRAWS)
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_sam_along_a_random_direction_equals_the_textbook_loop(case: Case, sampler: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.3, 0.1)
    optimizer = SAM(sgd(given), ascent=Random(sampler, half_width=0.7), model=model, batch_statistics="batch")

    def gradient(params: object, losses_of: object, y: torch.Tensor) -> oracles.Grads:
        rows = torch.arange(len(y))
        with oracles.displaced(params, oracles.random_shift(params, rhos, DRAWS[sampler])):
            return oracles.gradient(params, losses_of(rows).mean())

    assert_follows(optimizer, model, case, gradient, at_the_weights=case.coupled)


def moves(ascent: Random, times: int, *shapes: int) -> torch.Tensor:
    found = []
    for _ in range(times):
        params = [torch.zeros(n, dtype=torch.float64) for n in shapes]
        ascent.climb([Slope(2.0, params, [], [None] * len(params))], {})
        found.append(torch.cat(params))
    return torch.stack(found)


def test_the_sphere_is_one_over_all_parameters_together() -> None:
    e = moves(Random(), 4000, 3, 5)
    torch.testing.assert_close(e.norm(dim=1), torch.full((4000,), 2.0, dtype=torch.float64))
    torch.testing.assert_close(e.T @ e / 4000, torch.eye(8, dtype=torch.float64) * 4 / 8, atol=0.05, rtol=0)


def test_the_gaussian_has_unit_variance() -> None:
    e = moves(Random("gaussian"), 4000, 3, 5) / 2
    torch.testing.assert_close(e.T @ e / 4000, torch.eye(8, dtype=torch.float64), atol=0.12, rtol=0)


def test_the_cube_is_filled_evenly_up_to_its_half_width() -> None:
    e = moves(Random("cube", half_width=0.1), 4000, 8) / 2
    assert float(e.abs().max()) <= 0.1
    assert float(e.min()) < -0.0999
    assert float(e.var()) == pytest.approx(0.1**2 / 3, rel=0.05)


def test_a_function_of_ones_own_is_a_sampler() -> None:
    w = nn.Parameter(torch.tensor([1.0, 2.0]))
    seen = []

    def closure(rows: torch.Tensor) -> torch.Tensor:
        seen.append(w.detach().clone())
        return (w**2).sum().expand(len(rows))

    ones = Random(lambda params: [torch.ones_like(p) for p in params])
    SAM(torch.optim.SGD([w], lr=0.0), rho=0.5, ascent=ones).step(closure, targets=HEAD_AND_TAIL)
    assert [s.tolist() for s in seen] == [[1.5, 2.5]]


def test_each_row_is_forwarded_once_where_rows_do_not_see_each_other() -> None:
    for make in (lambda base: SAM(base, ascent=Random()), lambda base: ImbSAM(base, TAIL, ascent=Random())):
        model = MLP.model()
        forwards = Forwards(model)
        take_step(make(sgd(model.parameters())), model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
        assert sum(forwards.rows) == len(HEAD_AND_TAIL)


def test_the_ordinary_closure_equals_the_passes_with_batch_norm_too() -> None:
    """The pass that only moves running statistics must not leave a gradient behind."""
    model, twin = BATCH_NORM.model(), BATCH_NORM.model()
    by_loss, by_rows = (SAM(sgd(m.parameters()), ascent=Random(), model=m, rho=0.3) for m in (model, twin))
    for step, (x, y) in enumerate(BATCH_NORM.batches()):

        def closure(x: torch.Tensor = x, y: torch.Tensor = y) -> torch.Tensor:
            by_loss.zero_grad()
            loss = BATCH_NORM.loss(model(x), y).mean()
            loss.backward()
            return loss

        torch.manual_seed(step)
        first = by_loss.step(closure)
        torch.manual_seed(step)
        torch.testing.assert_close(first, take_step(by_rows, twin, BATCH_NORM.loss, (x, y)), atol=1e-12, rtol=0)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)


def test_frozen_parameters_are_not_moved() -> None:
    model = MLP.model()
    model[0].requires_grad_(False)
    before = contents(model[0])
    seen = []
    x, y = MLP.batch(BATCHES[0])

    def closure(rows: torch.Tensor) -> torch.Tensor:
        seen.append(contents(model[0]))
        return MLP.loss(model(x[rows]), y[rows])

    SAM(sgd(model.parameters()), ascent=Random()).step(closure, targets=y)
    assert all(identical(before, held) for held in seen)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ball"}, "sampler must be 'sphere', 'gaussian', 'cube' or a function; got 'ball'"),
        ({"sampler": "cube", "half_width": 0.0}, "half_width must be finite and above 0; got 0.0"),
        ({"half_width": float("nan")}, "half_width must be finite and above 0; got nan"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        Random(**options)
