"""Summary over several seeds: means, 95 % intervals, paired differences to the baseline."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imbsam.errors import RunError
from imbsam.metrics import MEASURES, Measure
from imbsam.runs.onset import unperturbed
from imbsam.runs.records import Result, Split

BySeed = dict[int, float]


@dataclass(frozen=True)
class Estimate:
    """Mean over seeds.

    Args:
        mean: Mean, in [0, 1] for a score, in [-1, 1] for a difference.
        half_width: Half the width of the 95 % t-interval of the mean; None for one seed.
        n: Number of seeds.
    """

    mean: float
    half_width: float | None
    n: int


@dataclass(frozen=True)
class Difference(Estimate):
    """Mean over seeds of a method's score minus the baseline's at the same seed.

    Args:
        method: Mean score of the method over the shared seeds.
        baseline: Mean score of the baseline over the shared seeds.
    """

    method: float
    baseline: float


@dataclass(frozen=True, repr=False)
class Summary:
    """Scores of each label, and their paired differences to the first.

    Args:
        split: Part of the data that the scores are for.
        labels: Labels that were compared; the first is the baseline.
        scores: Scores by label and measure; None where no seed has the measure.
        differences: Differences by label, without the baseline, and measure; None where no seed has both.
        costs: Rows forwarded for each row trained on, by label, the mean over its seeds; None where no run has it.
        unperturbed: Number of seeds by label in which the weights were never perturbed, as the tail was not learned.
    """

    split: Split
    labels: tuple[str, ...]
    scores: Mapping[str, Mapping[Measure, Estimate | None]]
    differences: Mapping[str, Mapping[Measure, Difference | None]]
    costs: Mapping[str, float | None]
    unperturbed: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        means = [(label, self.scores[label][self.primary]) for label in self.labels]
        shown = ", ".join(f"{label} {100 * each.mean:.1f} %" for label, each in means if each is not None)
        return f"Summary({self.split} data, {self.primary}: {shown})"

    def _repr_html_(self) -> str:
        """A table for notebooks: each method's mean scores."""
        # Tables are made of summaries, and need this module first.
        from imbsam.report.tables import scores

        return scores(self)._repr_html_()

    @property
    def baseline(self) -> str:
        """Label that the others are compared with."""
        return self.labels[0]

    @property
    def tail_is_few(self) -> bool:
        """Return whether tail and few-shot classes score alike everywhere: the same classes need not be shown twice."""
        return all(scores["tail"] == scores["few"] for scores in self.scores.values())

    @property
    def primary(self) -> Measure:
        """Measure to judge by: few-shot recall, or that of the tail, or balanced accuracy, the first that exists."""
        groups: tuple[Measure, ...] = ("few", "tail")
        return next((m for m in groups if any(scores[m] for scores in self.scores.values())), "balanced")

    @property
    def leader(self) -> str:
        """Label with the highest :attr:`primary`, other than the baseline if there are others."""

        def height(label: str) -> float:
            estimate = self.scores[label][self.primary]
            return -math.inf if estimate is None else estimate.mean

        return max(self.labels[1:] or self.labels, key=height)


def summarise(results: Sequence[Result], *, labels: Sequence[str] | None = None) -> Summary:
    """Average runs over their seeds, and pair them by seed with the baseline's.

    The scores are those of the test set if any run has one, else of the validation set. A run without the
    set, or a measure that is None there, is left out of that mean.

    Args:
        results: Results of the runs, in any order.
        labels: Labels in order, baseline first; by default the order in which they appear. Other labels that appear
            are appended.

    Returns:
        The means and differences.

    Raises:
        RunError: If there is no result, or two have the same label and seed.
    """
    if not results:
        raise RunError("there is no finished run to summarise.")
    split: Split = "test" if any(result.test is not None for result in results) else "validation"
    ordered = tuple(dict.fromkeys([*(labels or ()), *(result.label for result in results)]))
    values = {label: _by_seed([r for r in results if r.label == label], split) for label in ordered}
    return Summary(
        split=split,
        labels=ordered,
        scores={label: {m: _score(values[label][m]) for m in MEASURES} for label in ordered},
        differences={
            label: {m: _difference(values[label][m], values[ordered[0]][m]) for m in MEASURES} for label in ordered[1:]
        },
        costs={label: _cost([r for r in results if r.label == label]) for label in ordered},
        unperturbed=Counter(result.label for result in results if unperturbed(result.notes)),
    )


def _by_seed(results: Sequence[Result], split: Split) -> dict[Measure, BySeed]:
    values: dict[Measure, BySeed] = {measure: {} for measure in MEASURES}
    seen: set[int] = set()
    for result in results:
        seed = result.seed
        if seed in seen:
            raise RunError(
                f"two runs of {result.label} have the seed {seed}, so they cannot be paired with the "
                "baseline. Remove one, or give them different labels."
            )
        seen.add(seed)
        metrics = result.scores(split)
        for measure in MEASURES:
            value = None if metrics is None else metrics.of(measure)
            if value is not None and math.isfinite(value):
                values[measure][seed] = value
    return values


def _cost(results: Sequence[Result]) -> float | None:
    ratios = [ratio for result in results if (ratio := result.cost_ratio) is not None]
    return _mean(ratios) if ratios else None


def _score(values: BySeed) -> Estimate | None:
    if not values:
        return None
    return Estimate(_mean(values.values()), t_half_width(list(values.values())), len(values))


def _difference(method: BySeed, baseline: BySeed) -> Difference | None:
    seeds = sorted(method.keys() & baseline.keys())
    if not seeds:
        return None
    gaps = [method[seed] - baseline[seed] for seed in seeds]
    return Difference(
        mean=_mean(gaps),
        half_width=t_half_width(gaps),
        n=len(seeds),
        method=_mean(method[seed] for seed in seeds),
        baseline=_mean(baseline[seed] for seed in seeds),
    )


def _mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return math.fsum(numbers) / len(numbers)


def t_half_width(values: Sequence[float]) -> float | None:
    """Compute half the width of the 95 % interval of the mean, by Student's t.

    Args:
        values: Values, one per seed.

    Returns:
        ``t(0.975, n - 1) * s / sqrt(n)`` with the sample standard deviation s; None for fewer than two.
    """
    n = len(values)
    if n < 2:
        return None
    # Late: no run waits for SciPy before its first step.
    from scipy.special import stdtrit

    mean = _mean(values)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return float(stdtrit(n - 1, 0.975)) * math.sqrt(variance / n)
