"""Schedules of rho and of every other number that a method goes by."""

import math

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from cases import HEAD_AND_TAIL, MLP, TAIL
from imbsam.errors import OptionError
from imbsam.optim import GSAM, METHODS, SAM, SSESAM, FriendlySAM, Gradient, ImbSAM, LookSAM, Schedule, TraceSAM
from imbsam.optim.schedules import Shape, constant, cosine, following, linear, stepped
from imbsam.priors import ClassPriors
from optim.family import made
from optim.loops import adamw, contents, identical, imbsam, plain_step, sam, sgd, take_step

SHAPES: dict[str, tuple[Shape, list[float]]] = {
    "constant": (constant(0.3), [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]),
    "linear": (linear(0.1, 0.5, 4), [0.1, 0.2, 0.3, 0.4, 0.5, 0.5]),
    "falling": (linear(0.4, 0.0, 2), [0.4, 0.2, 0.0, 0.0, 0.0, 0.0]),
    "cosine": (
        cosine(0.1, 0.5, 4),
        [0.1, 0.3 - 0.2 * math.cos(math.pi / 4), 0.3, 0.3 + 0.2 * math.cos(math.pi / 4), 0.5, 0.5],
    ),
    "stepped": (stepped([0.05, 0.1, 0.5], [2, 4]), [0.05, 0.05, 0.1, 0.1, 0.5, 0.5]),
    "of one's own": (lambda step: 0.1 * step**2, [0.0, 0.1, 0.4, 0.9, 1.6, 2.5]),
    "in no steps": (linear(0.1, 0.5, 0), [0.5] * 6),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_shape_gives_the_numbers_written_out(name: str) -> None:
    shape, expected = SHAPES[name]
    assert [shape(step) for step in range(6)] == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("name", SHAPES)
def test_a_schedule_sets_rho_at_each_step(name: str) -> None:
    shape, expected = SHAPES[name]
    model = MLP.model()
    optimizer = sam(MLP, model)
    schedule = Schedule(optimizer, "rho", shape)
    seen = []
    for seed in range(6):
        seen.append(optimizer.param_groups[0]["rho"])
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed))
        schedule.step()
    assert seen == pytest.approx(expected, abs=1e-15)


def test_a_scheduled_run_is_the_run_with_these_numbers_set_by_hand() -> None:
    model, twin = MLP.model(), MLP.model()
    scheduled, by_hand = imbsam(MLP, model), imbsam(MLP, twin)
    schedule = Schedule(scheduled, "rho", linear(0.1, 0.5, 4))
    for rho, batch in zip([0.1, 0.2, 0.3, 0.4, 0.5], MLP.batches(), strict=True):
        by_hand.param_groups[0]["rho"] = rho
        take_step(scheduled, model, MLP.loss, batch)
        take_step(by_hand, twin, MLP.loss, batch)
        schedule.step()
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-14, rtol=0)


def test_each_group_may_have_a_shape_of_its_own() -> None:
    params = list(MLP.model().parameters())
    optimizer = SAM(sgd([{"params": params[:2]}, {"params": params[2:]}]))
    schedule = Schedule(optimizer, "rho", [constant(0.2), linear(0.0, 1.0, 2)])
    seen = []
    for _ in range(3):
        seen.append([group["rho"] for group in optimizer.param_groups])
        schedule.step()
    assert seen == [[0.2, 0.0], [0.2, 0.5], [0.2, 1.0]]


def test_one_shape_is_for_every_group_also_one_added_later() -> None:
    params = list(MLP.model().parameters())
    optimizer = SAM(sgd(params[:2]), rho=9.0)
    schedule = Schedule(optimizer, "rho", linear(0.0, 1.0, 2))
    optimizer.add_param_group({"params": params[2:]})
    schedule.step()
    assert [group["rho"] for group in optimizer.param_groups] == [0.5, 0.5]


def test_head_and_tail_are_scheduled_apart() -> None:
    optimizer = SSESAM(sgd(MLP.model().parameters()), TAIL)
    Schedule(optimizer, "head_rho", constant(0.7))
    Schedule(optimizer, "rho", constant(0.3))
    assert (optimizer.param_groups[0]["head_rho"], optimizer.param_groups[0]["rho"]) == (0.7, 0.3)


@pytest.mark.parametrize("make", [sgd, adamw])
def test_rho_follows_the_learning_rate_as_gsam_has_it(make: object) -> None:
    """rho_t = rho_min + (rho_max - rho_min) (lr_t - lr_min) / (lr_max - lr_min)."""
    model = MLP.model()
    optimizer = GSAM(make(model.parameters(), lr=0.4), alpha=0.4)
    scheduler = lr_scheduler.CosineAnnealingLR(optimizer, T_max=4, eta_min=0.1)
    schedule = Schedule(optimizer, "rho", following(optimizer, low=0.1, high=0.6, lr_low=0.1, lr_high=0.4))
    seen = []
    for seed in range(5):
        (group,) = optimizer.param_groups
        seen.append(group["rho"])
        assert group["rho"] == pytest.approx(0.1 + 0.5 * (group["lr"] - 0.1) / 0.3)
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed))
        scheduler.step()
        schedule.step()
    assert seen[0] == pytest.approx(0.6)
    assert seen[2] == pytest.approx(0.35)
    assert seen[4] == pytest.approx(0.1)


ATTRIBUTES = {
    "sigma": lambda params: FriendlySAM(sgd(params)),
    "decay": lambda params: FriendlySAM(sgd(params)),
    "alpha": lambda params: GSAM(sgd(params)),
    "alpha of looksam": lambda params: LookSAM(sgd(params)),
    "damping": lambda params: ImbSAM(sgd(params), TAIL, ascent=Gradient()),
    "strength": lambda params: TraceSAM(sgd(params)),
    "tail_weight": lambda params: ImbSAM(sgd(params), TAIL),
}


@pytest.mark.parametrize("name", ATTRIBUTES)
def test_a_number_of_the_method_or_its_ascent_is_scheduled_too(name: str) -> None:
    model, twin = MLP.model(), MLP.model()
    one, other = (ATTRIBUTES[name](m.parameters()) for m in (model, twin))
    attribute = name.split()[0]
    schedule = Schedule(one, attribute, linear(0.9, 0.1, 4))
    for number, batch in enumerate(MLP.batches()):
        owner = other if hasattr(other, attribute) else other.ascent
        setattr(owner, attribute, 0.9 - 0.2 * number)
        for optimizer, held in ((one, model), (other, twin)):
            torch.manual_seed(number)
            take_step(optimizer, held, MLP.loss, batch)
        schedule.step()
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)


def test_the_tail_may_change_between_steps() -> None:
    model, twin = MLP.model(), MLP.model()
    optimizer = ImbSAM(sgd(model.parameters()), torch.zeros_like(TAIL), rho=0.3)
    optimizer.tail = TAIL
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    take_step(imbsam(MLP, twin, rho=0.3), twin, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("shape", [linear(0.1, 0.5, 8), following], ids=["linear", "following"])
def test_a_resumed_schedule_goes_on_bit_for_bit(shape: object) -> None:
    def start() -> tuple[torch.nn.Module, SAM, lr_scheduler.LRScheduler, Schedule]:
        model = MLP.model(torch.float32)
        optimizer = sam(MLP, model)
        scheduler = lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=8)
        own = following(optimizer, low=0.0, high=0.4, lr_low=0.01, lr_high=0.1) if shape is following else shape
        return model, optimizer, scheduler, Schedule(optimizer, "rho", own)

    def go(parts: tuple[torch.nn.Module, SAM, lr_scheduler.LRScheduler, Schedule], first: int, last: int) -> None:
        model, optimizer, scheduler, schedule = parts
        for seed in range(first, last):
            take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL, seed, torch.float32))
            scheduler.step()
            schedule.step()

    whole, half, resumed = start(), start(), start()
    go(whole, 0, 6)
    go(half, 0, 3)
    for old, new in zip(half, resumed, strict=True):
        new.load_state_dict(old.state_dict())
    assert resumed[3].state_dict() == {"steps": 3}
    assert resumed[1].param_groups[0]["rho"] == half[1].param_groups[0]["rho"]
    go(resumed, 3, 6)
    assert identical(contents(resumed[0], resumed[1]), contents(whole[0], whole[1]))
    assert resumed[1].param_groups[0]["rho"] == whole[1].param_groups[0]["rho"]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("plain", "sam-drw", "balanced-sam")])
def test_when_rho_reaches_zero_the_step_is_the_bases_bit_for_bit(name: str) -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, base = made(name, model), sgd(twin.parameters())
    schedules = [Schedule(optimizer, radius, stepped([0.3, 0.0], [2])) for radius in optimizer.radii]
    for number, batch in enumerate(MLP.batches(torch.float32)):
        if number == 2:
            twin.load_state_dict(model.state_dict())
            for p, q in zip(model.parameters(), twin.parameters(), strict=True):
                base.state[q] = {"momentum_buffer": optimizer.state[p]["momentum_buffer"].clone()}
        take_step(optimizer, model, MLP.loss, batch)
        if number >= 2:
            plain_step(base, twin, MLP.loss, batch)
            assert identical(contents(model, optimizer), contents(twin, base))
        for schedule in schedules:
            schedule.step()


def test_a_schedule_that_leaves_the_range_is_refused_at_the_step() -> None:
    model = MLP.model()
    optimizer = sam(MLP, model)
    schedule = Schedule(optimizer, "rho", linear(0.1, -0.1, 2))
    schedule.step()
    schedule.step()
    with pytest.raises(OptionError, match=r"rho must be finite and at least 0; got -0.1"):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda o: Schedule(o, "radius", constant(0.1)), r"no option 'radius' to schedule. Its groups have .*rho"),
        (lambda o: Schedule(o, "sigma", constant(0.1)), r"no option 'sigma' to schedule"),
        (lambda o: Schedule(o, "rho", [constant(0.1)] * 2), "one shape, or one for each of the 1 groups; got 2"),
        (lambda o: Schedule(o, "damping", [constant(0.1)] * 2), "one shape, or one for each"),
        (lambda o: stepped([0.1, 0.2], [1, 2]), "ascending milestones and one value more"),
        (lambda o: stepped([0.1, 0.2, 0.3], [2, 1]), "ascending milestones and one value more"),
        (
            lambda o: following(o, low=0, high=1, lr_low=0.1, lr_high=0.1),
            "lr_low must be below lr_high; got 0.1 and 0.1",
        ),
    ],
)
def test_what_cannot_be_scheduled_is_refused(call: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call(sam(MLP, MLP.model()))


def test_the_tail_itself_can_be_scheduled() -> None:
    priors = ClassPriors.from_counts([100, 50, 30, 10])
    model = nn.Linear(2, 4)
    optimizer = ImbSAM(torch.optim.SGD(model.parameters(), lr=0.1), priors.tail(fewer_than=20))
    schedule = Schedule(optimizer, "tail", lambda step: priors.tail(fewer_than=20 + 15 * step))
    marked = [optimizer.tail.tolist()]
    for _ in range(2):
        schedule.step()
        marked.append(optimizer.tail.tolist())
    assert marked == [[False, False, False, True], [False, False, True, True], [False, False, True, True]]
