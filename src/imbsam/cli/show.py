"""What the command prints: progress, tables, warnings. Tables go to standard output, all else to standard error."""

import json
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TextIO, cast

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from imbsam.config import read_yaml
from imbsam.engine import Cost, Outcome, RunFolder, Trained
from imbsam.files import read_json
from imbsam.metrics import Metrics
from imbsam.optim import ASCENTS, METHODS, options_of
from imbsam.report import MEASURES, Summary, answer, summarise

out = Console(highlight=False, soft_wrap=True)
out.width = max(out.width, 110)
err = Console(stderr=True, highlight=False, soft_wrap=True)

SECONDS_WITHOUT_A_LINE = 10

MEASURE_TITLES = ("overall", "balanced", "many", "medium", "few", "macro F1")


def warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print a warning as one sentence, without the place in the code."""
    print(f"warning: {message}", file=sys.stderr)


class RunProgress:
    """One run as it goes: in a terminal a bar with the last epoch's scores, else a line for every epoch that took long.

    Of a quick run without a terminal about twenty lines are printed.

    Args:
        quiet: Show nothing.
    """

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._live = err.is_terminal and not quiet
        self._shown = 0.0
        self._bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=err,
            disable=not self._live,
        )
        self._task = self._bar.add_task("", total=None, epoch="", scores="")

    def __enter__(self) -> "RunProgress":
        self._bar.start()
        return self

    def begin(self, notes: Sequence[str]) -> None:
        """Show what was done to the data."""
        for note in notes if not self._quiet else ():
            err.print(f"note: {note}", markup=False)

    def step(self, done: int, steps: int, epoch: int, epochs: int) -> None:
        """Show how far the run is.

        Args:
            done: Steps made of the epoch.
            steps: Of the epoch.
            epoch: Which it is, from 1.
            epochs: Of the run.
        """
        if self._live:
            self._bar.update(
                self._task, completed=(epoch - 1) * steps + done, total=epochs * steps, epoch=f"{epoch}/{epochs}"
            )

    def epoch(self, record: Mapping[str, object]) -> None:
        """Show an epoch's line of metrics."""
        if self._live:
            self._bar.update(self._task, scores=_scores(record))
            return
        epoch, epochs = int(str(record["epoch"])), int(str(record["epochs"]))
        every, now = max(1, epochs // 20), time.monotonic()
        if self._quiet or (epoch % every and epoch not in (1, epochs) and now - self._shown < SECONDS_WITHOUT_A_LINE):
            return
        self._shown = now
        text = f"epoch {epoch:>{len(str(epochs))}}/{epochs}  {_scores(record)}"
        err.print(f"{text}  {cast(float, record['seconds']):.2f} s")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()


def _scores(record: Mapping[str, object]) -> str:
    text = f"loss {cast(float, record['train_loss']):.4f}"
    validation = record["validation"]
    if not isinstance(validation, Mapping):
        return text
    shown = ((name, validation.get(name)) for name in ("balanced", "few"))
    return f"{text}  validation" + "".join(f"  {name} {percent(cast(float, v))}" for name, v in shown if v is not None)


class ComparisonProgress:
    """A bar over the epochs of all runs, read off their folders; plain lines where there is no terminal.

    Args:
        folders: Of the runs.
        quiet: Show nothing.
    """

    def __init__(self, folders: Sequence[Path], *, quiet: bool) -> None:
        self._folders = folders
        self._quiet = quiet
        self._finished = 0
        self._stop = threading.Event()
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=err,
            disable=quiet or not err.is_terminal,
        )
        self._task = self._bar.add_task(scores="", description=f"0 of {len(folders)} runs", total=None)
        self._thread = threading.Thread(target=self._poll, daemon=True)

    def __enter__(self) -> "ComparisonProgress":
        self._bar.start()
        self._thread.start()
        return self

    def finished(self, outcome: Outcome) -> None:
        """Count a run that has ended."""
        self._finished += 1
        text = f"{self._finished} of {len(self._folders)} runs"
        self._bar.update(self._task, description=text)
        if not (self._quiet or err.is_terminal):
            err.print(f"{text}: {outcome.run.folder.name} {'failed' if outcome.error else 'done'}")

    def _poll(self) -> None:
        while not self._stop.wait(0.5):
            self._bar.update(self._task, **self._epochs())  # type: ignore[arg-type]

    def _epochs(self) -> dict[str, object]:
        """Epochs written and expected, and what the last one of each method's runs measured on the rare classes."""
        done, each = 0, 0
        few: dict[str, list[float]] = {}
        for folder in map(RunFolder, self._folders):
            if folder.metrics.exists():
                lines = folder.metrics.read_bytes().splitlines(keepends=True)
                whole = [line for line in lines if line.endswith(b"\n")]
                done += len(whole)
                each = each or int(str(read_yaml(folder.path / "config.yaml").get("epochs", 0)))
                with suppress(ValueError, AttributeError):  # A damaged line; training says so.
                    last = json.loads(whole[-1]).get("validation") if whole else None
                    if last and last.get("few") is not None:
                        few.setdefault(folder.path.name.rpartition("-seed")[0] or folder.path.name, []).append(
                            last["few"]
                        )
        scores = "  ".join(f"{label} {percent(sum(found) / len(found))}" for label, found in few.items())
        bar = {"completed": done, "total": each * len(self._folders)} if each else {}
        return {**bar, "scores": f"few-shot so far: {scores}" if scores else ""}

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if kind is None:
            self._bar.update(self._task, **self._epochs())  # type: ignore[arg-type]
        self._bar.stop()


def result(content: Mapping[str, object]) -> None:
    """Show a finished run: its scores on the test data, else on the validation data."""
    split = "test" if content["test"] is not None else "validation"
    scores = content[split]
    if not isinstance(scores, Mapping):
        out.print("no test or validation data: nothing was measured.")
        return
    table = _table(f"{content['label']} on {content['source']}, {split} data, epoch {content['best_epoch']}", "")
    names = ("overall", "balanced", "many", "medium", "few", "macro_f1")
    table.add_row("recall / score, %", *(_share(scores.get(name)) for name in names))
    out.print(table)


def summary_of(folder: Path, runs: Sequence[Path]) -> Summary:
    """Average the finished runs of a comparison."""
    labels = cast(list[str], read_json(folder / "comparison.json")["methods"])
    results = [RunFolder(run).read_result() for run in runs if RunFolder(run).result.exists()]
    return summarise(results, labels=[label for label in labels if any(r["label"] == label for r in results)])


def comparison(summary: Summary, source: str) -> None:
    """Show a comparison: mean and interval of each method, and the answer in a sentence."""
    every = [estimate for scores in summary.scores.values() for estimate in scores.values() if estimate is not None]
    seeds = max((estimate.n for estimate in every), default=0)
    table = _table(f"{source}: {summary.split} data, mean ± 95 % interval over {seeds} seeds, %", "method")
    for label in summary.labels:
        cells = []
        for measure in MEASURES:
            estimate = summary.scores[label][measure]
            half = "" if estimate is None or estimate.half_width is None else f" ± {100 * estimate.half_width:.1f}"
            cells.append("-" if estimate is None else f"{100 * estimate.mean:.1f}{half}")
        table.add_row(label, *cells)
    out.print(table)
    for sentence in answer(summary):
        out.print(sentence, markup=False)


def costs(found: Mapping[str, Cost]) -> None:
    """Show what steps cost beside plain ones."""
    one = next(iter(found.values()))
    table = Table(
        title=f"a step of {one.batch_size} rows, {percent(one.tail_share)} of them tail, beside a plain one",
        title_justify="left",
        box=SIMPLE_HEAD,
    )
    table.add_column("method", no_wrap=True)
    for name in ("forwards", "backwards", "cost"):
        table.add_column(name, justify="right")
    for label, cost in found.items():
        table.add_row(_safe(label), f"{cost.forwards:.2f}", f"{cost.backwards:.2f}", f"{cost.ratio:.2f}")
    out.print(table)
    out.print(
        f"Counted on the classes of real batches; {percent(one.with_tail)} of them hold a tail row. "
        + ("The model has BatchNorm: a tail pass takes context rows along. " if one.couples_rows else "")
        + "A backward counts as two forwards."
    )


def metrics(trained: Trained, found: Metrics) -> None:
    """Show measured scores, and the recall of each class, rarest first."""
    table = _table(f"{found.samples} samples", "")
    values = found.to_dict()
    names = ("overall", "balanced", "many", "medium", "few", "macro_f1")
    table.add_row("recall / score, %", *(_share(values[name]) for name in names))
    out.print(table)
    each = Table(
        "class", "training samples", "group", "recall, %", title="rarest first", title_justify="left", box=SIMPLE_HEAD
    )
    order = trained.priors.counts.argsort(stable=True).tolist()
    for index in order[:100]:
        count = str(int(trained.priors.counts[index]))
        each.add_row(_safe(trained.classes[index]), count, trained.groups[index], _share(found.per_class[index]))
    out.print(each)
    if len(order) > 100:
        out.print(f"... and {len(order) - 100} more classes; --json has them all.")


def predictions(path: Path, number: int, classes: Sequence[str], per_class: Sequence[int]) -> None:
    """Show what was predicted, most frequent class first."""
    out.print(f"{number} predictions: {path}", markup=False)
    ranked = sorted(zip(per_class, classes, strict=True), reverse=True)[:10]
    out.print("  " + ", ".join(f"{name} {n}" for n, name in ranked if n), markup=False)


def about_methods() -> list[dict[str, object]]:
    """Every method of the family, as plain values."""
    return [
        {
            "name": name,
            "cost": method.cost,
            "does": method.does,
            "options": options_of(name),
            "source": method.source,
            "link": method.link,
        }
        for name, method in METHODS.items()
    ]


def methods() -> None:
    """Show every method of the family, a paragraph each."""
    print(f"{'method':<14}{'cost':<14}what it does\n")
    print(f"{'sgd, adamw':<14}{'1':<14}the plain base optimizers, the controls")
    for name, method in METHODS.items():
        if name != "plain":
            options = ", ".join(f"{option}={value}" for option, value in options_of(name).items())
            print(f"{name:<14}{method.cost:<14}{method.does}")
            print(f"{'':<28}{options}\n{'':<28}{method.source}, {method.link}")
    print("\ncost: forward-backwards of a row in a step where rows do not see each other; t: share of tail rows.")
    print(f"ascents, for --ascent: {', '.join(ASCENTS)}.")


def lines(sentences: Sequence[str]) -> None:
    """Show sentences, a line each."""
    for sentence in sentences:
        out.print(sentence, markup=False)


def _table(title: str, first: str) -> Table:
    table = Table(title=_safe(title), title_justify="left", box=SIMPLE_HEAD)
    # Where the table is too wide, rich narrows what may wrap: a long label, and no number.
    table.add_column(first, overflow="fold")
    for name in MEASURE_TITLES:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _share(value: object) -> str:
    return "-" if value is None else f"{100 * cast(float, value):.1f}"


def flag(option: str) -> str:
    """An option as it stands on the command line."""
    return f"--{option.replace('_', '-')}"


def percent(value: float) -> str:
    """A share as percent."""
    return f"{100 * value:.1f} %"


def _safe(text: str) -> str:
    """Text that rich must not read as markup."""
    return text.replace("[", r"\[")
