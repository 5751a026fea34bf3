"""Perturbing some of the parameters alone: those of normalisation layers, or of certain names."""

import copy

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import OptionError
from imbsam.optim import METHODS, MSAM, SAM, Friendly, ImbSAM, SharpnessAware
from imbsam.optim._misuse import described
from optim.family import BASE_AND_GROUPS, BASES, assert_follows, grouped, made
from optim.loops import contents, identical, sgd, take_step


class RootMeanSquareNorm(nn.Module):
    """A layer of one's own that is told by its name."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * x / (x.pow(2).mean(1, keepdim=True) + 1e-6).sqrt()


def normed() -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Linear(6, 8), nn.LayerNorm(8), nn.Tanh(), nn.Linear(8, 8), RootMeanSquareNorm(8), nn.Linear(8, 5)]
    return nn.Sequential(*layers)


NORMED = Case("two norms", normed)


def chosen_of(case: Case, perturb: str | list[str]) -> list[bool]:
    """Which parameters they are, in the model's order; written out."""
    names = [name for name, _ in case.model().named_parameters()]
    if perturb == "norms":
        return [name.split(".")[0] in ("1", "4") for name in names]
    starts = tuple(each.removesuffix("*") for each in ([perturb] if isinstance(perturb, str) else perturb))
    return [name.startswith(starts) for name in names]


CHOICES = pytest.mark.parametrize(
    ("case", "perturb"),
    [(NORMED, "norms"), (BATCH_NORM, "norms"), (MLP, "2.*"), (NORMED, ["0.weight", "3.*"])],
    ids=str,
)


def masked(grads: oracles.Grads, mine: list[bool]) -> oracles.Grads:
    return [g if own else None for g, own in zip(grads, mine, strict=True)]


@BASE_AND_GROUPS
@CHOICES
def test_sam_and_imbsam_equal_the_textbook_loop(case: Case, perturb: str | list[str], base: str, groups: str) -> None:
    """The norm is that of the gradient over the perturbed parameters alone."""
    mine = chosen_of(case, perturb)
    assert 0 < sum(mine) < len(mine)

    def direction(key: int, params: list[Tensor], grads: oracles.Grads, rhos: list[float]) -> oracles.Grads:
        return oracles.perturbation(masked(grads, mine), rhos)

    for tail in (TAIL, torch.ones_like(TAIL)):
        model = case.model()
        given, rhos = grouped(model, groups, 0.5, 0.2)
        optimizer = ImbSAM(BASES[base][0](given), tail, model=model, batch_statistics="batch", perturb=perturb)

        def gradient(
            params: list[Tensor],
            losses_of: oracles.LossesOf,
            y: Tensor,
            tail: Tensor = tail,
            rhos: list[float] = rhos,
        ) -> oracles.Grads:
            mean = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
            head, of_tail = mean * ~tail[y], mean * tail[y]
            addends = [oracles.Addend(head), oracles.Addend(of_tail, of_tail, rhos)]
            return oracles.family_gradient(params, losses_of, addends, direction, coupled=case.coupled)

        assert_follows(optimizer, model, case, gradient, base=base)


def moved(optimizer: SharpnessAware, model: nn.Module, case: Case) -> list[bool]:
    """Which parameters are elsewhere than at the weights, in any pass of the second step."""
    torch.manual_seed(0)
    take_step(optimizer, model, case.loss, case.batch(HEAD_AND_TAIL, 0))
    x, y = case.batch(HEAD_AND_TAIL, 1)
    before = [p.detach().clone() for p in model.parameters()]
    found = [False] * len(before)
    with optimizer.passes(y) as passes:
        for p in passes:
            pairs = zip(found, before, model.parameters(), strict=True)
            found = [was or not torch.equal(b, now) for was, b, now in pairs]
            p.backward(case.loss(model(x[p.rows]), y[p.rows]))
    assert identical(before, [p.detach() for p in model.parameters()])
    return found


@pytest.mark.parametrize("name", [name for name in METHODS if name != "plain"])
def test_every_method_leaves_the_others_where_they_are(name: str) -> None:
    model = NORMED.model()
    in_each_step = {"esam": {"beta": 1.0}, "looksam": {"interval": 1}}.get(name, {})
    optimizer = made(name, model, perturb="norms", **in_each_step)
    assert moved(optimizer, model, NORMED) == chosen_of(NORMED, "norms")


def test_all_is_every_parameter_and_a_pattern_of_all_is_the_same_step_bit_for_bit() -> None:
    models = [MLP.model() for _ in range(3)]
    chosen = ("all", "*", ("0.*", "2.*"))
    optimizers = [SAM(sgd(m.parameters()), model=m, perturb=p) for m, p in zip(models, chosen, strict=True)]
    for batch in MLP.batches():
        for model, optimizer in zip(models, optimizers, strict=True):
            take_step(optimizer, model, MLP.loss, batch)
    assert identical(contents(models[0]), contents(models[1]))
    assert identical(contents(models[0]), contents(models[2]))


def test_norms_and_names_may_stand_together() -> None:
    model = NORMED.model()
    optimizer = SAM(sgd(model.parameters()), model=model, perturb=("norms", "5.*"))
    expected = [a or b for a, b in zip(chosen_of(NORMED, "norms"), chosen_of(NORMED, "5.*"), strict=True)]
    assert moved(optimizer, model, NORMED) == expected


def test_names_may_be_those_of_the_base_and_of_a_wrapped_model() -> None:
    model = MLP.model()
    expected = chosen_of(MLP, "2.*")
    nameless = SAM(sgd(model.named_parameters()), perturb="2.*")
    assert moved(nameless, model, MLP) == expected

    class Wrapper(nn.Module):
        def __init__(self, module: nn.Module) -> None:
            super().__init__()
            self.module = module

        def forward(self, x: Tensor) -> Tensor:
            return self.module(x)

    def compiled(m: nn.Module) -> nn.Module:
        return torch.compile(m, backend="eager")

    for wrap in (Wrapper, compiled, lambda m: Wrapper(compiled(m))):
        bare = MLP.model()
        optimizer = SAM(sgd(bare.parameters()), model=wrap(bare), perturb="2.*", check_rows=False)
        assert moved(optimizer, bare, MLP) == expected


def test_a_model_that_is_bound_later_is_looked_at_anew() -> None:
    model = NORMED.model()
    optimizer = SAM(sgd(model.named_parameters()), perturb="0.*")
    optimizer.bind(model)
    assert moved(optimizer, model, NORMED) == chosen_of(NORMED, "0.*")


def test_what_an_ascent_remembers_is_of_the_perturbed_alone_and_outlives_a_checkpoint() -> None:
    models = [NORMED.model() for _ in range(2)]
    one, other = (SAM(sgd(m.parameters()), model=m, ascent=Friendly(), perturb="norms") for m in models)
    for number, batch in enumerate(NORMED.batches()):
        take_step(one, models[0], NORMED.loss, batch)
        if number == 1:
            models[1].load_state_dict(models[0].state_dict())
            other.load_state_dict(copy.deepcopy(one.state_dict()))
        if number > 1:
            take_step(other, models[1], NORMED.loss, batch)
    assert identical(contents(models[0], one), contents(models[1], other))
    perturbed = [p for p, own in zip(models[0].parameters(), chosen_of(NORMED, "norms"), strict=True) if own]
    assert list(map(id, one.memory["ascent 0"])) == list(map(id, perturbed))


def test_a_copy_perturbs_its_own_parameters() -> None:
    model = NORMED.model()
    twin, optimizer = copy.deepcopy((model, MSAM(sgd(model.parameters()), model=model, perturb="norms")))
    assert moved(optimizer, twin, NORMED) == chosen_of(NORMED, "norms")


def test_ranks_are_told_what_each_perturbs() -> None:
    model = NORMED.model()
    assert described(SAM(sgd(model.parameters()), model=model, perturb="norms"))["perturb"] == ("norms",)


@pytest.mark.parametrize(
    ("perturb", "given", "told"),
    [
        ("norms", {"model": True}, "perturb='norms' finds no normalisation layer with parameters of the optimizer in"),
        ("norms", {}, "perturb='norms' needs the model's layers: give model="),
        ("0.*", {}, "perturb='0.*' needs the model's names: give model="),
        (
            "bn*",
            {"model": True},
            r"perturb='bn\*' matches no parameter .*They are 0.weight",
        ),
        (["norms", "bn*"], {"model": True}, r"perturb=\('norms', 'bn\*'\) matches no parameter"),
        ("", {}, "perturb must be 'all', 'norms', or patterns of names, such as 'head.*'; got ''"),
        ([], {}, r"perturb must be 'all', 'norms', or patterns of names, such as 'head.*'; got \[\]"),
        (3, {}, "perturb must be 'all', 'norms', or patterns of names, such as 'head.*'; got 3"),
    ],
)
def test_what_fits_nothing_is_refused(perturb: object, given: dict[str, bool], told: str) -> None:
    model = MLP.model()
    with pytest.raises(OptionError, match=told):
        SAM(sgd(model.parameters()), perturb=perturb, **({"model": model} if given else {}))
