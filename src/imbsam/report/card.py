"""Model card of a run: what it is, how it was made, how well it works, and what to know before using it."""

from functools import cache
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from imbsam.metrics import MEASURE_NAMES, MEASURES, Metrics
from imbsam.report.files import Run
from imbsam.report.words import averaged, how
from imbsam.runs.records import Result
from imbsam.storage.files import write_atomically

NAME = "model-card.md"
MOST_CLASSES = 50


def write_card(run: Run) -> Path:
    """Write ``model-card.md`` (Mitchell et al. 2019), with the head that model hubs read.

    Args:
        run: Finished run.

    Returns:
        The path of the card.

    Raises:
        RunError: If the card cannot be written.
    """
    result = run.result
    counts = result.counts
    shown = {name: metrics for name, metrics in (("test", result.test), ("validation", result.validation)) if metrics}
    text = _template().render(
        {
            "result": result,
            "name": _cell(result.name),
            "task": "tabular-classification" if result.config.get("target") else "image-classification",
            "tail": sum(result.tail),
            "model": [(name, _cell(value)) for name, value in _described(result)],
            "averaged": averaged(result),
            "second": None if result.second_stage is None else _cell(result.second_stage.told()),
            "retrain": _retrain(result),
            "members": [(_cell(each.name), _percent(each.share), _percent(each.score)) for each in result.members],
            "samples": f"{sum(counts):,}",
            "source": _code(result.source),
            "most": max(counts),
            "least": min(counts),
            "notes": [_cell(note) for note in result.notes],
            "scores": list(shown),
            "rows": _rows(list(shown.values())),
            "few": f"classes of fewer than {result.config.get('few_below')} training samples",
            "split": next(iter(shown), ""),
            "classes": _classes(result, next(iter(shown.values()), None)),
            "left_out": max(0, len(counts) - MOST_CLASSES),
            "shift": _shift(result),
            "versions": ", ".join(f"{name} {version}" for name, version in result.versions.items()),
        }
    )
    path = run.folder / NAME
    # A report that is written again leaves the folders of its runs as they are.
    if not path.is_file() or path.read_bytes() != text.encode():
        write_atomically(path, text)
    return path


def _retrain(result: Result) -> str:
    """Return the options that repeat a second stage."""
    stage = result.second_stage
    if stage is None:
        return ""
    own = {"epochs": stage.epochs or None, "lr": stage.lr, "tau": stage.tau}
    return " ".join(
        [f"--how {stage.how}", *(f"--{name} {value:g}" for name, value in own.items() if value is not None)]
    )


_TOLD = ("model", "method", "rho", "loss", "class_prior", "base", "lr", "epochs", "batch_size", "seed")
_TOLD_OF_A_BLEND = ("method", "class_prior", "seed")


def _described(result: Result) -> list[tuple[str, object]]:
    """Return the options that define the model."""
    told = _TOLD_OF_A_BLEND if result.members else _TOLD
    values = {key: result.config.get(key) for key in told}
    return [(key.replace("_", " "), _listed(value)) for key, value in values.items()]


def _listed(value: object) -> object:
    return " ".join(str(each) for each in value) if isinstance(value, list | tuple) else value


@cache
def _template() -> Template:
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    return environment.from_string(resources.files("imbsam.report").joinpath("card.md").read_text(encoding="utf-8"))


def _rows(scored: list[Metrics]) -> list[tuple[str, list[str]]]:
    rows = [(MEASURE_NAMES[measure], [_percent(metrics.of(measure)) for metrics in scored]) for measure in MEASURES]
    rows.append(("expected calibration error", [_percent(metrics.ece) for metrics in scored]))
    return [*rows, ("log loss", [f"{metrics.log_loss:.3f}" for metrics in scored])]


def _classes(result: Result, metrics: Metrics | None) -> list[tuple[str, str, str, str]]:
    counts = result.counts
    recalls = [None] * len(counts) if metrics is None else metrics.per_class
    order = sorted(range(len(counts)), key=lambda index: counts[index])[:MOST_CLASSES]
    return [(_cell(result.classes[i]), str(counts[i]), result.groups[i], _percent(recalls[i])) for i in order]


def _shift(result: Result) -> str:
    """Describe the class frequencies that the probabilities assume."""
    asked = result.config.get("class_prior")
    named = str(asked[0]) if isinstance(asked, list | tuple) and asked else "loss"
    told = _TOLD_UNDER.get(named, "assume the class frequencies that were asked for")
    return (
        f"its probabilities {told}, and decisions are made {how(result)}. For other frequencies: `imbsam predict RUN "
        "NEW --class-prior CLASS=FREQUENCY ...`, and the same for `imbsam export`."
    )


_TOLD_UNDER = {
    "auto": "assume the class frequencies of training",
    "training": "assume the class frequencies of training",
    "balanced": "assume equal class frequencies",
    "loss": "assume the class frequencies that the loss aims at",
}


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.1f}"


def _cell(value: object) -> str:
    """Return a value as plain text for a cell of a Markdown table."""
    text = str(value)
    for special in "\\`*_[]<>|#":
        text = text.replace(special, f"\\{special}")
    return text


def _code(text: str) -> str:
    """Return a text for use between back quotes."""
    return text.replace("`", "'")
