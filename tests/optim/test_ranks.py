"""Real processes over gloo: N shards equal one process with the whole batch, and no rank waits for another for ever."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import MLP, TAIL
from imbsam.optim._ranks import Ranks
from imbsam.optim._terms import Term
from optim.rank import SCENARIOS, STEPS, TARGETS, Scenario, imbsam_apart, sam
from processes import held_by_ranks

RANKS = 3
DEADLINE = 90.0


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, object]]]:
    """What each rank holds after every scenario; all of them in one start of the processes."""
    return held_by_ranks("optim/rank.py", RANKS, tmp_path_factory.mktemp("ranks"), deadline=DEADLINE)


def forwarded_by_shard(scenario: Scenario, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Losses of all shards' rows, each shard forwarded by itself, as BatchNorm sees it."""
    return torch.cat([scenario.case.loss(model(x[rows]), y[rows]) for rows in scenario.shards])


def in_one_process(scenario: Scenario) -> tuple[nn.Module, list[list[Tensor]]]:
    model = scenario.case.model()
    params, base = list(model.parameters()), oracles.SGD(0.1, 0.9, 0.01)
    rhos = [0.3] * len(params)
    rank_losses = []
    order = [row for rows in scenario.shards for row in rows]
    for seed in range(STEPS):
        x, y = scenario.case.batch(TARGETS, seed)

        def losses_of(rows: Tensor, x: Tensor = x, y: Tensor = y) -> Tensor:
            return forwarded_by_shard(scenario, model, x, y)[rows]

        with torch.no_grad():
            rank_losses.append([scenario.case.loss(model(x[rows]), y[rows]).mean() for rows in scenario.shards])
        if scenario.method is sam:
            grads = oracles.sam_gradient(params, losses_of, len(order), rhos, damping=0.1)
        elif scenario.method is imbsam_apart:
            grads = climbed_apart(scenario, model, x, y, rhos)
        else:
            grads = oracles.imbsam_gradient(params, losses_of, TAIL[y[order]], rhos, tail_weight=2.0, damping=0.1)
        base.step(params, grads)
    return model, rank_losses


def climbed_apart(scenario: Scenario, model: nn.Module, x: Tensor, y: Tensor, rhos: list[float]) -> oracles.Grads:
    """The ranks' own gradients, each at weights perturbed along its own tail's, by their share of the rows."""
    params, size = list(model.parameters()), sum(map(len, scenario.shards))
    total: oracles.Grads = [None] * len(params)
    for shard in scenario.shards:

        def losses_of(rows: Tensor, shard: list[int] = shard) -> Tensor:
            return scenario.case.loss(model(x[shard][rows]), y[shard][rows])

        own = oracles.imbsam_gradient(params, losses_of, TAIL[y[shard]], rhos, tail_weight=2.0, damping=0.1)
        total = oracles.added(total, [None if g is None else g * len(shard) / size for g in own])
    return total


@pytest.mark.parametrize("name", SCENARIOS)
def test_shards_on_ranks_equal_the_whole_batch_in_one_process(
    name: str, results: list[dict[str, dict[str, object]]]
) -> None:
    scenario = SCENARIOS[name]
    model, losses = in_one_process(scenario)
    weights = dict(model.named_parameters())
    for rank in range(len(scenario.shards)):
        held = results[rank][name]
        for key, value in weights.items():
            torch.testing.assert_close(held["state"][key], value.detach(), atol=1e-12, rtol=0)
        for step in range(STEPS):
            torch.testing.assert_close(held["losses"][step], losses[step][rank], atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", SCENARIOS)
def test_replicas_stay_bitwise_the_same(name: str, results: list[dict[str, dict[str, object]]]) -> None:
    scenario = SCENARIOS[name]
    weights = dict(scenario.case.model().named_parameters())
    first = results[0][name]["state"]
    for rank in range(1, len(scenario.shards)):
        assert all(torch.equal(first[key], results[rank][name]["state"][key]) for key in weights)


@pytest.mark.parametrize("name", [name for name in SCENARIOS if "batch norm" in name])
def test_running_statistics_move_once_a_step(name: str, results: list[dict[str, dict[str, object]]]) -> None:
    for rank in range(len(SCENARIOS[name].shards)):
        state = results[rank][name]["state"]
        assert {int(v) for k, v in state.items() if k.endswith("num_batches_tracked")} == {STEPS}


def test_a_nan_on_one_rank_is_refused_on_every_rank(results: list[dict[str, dict[str, object]]]) -> None:
    for rank in range(2):
        assert results[rank]["nan"]["refused"]
        assert results[rank]["nan"]["untouched"]
    one, other = (results[rank]["nan"]["state"] for rank in range(2))
    assert all(torch.equal(one[key], other[key]) for key in one)
    assert all(bool(value.isfinite().all()) for value in one.values())


def test_a_model_that_is_not_distributed_is_one_rank() -> None:
    for model in (None, MLP.model()):
        ranks = Ranks(model)
        nothing = torch.zeros(4, dtype=torch.float64)
        assert ranks.size == 1
        rows, need = ranks.agree(4, [Term(nothing + 0.25), Term(nothing, nothing)])
        assert rows == 4.0
        assert need.perturbed == (False, False)
        assert need.present == (True, False)
