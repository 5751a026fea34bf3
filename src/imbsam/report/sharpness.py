"""Report of the sharpness of runs: tables by group and class, the spectra, the loss surfaces."""

from collections.abc import Sequence
from pathlib import Path

from imbsam.report.landscapes import density_picture, line_picture, plane_picture
from imbsam.report.page import Note, write_page
from imbsam.report.sharpness_runs import NUMBERS, SharpnessStudy, number, option
from imbsam.report.tables import NOTHING, Cell, Table, versions_here
from imbsam.runs.sharpness_record import SharpnessRecord, Spectrum

JUDGED_BY = ("largest eigenvalue", "SAM sharpness", "trace")
"""Numbers that the answer uses: the first of these that was measured, then the others."""


def write_sharpness(folder: Path, runs: Sequence[SharpnessRecord], *, command: str | None = None) -> Path:
    """Write ``report.html`` and its figures.

    Args:
        folder: Folder to write to.
        runs: Measurements of each run; at least one.
        command: Command that the user typed.

    Returns:
        The path of the page.

    Raises:
        RunError: If a file cannot be written.
    """
    study = SharpnessStudy(runs)
    pictures = (density_picture, line_picture, plane_picture)
    first, *others = findings(study)
    return write_page(
        folder,
        "report.html",
        lambda: [picture for draw in pictures if (picture := draw(study)) is not None],
        {
            "title": f"Sharpness of {_listed(study.labels)} on {_listed(_sources(study))}",
            "answer": first,
            "sentences": others,
            "facts": _facts(study),
            "scores": group_table(study, brief=True),
            "differences": group_table(study) if _several(study) else None,
            "classes": class_table(study),
            "each": "Classes",
            "notes": [Note(text, about) for text, about in notes(study)],
            "command": command,
            "versions": versions_here(),
        },
    )


def findings(study: SharpnessStudy) -> list[str]:
    """Describe the result: each method against the first, for the group that matters most.

    Returns:
        Sentences without a full stop, at least one.
    """
    part = next((group for group in ("tail", "few") if group in study.groups), "overall")
    baseline, *others = study.labels
    said = []
    for name in JUDGED_BY:
        base = study.spread(baseline, part, name)
        if base is None:
            continue
        if not others:
            said.append(f"{name} of the {part}: {base.middle:.3g}{_against_head(study, baseline, part, name)}")
        for label in others:
            if (spread := study.spread(label, part, name)) is not None:
                said.append(
                    f"{name} of the {part}: {label} {spread.middle:.3g} against {base.middle:.3g} for {baseline}"
                    + _paired(study, label, part, name)
                )
    return said or [f"The loss around the weights of {_listed(study.labels)}"]


def _against_head(study: SharpnessStudy, label: str, part: str, name: str) -> str:
    head = study.spread(label, "head", name)
    return f", of the head: {head.middle:.3g}" if head is not None and part == "tail" else ""


def _paired(study: SharpnessStudy, label: str, part: str, name: str) -> str:
    """Count the seeds that agree: if numbers differ by powers of ten, a mean of differences says little."""
    base = {run.seed: number(run, part, name) for run in study.runs_of(study.labels[0])}
    pairs = [
        (own, base[run.seed])
        for run in study.runs_of(label)
        if (own := number(run, part, name)) is not None and base.get(run.seed) is not None
    ]
    if len(pairs) < 2:
        return " (one seed)" if pairs else " (no seed in common)"
    lower = sum(own < other for own, other in pairs if other is not None)
    return f" (medians; lower in {lower} of {len(pairs)} paired seeds)"


def group_table(study: SharpnessStudy, *, brief: bool = False) -> Table:
    """Make the table of each group's numbers for each method: the median over runs and, unless brief, the range."""
    steps = option((run.measured.spectrum for run in study.runs), "iterations")
    rho, adaptive = (option((run.measured.sam for run in study.runs), name) for name in ("rho", "adaptive_rho"))
    return Table(
        caption=(
            f"{_split(study)}, {steps or 'no'} Lanczos steps; SAM sharpness within "
            f"{rho or NOTHING}, adaptive within {adaptive or NOTHING}"
            + (
                "; medians over the runs of a method" + ("" if brief else ", lowest to highest in brackets")
                if _several(study)
                else ""
            )
        ),
        columns=["group", "method", *NUMBERS],
        rows=[
            [Cell(", ".join(alike)), Cell(label), *(_spread(study, label, alike[0], name, brief) for name in NUMBERS)]
            for alike in study.groups_alike
            for label in study.labels
        ],
    )


def _spread(study: SharpnessStudy, label: str, part: str, name: str, brief: bool) -> Cell:
    spread = study.spread(label, part, name)
    if spread is None:
        return Cell(NOTHING)
    text = f"{spread.middle:.3g}"
    if len(study.runs_of(label)) > 1 and not brief:
        text += f" ({spread.low:.2g} to {spread.high:.2g})"
    return Cell(text, key=spread.middle)


def class_table(study: SharpnessStudy) -> Table:
    """Make the table of the numbers of each class in each run, from frequent to rare."""

    def row(run: SharpnessRecord, index: int) -> list[Cell]:
        values = [number(run, str(index), name) for name in NUMBERS]
        return [
            Cell(run.classes[index]),
            Cell(run.name),
            Cell(run.groups[index]),
            Cell(str(run.counts[index]), key=run.counts[index]),
            Cell(str(run.drawn[index]), key=run.drawn[index]),
            *(Cell(NOTHING) if value is None else Cell(f"{value:.3g}", key=value) for value in values),
        ]

    return Table(
        caption="Each class separately, from frequent to rare; rows are those drawn for the measurement",
        columns=["class", "run", "group", "training samples", "rows", *NUMBERS],
        rows=[
            row(run, index)
            for run in study.runs
            for index in sorted(range(len(run.counts)), key=lambda i: -run.counts[i])
        ],
        sortable=True,
    )


def notes(study: SharpnessStudy) -> list[tuple[str, str]]:
    """Return notes for the reader, with the run that each is about."""
    found = []
    for run in study.runs:
        without = [name for name, drawn in zip(run.classes, run.drawn, strict=True) if not drawn]
        if without:
            shown = ", ".join(without[:5]) + (", ..." if len(without) > 5 else "")
            found.append((f"no rows of {len(without)} classes in the {run.split} data: {shown}", run.name))
        spectra = run.measured.spectrum.found
        rough = {
            group: f"{group} within {100 * _residual(spectra[group]):.2g} %"
            for group in study.groups
            if group in spectra and not spectra[group].converged
        }
        if rough:
            found.append((f"extreme eigenvalues that need more Lanczos steps: {', '.join(rough.values())}", run.name))
    losses = list(dict.fromkeys(run.loss for run in study.runs))
    if len(losses) > 1:
        text = f"the runs minimise different losses ({', '.join(losses)}), so their numbers have different units"
        found.append((text, "all runs"))
    return found


def _residual(found: Spectrum) -> float:
    """Return the larger residual as a share of the larger eigenvalue."""
    residual = max(found.largest_residual, found.smallest_residual)
    return residual / max(abs(found.largest), abs(found.smallest))


def _facts(study: SharpnessStudy) -> list[tuple[str, str]]:
    run = study.runs[0]
    return [
        ("data", _listed(_sources(study))),
        ("rows of", f"the {_split(study)}"),
        ("rows drawn", f"{sum(run.drawn):,}, at most {run.settings.rows} of a class"),
        ("weights", f"{run.parameters:,}"),
        ("epoch", run.settings.epoch),
        ("runs", str(len(study.runs))),
    ]


def _split(study: SharpnessStudy) -> str:
    return {"train": "training data", "validation": "validation data"}[study.runs[0].split]


def _several(study: SharpnessStudy) -> bool:
    return len(study.runs) > len(study.labels)


def _sources(study: SharpnessStudy) -> list[str]:
    return list(dict.fromkeys(run.source for run in study.runs))


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{len(names)} methods"
