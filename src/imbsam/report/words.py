"""Numbers and names as the report prints them, and its answer in sentences."""

from collections.abc import Sequence

from imbsam.metrics import MEASURE_NAMES, Measure
from imbsam.report.summary import Difference, Estimate, Summary
from imbsam.runs.records import Result

MAX_OTHERS = 3


def short(text: str, limit: int = 24) -> str:
    """Shorten a printable text to at most ``limit`` characters, with an ellipsis where something is missing."""
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def seeds(number: int) -> str:
    """Return the number of seeds in words, ``1 seed`` or ``3 seeds``."""
    return f"{number} seed" if number == 1 else f"{number} seeds"


def percent(share: float) -> str:
    """Format a share of 1 as percent, ``0.725`` as ``72.5 %`` with a non-breaking space."""
    return f"{100 * share:.1f}\u00a0%"


def points(difference: float) -> str:
    """Format a difference of shares in percentage points with its sign, ``0.075`` as ``+7.5``."""
    # The sum turns a rounded -0.0 into 0.0, which has no minus sign to show.
    return f"{round(100 * difference, 1) + 0.0:+.1f}".replace("-", "−")


def plus_minus(estimate: Estimate, *, signed: bool = False) -> str:
    """Format an estimate in percent with its half-width, ``72.5 ± 3.1``; the mean alone for one seed."""
    mean = points(estimate.mean) if signed else f"{100 * estimate.mean:.1f}"
    return mean if estimate.half_width is None else f"{mean} ± {100 * estimate.half_width:.1f}"


def interval(estimate: Estimate) -> str:
    """Describe the 95 % interval of a paired difference in words."""
    if estimate.half_width is None:
        return "one seed, so no interval"
    low, high = estimate.mean - estimate.half_width, estimate.mean + estimate.half_width
    verdict = "; zero lies inside" if low <= 0 <= high else ""
    return f"95 % interval {points(low)} to {points(high)}, paired over {seeds(estimate.n)}{verdict}"


def decided(result: Result) -> list[str]:
    """Describe how classes were decided, and what that gives rare classes and takes from frequent ones.

    Args:
        result: Result of a finished run.

    Returns:
        Sentences.
    """
    found, likeliest = result.test or result.validation, result.likeliest
    if found is None or likeliest is None or found.per_class == likeliest.per_class:
        return list(result.read.prices)
    shown: list[Measure] = [m for m in ("few", "medium", "many", "tail", "overall") if found.of(m) is not None]
    if found.tail == found.few:
        shown = [m for m in shown if m != "tail"]
    first, *others = (
        (f"{MEASURE_NAMES[m]} {percent(found.of(m) or 0.0)}", percent(likeliest.of(m) or 0.0)) for m in shown
    )
    gains = [f"{first[0]} (by the likeliest class in training frequencies {first[1]})"]
    gains += [f"{score} ({other})" for score, other in others]
    return [f"Decided {how(result)}: {', '.join(gains)}.", *result.read.prices]


def averaged(result: Result) -> str:
    """Describe how the kept weights were averaged over training; empty if they were not."""
    if result.config.get("average", "none") == "none":
        return ""
    return f"exponential moving average, decay {result.config.get('average_decay')}"


def how(result: Result) -> str:
    """Describe the class prior by which a run decides."""
    if result.config.get("cost"):
        return "by least expected cost"
    asked = result.config.get("class_prior")
    named = _DECIDED.get(str(asked[0])) if isinstance(asked, list | tuple) else None
    return named or "under the class prior asked for"


_DECIDED = {
    "auto": "as if all classes were equally frequent",
    "balanced": "as if all classes were equally frequent",
    "training": "as if classes were as frequent as in training",
    "loss": "under the class prior that the loss aims at",
}


def answer(summary: Summary) -> list[str]:
    """Describe the result, the answer first.

    Args:
        summary: Summary of one method or several.

    Returns:
        Sentences without a full stop: the leader against the baseline in the measure to judge by, the same in overall
        accuracy, then each other method against the baseline; if these are many, that the leader was chosen among them.
        For a single method: its scores. At last, the methods that never perturbed the weights in some runs.
    """
    unperturbed = [
        f"{label} never perturbed the weights in {seeds(number)}, because the tail was not learned (--sharp-recall); "
        "there it is its base optimizer"
        for label, number in summary.unperturbed.items()
    ]
    if len(summary.labels) == 1:
        return [_scores_alone(summary, summary.baseline), *unperturbed]
    leader = summary.leader
    others = [label for label in summary.labels[1:] if label != leader]
    sentences = [_against(summary, leader, summary.primary), _against(summary, leader, "overall")]
    return sentences + _more(summary, leader, others) + unperturbed


def _more(summary: Summary, leader: str, others: Sequence[str]) -> list[str]:
    if len(others) <= MAX_OTHERS:
        return [_against(summary, label, summary.primary) for label in others]
    challengers = len(others) + 1
    return [f"{leader} was chosen as the highest of {challengers} on these scores, so its score is optimistic"]


def _against(summary: Summary, label: str, measure: Measure) -> str:
    difference: Difference | None = summary.differences[label][measure]
    if difference is None:
        return (
            f"{_scores_alone(summary, label)}; no seed has this measure for it and for {summary.baseline}, "
            "so there is no difference to report"
        )
    return (
        f"{MEASURE_NAMES[measure]}: {label} {percent(difference.method)} against "
        f"{percent(difference.baseline)} for {summary.baseline}, {points(difference.mean)} points "
        f"({interval(difference)})" + (_at_cost(summary, label) if measure == summary.primary else "")
    )


def _at_cost(summary: Summary, label: str) -> str:
    cost, baseline = summary.costs[label], summary.costs[summary.baseline]
    return f", at {cost / baseline:.2f} times the rows forwarded" if cost and baseline else ""


def _scores_alone(summary: Summary, label: str) -> str:
    shown = {m: summary.scores[label][m] for m in dict.fromkeys((summary.primary, "balanced", "overall"))}
    scores = [f"{MEASURE_NAMES[m]} {percent(e.mean)}" for m, e in shown.items() if e is not None]
    return f"{label}: {', '.join(scores)}" if scores else f"{label}: no evaluated run"
