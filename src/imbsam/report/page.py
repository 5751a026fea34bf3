"""Report page: one self-contained HTML page and the figures beside it."""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from imbsam.priors import SHOT_GROUPS
from imbsam.report import figures, tables
from imbsam.report.card import write_card
from imbsam.report.classes import class_table, confusion_table, one_by_one, shown_labels
from imbsam.report.confusion import confusion_matrix
from imbsam.report.curves import learning_curves
from imbsam.report.drawing import Picture, drawing, to_png, to_svg
from imbsam.report.files import Run, Study, read_study
from imbsam.report.summary import Summary, summarise
from imbsam.report.words import answer, averaged, decided, how, seeds
from imbsam.storage.files import write_atomically


@dataclass(frozen=True)
class Note:
    """Note for the reader, and the runs that it is about."""

    text: str
    about: str


def write_report(folder: Path) -> Path:
    """Write ``report.html`` and ``figures/*.png`` into the folder of a run or of a comparison, and model cards.

    The page needs no other file and no network. An earlier report is replaced as a whole.

    Args:
        folder: Folder with ``result.json`` and ``metrics.jsonl``, or with ``comparison.json`` and its runs' folders.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file is missing, damaged or cannot be written, or two runs have the same label and seed.
    """
    folder = Path(folder)
    study = read_study(folder)
    for run in study.runs:
        write_card(run)
    summary = summarise([run.result for run in study.runs], labels=study.labels)
    return write_page(folder, "report.html", lambda: _pictures(study, summary), _content(study, summary))


def write_page(folder: Path, name: str, draw: Callable[[], Sequence[Picture]], content: Mapping[str, object]) -> Path:
    """Write a page and its figures.

    Args:
        folder: Folder to write to.
        name: Name of the page.
        draw: Function that draws the figures.
        content: Other content of the page; see the template.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file cannot be written.
    """
    with drawing():
        pictures = draw()
        files = {folder / "figures" / f"{picture.name}.png": to_png(picture.figure) for picture in pictures}
        drawn = [(picture, Markup(to_svg(picture))) for picture in pictures]
    for path, picture in files.items():
        write_atomically(path, picture)
    script = _resource("page.js")
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = template.from_string(_resource("template.html")).render(
        {
            **dict.fromkeys(
                (
                    "differences",
                    "members",
                    "confusions",
                    "one_by_one",
                    "classes",
                    "cost",
                    "differing",
                    "shared",
                    "command",
                )
            ),
            "notes": (),
            "pictures": drawn,
            "style": Markup(_resource("style.css")),
            "script": Markup(script),
            # The browser then refuses any other script, and anything from a network.
            "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
            **content,
        }
    )
    page = folder / name
    write_atomically(page, text)
    return page


def _pictures(study: Study, summary: Summary) -> list[Picture]:
    found = [
        figures.shot_group_bars(summary),
        figures.recall_by_count(study, summary.split),
        learning_curves(study),
        figures.cost_against_gain(summary),
        *(
            confusion_matrix(study.runs_of(label), summary.split, name=name, label=label)
            for label, name in zip(shown_labels(summary), _confusions(summary), strict=True)
        ),
    ]
    return [picture for picture in found if picture is not None]


def _confusions(summary: Summary) -> Sequence[str]:
    return ("confusion",) if len(summary.labels) == 1 else ("confusion_baseline", "confusion_leader")


def _content(study: Study, summary: Summary) -> dict[str, object]:
    single = study.runs[0] if study.command is None else None
    differing, shared = tables.configuration(study)
    first, *others = answer(summary)
    said = [sentence.removesuffix(".") for sentence in decided(single.result)] if single else [_decided_by(study)]
    return {
        "title": f"{single.result.name if single else _listed(study.labels)} on {study.source}",
        "facts": _facts(study, summary, single),
        "answer": first,
        "sentences": [*others, *said],
        "scores": (tables.run_scores(single) if single else None) or tables.scores(summary),
        "differences": tables.differences(summary),
        "members": tables.members(study),
        "confusions": confusion_table(study, summary),
        "one_by_one": one_by_one(study, summary),
        "classes": class_table(study, summary),
        "each": "Classes",
        "cost": tables.cost(study),
        "differing": differing,
        "shared": shared,
        "notes": _notes(study),
        "command": study.command,
        "versions": tables.versions(study),
    }


def _decided_by(study: Study) -> str:
    """Describe how all of several runs decided, or that they differ."""
    found = sorted({how(run.result) for run in study.runs})
    return (
        f"Classes were decided on {found[0]}" if len(found) == 1 else f"Classes were decided on {'; or '.join(found)}"
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels) if len(labels) <= 4 else f"{len(labels)} methods"


def _resource(name: str) -> str:
    return resources.files("imbsam.report").joinpath(name).read_text(encoding="utf-8")


def _facts(study: Study, summary: Summary, single: Run | None) -> list[tuple[str, str]]:
    result = (single or study.runs[0]).result
    counts = result.counts
    present = [count for count in counts if count > 0]
    groups = ", ".join(f"{n} {group}" for group in SHOT_GROUPS if (n := result.groups.count(group)))
    facts = [
        ("data", study.source),
        ("classes", f"{len(counts)} ({groups})"),
        ("tail classes", str(sum(result.tail))),
        ("training samples", f"{sum(counts):,}"),
        ("rarest, most frequent class", f"{min(counts)}, {max(counts)}"),
        ("imbalance factor", f"{max(present) / min(present):.4g}" if present else tables.NOTHING),
        ("scores of", f"the {summary.split} set"),
    ]
    if single is None:
        distinct = {run.result.seed for run in study.runs}
        return [*facts, ("finished runs", f"{len(study.runs)} ({seeds(len(distinct))})")]
    best = result.best_epoch
    return [
        *facts,
        ("seed", str(result.seed)),
        *([("weights", text)] if (text := averaged(result)) else []),
        *([("second stage", f"{result.second_stage.how}, of {result.second_stage.of}")] if result.second_stage else []),
        *([("epochs", f"{result.epochs}" + (f", best {best}" if best is not None else ""))] if result.epochs else []),
    ]


def _notes(study: Study) -> list[Note]:
    notes = [Note("did not finish and is left out", name) for name in study.missing]
    about: dict[str, list[Run]] = {}
    for run in study.runs:
        for text in dict.fromkeys(run.result.notes):
            about.setdefault(text, []).append(run)
        if not run.epochs and run.result.epochs:
            about.setdefault("no metrics.jsonl, so not in the learning curves", []).append(run)
    return notes + [Note(text, _whose(runs, study)) for text, runs in about.items()]


def _whose(runs: Sequence[Run], study: Study) -> str:
    """Name the runs in few words: all, all of some seeds, or their names."""
    if len(runs) == len(study.runs) > 1:
        return "all runs"
    seeds = sorted({run.result.seed for run in runs})
    of_the_seeds = [run for run in study.runs if run.result.seed in seeds]
    if len(runs) == len(of_the_seeds) > len(seeds):
        return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    return ", ".join(run.result.name for run in runs)
