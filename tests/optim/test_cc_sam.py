"""CC-SAM against its formula and the released code's rule for the classifier."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, Case
from imbsam import ClassPriors
from imbsam.errors import OptionError, PassError
from imbsam.optim import CCSAM, SAM, ClassConditional, Gradient, Slope
from optim.family import BASE_AND_GROUPS, BASES, COUNTS, PRIORS, assert_follows, grouped
from optim.loops import (
    Forwards,
    assert_gradients_close,
    contents,
    gradients,
    make_passes,
    plain_step,
    sgd,
    take_step,
)


def factor(count: int) -> float:
    """(n - 1)^(-1/4), a class with one sample as one with two."""
    return max(count - 1, 1) ** -0.25


def class_addends(y: Tensor, flat: float, rhos: list[float]) -> list[oracles.Addend]:
    addends = [oracles.Addend(torch.full((len(y),), (1 - flat) / len(y), dtype=torch.float64))]
    for c in sorted(set(y.tolist())):
        members = (y == c).double()
        scaled = [r * factor(COUNTS[c]) for r in rhos]
        addends.append(oracles.Addend(flat * members / len(y), members / members.sum(), scaled, key=c))
    return addends


@BASE_AND_GROUPS
@pytest.mark.parametrize("flat", [0.3, 1.0])
@pytest.mark.parametrize("per_tensor", [False, True], ids=["all together", "per tensor"])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_cc_sam_equals_the_textbook_loop(case: Case, per_tensor: bool, flat: float, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.05, 0.0)
    optimizer = CCSAM(
        BASES[base][0](given), PRIORS, flat=flat, per_tensor=per_tensor, model=model, batch_statistics="batch"
    )
    direction = oracles.class_conditional_direction(per_tensor=per_tensor)
    assert_follows(
        optimizer,
        model,
        case,
        lambda params, losses_of, y: oracles.family_gradient(
            params, losses_of, class_addends(y, flat, rhos), direction, coupled=case.coupled
        ),
        base=base,
    )


def the_head_alone(model: nn.Module, head: nn.Module) -> list[dict[str, object]]:
    mine = set(head.parameters())
    return [{"params": [p for p in model.parameters() if p not in mine], "rho": 0.0}, {"params": list(mine)}]


@pytest.mark.parametrize("option", [False, True], ids=["a group", "classifier="])
def test_the_classifier_alone_is_the_released_codes_rule(option: bool) -> None:
    """Per tensor r sqrt(|w|) / sqrt(|g_c|) / sqrt(2) / (n - 1)^(1/4) / P^(1/4) sqrt(P), P of the whole classifier."""
    model = MLP.model()
    head = model[2]
    x, y = MLP.batch(HEAD_AND_TAIL)
    params = sgd(model.parameters()) if option else sgd(the_head_alone(model, head))
    optimizer = CCSAM(params, PRIORS, rho=0.02, flat=0.4, model=model, classifier="2" if option else None)
    entries = sum(p.numel() for p in head.parameters())
    hidden = model[1](model[0](x))
    plain = MLP.loss(head(hidden), y)
    moved = torch.zeros((), dtype=torch.float64)
    for c in y.unique().tolist():
        rows = y == c
        shifted = []
        for p, g in zip(
            head.parameters(),
            torch.autograd.grad(plain[rows].mean(), head.parameters(), retain_graph=True),
            strict=True,
        ):
            r = 0.02 * float(p.detach().norm()) ** 0.5 / float(g.norm()) ** 0.5 / 2**0.5 * factor(COUNTS[c])
            shifted.append(p + r / entries**0.25 * entries**0.5 * g / g.norm())
        moved = moved + MLP.loss(nn.functional.linear(hidden[rows], *shifted), y[rows]).sum() / len(y)
    expected = torch.autograd.grad(0.6 * plain.mean() + 0.4 * moved, list(model.parameters()))
    make_passes(optimizer, model, MLP.loss, (x, y))
    assert_gradients_close(gradients(model), list(expected))


ONE_CLASS = torch.tensor([2, 2, 2, 2])


def lengths(optimizer: object, model: nn.Module, batch: tuple[Tensor, Tensor]) -> list[float]:
    """How far each forward's weights are from those of the step."""
    x, y = batch
    before = [p.detach().clone() for p in model.parameters()]
    seen = []
    with optimizer.passes(y) as passes:
        for p in passes:
            seen.append(oracles.norm([w.detach() - b for w, b in zip(model.parameters(), before, strict=True)]))
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    return seen


def test_one_class_all_flat_along_the_gradient_is_sam_with_the_classs_factor() -> None:
    model, twin = MLP.model(), MLP.model()
    one = CCSAM(sgd(model.parameters()), PRIORS, rho=0.3, flat=1.0, ascent=Gradient())
    other = SAM(sgd(twin.parameters()), rho=0.3 * factor(COUNTS[2]))
    for seed in range(4):
        batch = MLP.batch(ONE_CLASS, seed)
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-14, rtol=0)


def test_one_class_all_flat_is_sam_of_the_rules_length() -> None:
    model, twin = MLP.model(), MLP.model()
    one = CCSAM(sgd(model.parameters()), PRIORS, rho=0.05, flat=1.0, per_tensor=False)
    other = SAM(sgd(twin.parameters()), rho=1.0)
    for seed in range(4):
        batch = MLP.batch(ONE_CLASS, seed)
        still, moved = lengths(one, model, batch)
        assert still == 0.0
        plain = [p.detach().clone() for p in twin.parameters()]
        grads = torch.autograd.grad(MLP.loss(twin(batch[0]), batch[1]).mean(), list(twin.parameters()))
        entries = sum(p.numel() for p in plain)
        length = (
            0.05
            * (oracles.norm(plain) / (2 * oracles.norm(list(grads)))) ** 0.5
            * entries**0.25
            * (COUNTS[2] - 1) ** -0.25
        )
        assert moved == pytest.approx(length, rel=1e-12)
        one.step()
        other.param_groups[0]["rho"] = length
        take_step(other, twin, MLP.loss, batch)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)


def test_the_rarer_the_class_the_longer_its_perturbation() -> None:
    factors = CCSAM(sgd(MLP.model().parameters()), PRIORS).factors
    assert factors.tolist() == pytest.approx([39**-0.25, 29**-0.25, 19**-0.25, 5**-0.25, 1.0])


def test_the_length_does_not_change_with_the_number_of_the_classs_rows() -> None:
    """It goes by the class's mean loss: two copies of its row make the same perturbation as one."""
    model = MLP.model()
    x, _ = MLP.batch(torch.tensor([4]))
    other, _ = MLP.batch(torch.tensor([0]))
    found = []
    for copies in (1, 3):
        batch = torch.cat([x] * copies + [other] * 3), torch.tensor([4] * copies + [0] * 3)
        optimizer = CCSAM(sgd(model.parameters(), lr=0.0), PRIORS, rho=0.1)
        found.append(max(lengths(optimizer, model, batch)))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


@pytest.mark.parametrize("counts", [[1, 1, 1, 1, 1], [10, 0, 3, 1, 2]], ids=str)
def test_a_class_with_one_sample_or_none_does_not_divide_by_zero(counts: list[int]) -> None:
    model = MLP.model()
    optimizer = CCSAM(sgd(model.parameters()), ClassPriors.from_counts(counts), rho=0.1)
    for batch in MLP.batches():
        assert bool(take_step(optimizer, model, MLP.loss, batch).isfinite())
    assert all(bool(t.isfinite().all()) for t in contents(model))


def test_a_parameter_that_is_zero_or_has_no_slope_stays_where_it_is() -> None:
    zero, still, moved = (torch.full((2,), v, dtype=torch.float64) for v in (0.0, 1.0, 1.0))
    grads = [torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64), torch.ones(2).double()]
    ClassConditional(per_tensor=True).climb([Slope(0.1, [zero, still, moved], grads, [None] * 3)], {})
    assert zero.tolist() == [0.0, 0.0]
    assert still.tolist() == [1.0, 1.0]
    assert bool((moved > 1).all())


def test_flat_zero_is_the_base_optimizer_bit_for_bit() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    optimizer, base = CCSAM(sgd(model.parameters()), PRIORS, flat=0.0), sgd(twin.parameters())
    for batch in MLP.batches(torch.float32):
        take_step(optimizer, model, MLP.loss, batch)
        plain_step(base, twin, MLP.loss, batch)
    torch.testing.assert_close(contents(model), contents(twin), atol=0, rtol=0)


@pytest.mark.parametrize("flat", [0.0, 0.3, 0.5, 0.7, 1.0])
def test_the_parts_add_up_to_the_mean_in_every_bit(flat: float) -> None:
    optimizer = CCSAM(sgd(MLP.model().parameters()), PRIORS, flat=flat)
    for size in range(1, 60):
        total = sum(term.descent for term in optimizer.terms(torch.arange(size) % 5))
        assert torch.equal(total, torch.full((size,), 1 / size, dtype=torch.float64))


@pytest.mark.parametrize("flat", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(flat: float) -> None:
    with pytest.raises(OptionError, match=rf"flat must be at least 0 and at most 1; got {flat}"):
        CCSAM(sgd(MLP.model().parameters()), PRIORS, flat=flat)


def last_linear(model: nn.Module) -> tuple[str, nn.Module]:
    return [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]


@pytest.mark.parametrize("size", [None, 3], ids=["whole", "in parts"])
@pytest.mark.parametrize("per_tensor", [False, True], ids=["all together", "per tensor"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_classifier_makes_the_steps_of_a_group_for_it_in_two_passes(
    case: Case, per_tensor: bool, size: int | None
) -> None:
    model, twin = case.model(), case.model()
    name, _ = last_linear(model)
    options = {"rho": 0.2, "flat": 0.4, "per_tensor": per_tensor}
    one = CCSAM(sgd(model.parameters()), PRIORS, model=model, classifier=name, **options)
    other = CCSAM(sgd(the_head_alone(twin, last_linear(twin)[1])), PRIORS, model=twin, rows="all", **options)
    counted = Forwards(model)
    for x, y in case.batches():
        with one.passes(y, loss_scale=8.0) as passes:
            for each in passes:
                for p in [each] if size is None or case.coupled else each.split(size):
                    rows, classes = p.select(x, y)
                    p.backward(8.0 * case.loss(model(rows), classes))
        for p in model.parameters():
            p.grad /= 8.0
        one.step()
        loss = take_step(other, twin, case.loss, (x, y))
        torch.testing.assert_close(passes.loss, loss, atol=1e-12, rtol=0)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)
    assert sum(counted.rows) == 2 * sum(len(y) for _, y in case.batches())


def test_classifier_leaves_no_hook_and_no_layer_behind() -> None:
    model = MLP.model()
    optimizer = CCSAM(sgd(model.parameters()), PRIORS, model=model, classifier="2")
    x, y = MLP.batch(HEAD_AND_TAIL)
    with optimizer.passes(y) as passes:
        next(iter(passes))
    take_step(optimizer, model, MLP.loss, (x, y))
    assert not model[2]._forward_hooks
    assert optimizer.ascent.layer is None


def test_classifier_has_to_be_a_layer_of_the_model() -> None:
    model = MLP.model()
    told = {"fc": r"'fc' is no nn\.Linear of the model; they are: 0, 2\.", "1": "'1' is no", "2": "give model="}
    for name, message in told.items():
        with pytest.raises(OptionError, match=message):
            CCSAM(sgd(model.parameters()), PRIORS, model=None if name == "2" else model, classifier=name)


@pytest.mark.parametrize("options", [{"flat": 1.0}, {"ascent": Gradient()}], ids=str)
def test_classifier_goes_with_the_rule_and_a_step_at_the_weights(options: dict[str, object]) -> None:
    model = MLP.model()
    with pytest.raises(OptionError, match="the rule of CC-SAM alone, and with flat below 1"):
        CCSAM(sgd(model.parameters()), PRIORS, model=model, classifier="2", **options)


def test_a_classifier_that_gets_other_rows_or_none_is_refused() -> None:
    model = MLP.model()
    optimizer = CCSAM(sgd(model.parameters()), PRIORS, model=model, classifier="2")
    x, y = MLP.batch(HEAD_AND_TAIL)
    with pytest.raises(PassError, match="one row of features for each row of the batch"):
        take_step(optimizer, model, lambda logits, y: MLP.loss(logits[: len(y)], y), (x.repeat(2, 1)[:, None], y))
    with pytest.raises(PassError, match="names a layer that is not in use"):
        take_step(optimizer, model[:2], lambda hidden, y: hidden.sum(1), (x, y))


def test_classifier_refuses_rows_of_several_classes() -> None:
    model = MLP.model()
    optimizer = CCSAM(sgd(model.parameters()), PRIORS, model=model, classifier="2")
    with pytest.raises(OptionError, match="made of classes"):
        optimizer.passes(torch.full((4, len(COUNTS)), 0.2))
