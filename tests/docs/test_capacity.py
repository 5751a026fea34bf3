"""The formulas of a step's cost, beside what steps really take."""

import gc

import pytest
from capacity import SYMBOLS, WORK, Counts, Formula, ring

from docs.capacity_rank import SHARDED
from docs.capacity_steps import BATCH, RANKS, Counted, made, network, period, quantities, step
from imbsam.errors import OptionError
from imbsam.optim import METHODS
from optim.alive import Alive, bytes_of, reachable
from processes import held_by_ranks

POLICIES = ("alone", "context", "batch")
Found = dict[str, dict[str, float]]


def test_every_method_has_its_formulas() -> None:
    assert set(METHODS) <= set(WORK)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", WORK)
def test_rows_are_forwarded_and_backpropagated_as_the_formulas_say(name: str, policy: str) -> None:
    model = network(coupled=policy != "alone")
    optimizer = made(name, model, model, policy)
    for _ in range(period(name)):
        step(optimizer, model, BATCH)
    counted = Counted(model)
    for _ in range(period(name)):
        step(optimizer, model, BATCH)
    rows, given = WORK[name].rows(policy), quantities(name)
    expected = rows.forwards.at(**given) * period(name), rows.backwards.at(**given) * period(name)
    assert counted.rows() == pytest.approx(expected, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("coupled", [False, True], ids=["alone", "context"])
@pytest.mark.parametrize("name", WORK)
def test_memory_is_so_many_copies_of_the_parameters_and_the_activations_of_one_pass(name: str, coupled: bool) -> None:
    model = network(coupled=coupled, width=128, depth=10)
    optimizer = made(name, model, model, "context" if coupled else "alone")
    size = sum(p.nbytes for p in model.parameters())
    highest = 0
    gc.collect()
    gc.disable()
    try:
        for _ in range(period(name) + 2):
            optimizer.zero_grad()
            before = bytes_of(reachable(optimizer, model))
            with Alive(reachable(optimizer, model)) as alive:
                step(optimizer, model, BATCH)
            highest = max(highest, before + alive.highest)
        held = bytes_of(reachable(optimizer, model))
    finally:
        gc.enable()
    between, most = WORK[name].copies(1, coupled=coupled)
    # Running statistics and the rows themselves are there, too, and activations of a pass at the highest.
    assert between <= held / size < between + 0.15
    assert most.at(**quantities(name)) <= highest / size < most.at(**quantities(name)) + 0.5


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory) -> Found:
    one, *others = held_by_ranks("docs/capacity_rank.py", RANKS, tmp_path_factory.mktemp("capacity"), deadline=200)
    assert all(other == one for other in others)
    return one


@pytest.mark.parametrize("name", WORK)
def test_two_ranks_forward_and_send_what_the_formulas_say(name: str, counted: Found) -> None:
    work, given = WORK[name], quantities(name)
    for policy in POLICIES:
        rows = work.rows_of_a_rank(policy)
        assert counted[f"{name}, {policy}"] == pytest.approx(
            {
                "forwards": rows.forwards.at(**given),
                "backwards": rows.backwards.at(**given),
                "all_reduces": work.all_reduces.at(**given),
            }
        ), policy


@pytest.mark.parametrize("name", [name for name, work in WORK.items() if not work.remembers])
def test_ranks_that_climb_apart_share_the_sums_alone(name: str, counted: Found) -> None:
    sums = WORK[name].sums.at(**quantities(name))
    assert counted[f"{name}, climbing apart"]["all_reduces"] == pytest.approx(sums)


@pytest.mark.parametrize("name", [name for name, work in WORK.items() if work.remembers])
def test_methods_that_keep_their_direction_refuse_to_climb_apart(name: str) -> None:
    model = network(coupled=False)
    with pytest.raises(OptionError, match="choose climb='together'"):
        made(name, model, model, "alone", climb="apart")


@pytest.mark.parametrize("name", SHARDED)
def test_sharded_weights_are_gathered_and_scattered_as_the_formulas_say(name: str, counted: Found) -> None:
    work, given = WORK[name], quantities(name)
    assert counted[f"{name}, sharded"] == pytest.approx(
        {"allgather": work.gathers.at(**given), "reduce_scatter": work.scatters.at(**given)}
    )


def test_a_step_shares_one_gradient_more_than_a_plain_one_but_for_methods_of_several_directions_or_sums() -> None:
    more = {name for name, work in WORK.items() if work.all_reduces.at(C=5, k=5, n=1) > 2}
    assert more == {"cc-sam", "sse-sam"}


def test_a_formula_reads_as_it_is_computed() -> None:
    rows = Counts.of("B + 2 T + 2 C K", "3 B")
    assert str(rows.forwards) == "B + 2 T + 2 C K"
    assert rows.forwards.at(B=10, T=2, C=3, K=4) == 10 + 4 + 24
    assert rows.work(B=10, T=2, C=3, K=4) == pytest.approx((38 + 60) / 3)
    assert str(Formula({"B": 1}) + Formula({"T": -2, "": 1})) == "B - 2 T + 1"
    assert str(Formula()) == "0"
    assert str(Counts.of("B + 1/k B").forwards) == "B + 1/k B"
    assert str(Formula({"1/k": 2, "": 2})) == "2/k + 2"
    assert all(letter in SYMBOLS for name in rows.forwards.terms for letter in name.split())


def test_a_ring_sends_less_than_two_gradients() -> None:
    assert ring(100, 2) == 100
    assert ring(100, 8) == 175
