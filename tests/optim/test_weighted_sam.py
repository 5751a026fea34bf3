"""SAM on a re-weighted loss, deferred or not, and the bins of a continuous target."""

import pytest
import torch
from torch import Tensor, nn

import oracles
from cases import BATCH_NORM, CASES, EMBEDDING, HEAD_AND_TAIL, MLP, ROUTED, Case
from imbsam import ClassPriors
from imbsam.errors import OptionError, PriorsError
from imbsam.optim import SAM, TargetBins, WeightedSAM
from imbsam.optim.weighted_sam import class_balanced, inverse_counts
from optim.family import BASE_AND_GROUPS, BASES, COUNTS, PRIORS, assert_follows, grouped
from optim.loops import contents, identical, sgd, take_step

WEIGHTS = torch.tensor([0.2, 0.5, 1.0, 3.0, 7.5], dtype=torch.float64)


@BASE_AND_GROUPS
@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("case", [MLP, EMBEDDING, ROUTED, BATCH_NORM], ids=str)
def test_weighted_sam_equals_the_textbook_loop(case: Case, start: int, base: str, groups: str) -> None:
    model = case.model()
    given, rhos = grouped(model, groups, 0.4, 0.1)
    optimizer = WeightedSAM(BASES[base][0](given), WEIGHTS, start=start, model=model, batch_statistics="batch")
    made = []

    def gradient(params: object, losses_of: object, y: Tensor) -> oracles.Grads:
        weights = (WEIGHTS[y] if len(made) >= start else torch.ones(len(y), dtype=torch.float64)) / len(y)
        made.append(y)
        return oracles.family_gradient(
            params,
            losses_of,
            [oracles.Addend(weights, weights, rhos)],
            oracles.plain_direction(),
            coupled=case.coupled,
        )

    assert_follows(optimizer, model, case, gradient, base=base)


@pytest.mark.parametrize("options", [{}, {"start": 100}], ids=["weights of one", "before the start"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_unweighted_it_is_sam(case: Case, options: dict[str, int]) -> None:
    model, twin = case.model(), case.model()
    weights = WEIGHTS if options else torch.ones(5)
    one = WeightedSAM(sgd(model.parameters()), weights, model=model, **options)
    other = SAM(sgd(twin.parameters()), model=twin)
    for batch in case.batches():
        take_step(one, model, case.loss, batch)
        take_step(other, twin, case.loss, batch)
        assert identical(contents(model), contents(twin))


@pytest.mark.parametrize("beta", [0.0, 0.9, 0.9999])
def test_class_balanced_weights_are_by_the_effective_number_of_samples(beta: float) -> None:
    effective = [sum(beta**k for k in range(n)) for n in COUNTS]
    expected = torch.tensor([1 / e for e in effective], dtype=torch.float64)
    expected *= 5 / expected.sum()
    torch.testing.assert_close(class_balanced(PRIORS, beta=beta), expected, atol=1e-9, rtol=0)


def test_a_class_without_samples_has_no_class_balanced_weight() -> None:
    with pytest.raises(PriorsError, match="class 1 has no training sample"):
        class_balanced(ClassPriors.from_counts([3, 0, 2]))


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_inverse_counts_have_mean_one_over_the_samples(power: float) -> None:
    counts = torch.tensor([16, 4, 1])
    weights = inverse_counts(counts, power=power)
    assert float((weights * counts).sum() / counts.sum()) == pytest.approx(1.0)
    torch.testing.assert_close(
        weights / weights[2], torch.tensor([16.0**-power, 4.0**-power, 1.0], dtype=torch.float64)
    )


def test_the_root_is_the_default_as_in_the_official_code() -> None:
    bins = TargetBins(torch.tensor([1.0]), torch.tensor([9, 1]))
    heavy, light = bins.weights().tolist()
    assert light / heavy == pytest.approx(3.0)


def test_bins_cut_the_range_evenly_and_count_every_target_once() -> None:
    targets = torch.tensor([0.0, 0.1, 1.0, 1.9, 2.0, 3.9, 4.0])
    bins = TargetBins.from_targets(targets, bins=4)
    assert bins.edges.tolist() == [1.0, 2.0, 3.0]
    assert bins.counts.tolist() == [2, 2, 1, 2]
    assert bins(targets).tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert bins(torch.tensor([-5.0, 99.0])).tolist() == [0, 3]
    assert bins(targets.half()).dtype == torch.int64
    assert TargetBins.from_targets(targets, bins=2).edges.tolist() == [2.0]


def test_bins_of_large_targets_are_cut_in_double() -> None:
    days = torch.tensor([738_000.0, 738_000.3], dtype=torch.float64)
    assert TargetBins.from_targets(days, bins=3).edges.tolist() == pytest.approx([738_000.1, 738_000.2], abs=1e-6)


def test_an_empty_bin_counts_as_one_of_one() -> None:
    bins = TargetBins.from_targets([0.0, 0.1, 0.2, 4.0], bins=4)
    assert bins.counts.tolist() == [3, 0, 0, 1]
    weights = bins.weights()
    assert float(weights[1]) == float(weights[3])


def test_a_regression_of_a_skewed_target_trains() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=generator)
    y = x[:, 0].exp()
    bins = TargetBins.from_targets(y, bins=5)
    model = nn.Linear(3, 1)
    optimizer = WeightedSAM(sgd(model.parameters(), lr=0.02), bins.weights(), rho=0.05)
    losses = [
        float(optimizer.step(lambda rows: (model(x[rows]).squeeze(1) - y[rows]).abs(), targets=bins(y)))
        for _ in range(30)
    ]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    "weights",
    [torch.ones(0), torch.ones(2, 2), torch.tensor([1.0, -1.0]), torch.tensor([1.0, torch.nan]), torch.tensor(1.0)],
    ids=str,
)
def test_weights_that_are_not_one_number_a_class_are_refused(weights: Tensor) -> None:
    with pytest.raises(OptionError, match=r"one finite number of at least 0 for each class, shape \(C,\)"):
        WeightedSAM(sgd(MLP.model().parameters()), weights)


def test_weights_for_fewer_classes_than_the_targets_have_are_refused_by_name() -> None:
    optimizer = WeightedSAM(sgd(MLP.model().parameters()), torch.ones(3))
    with pytest.raises(OptionError, match=r"target 4 is outside the 3 classes of the optimizer \(0..2\)"):
        optimizer.passes(HEAD_AND_TAIL)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: WeightedSAM(sgd(MLP.model().parameters()), WEIGHTS, start=-1), "start must be a whole number"),
        (lambda: class_balanced(PRIORS, beta=1.0), "beta must be at least 0 and below 1; got 1.0"),
        (lambda: inverse_counts(torch.ones(2), power=float("nan")), "power must be finite"),
        (lambda: TargetBins(torch.tensor([1.0, 1.0]), torch.ones(3)), "edges must ascend"),
        (lambda: TargetBins(torch.tensor([1.0, 2.0]), torch.ones(2)), "one count for each of the K bins"),
        (lambda: TargetBins.from_targets([1.0, 2.0], bins=1), "bins must be a whole number, at least 2"),
        (lambda: TargetBins.from_targets([]), "finite targets"),
        (lambda: TargetBins.from_targets([1.0, float("nan")]), "finite targets"),
        (lambda: TargetBins.from_targets([3.0, 3.0]), "all targets are 3.0"),
    ],
)
def test_options_out_of_range_are_refused(call: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call()
