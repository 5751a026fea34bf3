"""The files of a run and of a comparison, read and checked."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NotRequired, TypeVar

from pydantic import Base64Bytes, BeforeValidator, TypeAdapter, ValidationError

# pydantic reads the annotations of typing.TypedDict from Python 3.12 on only.
from typing_extensions import TypedDict

from imbsam.errors import RunError
from imbsam.priors import ShotGroup
from imbsam.report.summary import Split
from imbsam.report.words import printable


def _printable(value: object) -> object:
    return printable(value) if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_printable)]


class Metrics(TypedDict):
    """Scores on one set; shares in [0, 1], None for a group or class without a sample."""

    overall: float
    balanced: float | None
    many: float | None
    medium: float | None
    few: float | None
    macro_f1: float | None
    log_loss: float | None
    ece: float | None
    per_class: list[float | None]
    confusion: NotRequired[list[list[int]] | None]


class Result(TypedDict):
    """The contents of ``result.json``; the lists over classes have one length."""

    schema: Literal[1]
    name: Text
    method: Text
    label: Text
    seed: int
    source: Text
    config: dict[Text, object]
    classes: list[Text]
    counts: list[int]
    groups: list[ShotGroup]
    tail: list[bool]
    best_epoch: int | None
    epochs: int
    test: Metrics | None
    validation: Metrics | None
    train_seconds: float
    rows_forward: int
    cost_ratio: float | None
    notes: list[Text]
    versions: dict[Text, Text]
    device: Text
    finished: Text


class Epoch(TypedDict):
    """One line of ``metrics.jsonl``."""

    epoch: int
    train_loss: float | None
    validation: Metrics | None


class Example(TypedDict):
    """An image that was taken for something else; ``png`` in base64."""

    name: Text
    probability: float
    png: Base64Bytes


class _Confused(TypedDict):
    true: int
    predicted: int
    images: list[Example]


class _Examples(TypedDict):
    schema: Literal[1]
    split: Split
    confused: list[_Confused]


class _Comparison(TypedDict):
    schema: Literal[1]
    source: Text
    methods: list[Text]
    runs: list[str]
    command: Text


T = TypeVar("T")

_RESULT = TypeAdapter(Result)
_EPOCH = TypeAdapter(Epoch)
_EXAMPLES = TypeAdapter(_Examples)
_COMPARISON = TypeAdapter(_Comparison)


@dataclass(frozen=True)
class Run:
    """A finished run.

    Args:
        folder: Where it is.
        result: Its outcome.
        epochs: What was measured after each epoch.
        examples: Images of samples of a class that were taken for another, by both classes.
    """

    folder: Path
    result: Result
    epochs: Sequence[Epoch]
    examples: Mapping[tuple[int, int], Sequence[Example]] = field(default_factory=dict)

    def metrics(self, split: Split) -> Metrics | None:
        """The scores on one set, None if the run was not evaluated on it."""
        return self.result["test"] if split == "test" else self.result["validation"]


@dataclass(frozen=True)
class Study:
    """What a report is about: one run, or a comparison of several.

    Args:
        source: The data.
        labels: Methods in order, the baseline first.
        runs: The finished ones, at least one.
        missing: Folders of runs that did not finish.
        command: What was typed to compare; None for a single run.
    """

    source: str
    labels: tuple[str, ...]
    runs: tuple[Run, ...]
    missing: tuple[str, ...] = ()
    command: str | None = None

    def runs_of(self, label: str) -> list[Run]:
        """The finished runs of one method."""
        return [run for run in self.runs if run.result["label"] == label]

    @property
    def alike(self) -> "Study":
        """The runs with the classes and counts of the first: a seed may draw other classes to be rare."""
        first = self.runs[0].result
        same = [run for run in self.runs if all(run.result[key] == first[key] for key in ("classes", "counts"))]
        return replace(self, runs=tuple(same))


def read_study(folder: Path) -> Study:
    """Read the folder of a run or of a comparison.

    Args:
        folder: Holds ``comparison.json``, or else ``result.json``.

    Returns:
        What was found; a comparison may miss runs, not all.

    Raises:
        RunError: If the folder holds neither, a file is damaged, or no run of a comparison finished.
    """
    if (folder / "comparison.json").is_file():
        return _read_comparison(folder)
    if not (folder / "result.json").is_file():
        raise RunError(
            f"{folder / 'result.json'} is missing, and so is comparison.json: this is not the folder of a "
            "finished run or comparison. Give the folder that training wrote; if the run was interrupted, "
            "train again."
        )
    run = read_run(folder)
    return Study(source=run.result["source"], labels=(run.result["label"],), runs=(run,))


def _read_comparison(folder: Path) -> Study:
    path = folder / "comparison.json"
    comparison = _checked(_COMPARISON, _json(path.read_bytes(), path), path)
    folders = [folder / name for name in comparison["runs"]]
    finished = [run for run in folders if (run / "result.json").is_file()]
    if not finished:
        raise RunError(f"{path}: none of its {len(folders)} runs has a result.json. Compare again.")
    runs = tuple(read_run(run) for run in finished)
    return Study(
        source=comparison["source"],
        labels=tuple(dict.fromkeys([*comparison["methods"], *(run.result["label"] for run in runs)])),
        runs=runs,
        missing=tuple(
            printable(name) for name, run in zip(comparison["runs"], folders, strict=True) if run not in finished
        ),
        command=comparison["command"],
    )


def read_run(folder: Path) -> Run:
    """Read a finished run.

    Args:
        folder: Holds ``result.json``, and ``metrics.jsonl`` and ``examples.json`` unless there are none.

    Returns:
        The run.

    Raises:
        RunError: If ``result.json`` is missing, or one of the files is damaged.
    """
    path = folder / "result.json"
    if not path.is_file():
        raise RunError(f"{path} is missing: the run did not finish. Train again.")
    result = _checked(_RESULT, _json(path.read_bytes(), path), path)
    _check_lengths(result, path)
    return Run(folder, result, _read_epochs(folder / "metrics.jsonl"), _read_examples(folder / "examples.json"))


def _read_examples(path: Path) -> dict[tuple[int, int], Sequence[Example]]:
    if not path.is_file():
        return {}
    held = _checked(_EXAMPLES, _json(path.read_bytes(), path), path)
    return {(pair["true"], pair["predicted"]): pair["images"] for pair in held["confused"]}


def _read_epochs(path: Path) -> list[Epoch]:
    if not path.is_file():
        return []
    lines = path.read_bytes().splitlines()
    return [
        _checked(_EPOCH, _json(line, path, number), path, number)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]


def _check_lengths(result: Result, path: Path) -> None:
    classes = len(result["classes"])
    lengths = {
        "counts": len(result["counts"]),
        "groups": len(result["groups"]),
        "tail": len(result["tail"]),
    }
    for split, metrics in (("test", result["test"]), ("validation", result["validation"])):
        if metrics is not None:
            lengths[f"{split}.per_class"] = len(metrics["per_class"])
            if (confusion := metrics.get("confusion")) is not None:
                lengths[f"{split}.confusion"] = len(confusion)
                lengths.update({f"{split}.confusion[{i}]": len(row) for i, row in enumerate(confusion)})
    for key, length in lengths.items():
        if length != classes:
            raise RunError(f"{path}: {key} has {length} entries for {classes} classes. {_ADVICE}")


_ADVICE = "The file is damaged or of another version of imbsam: train again, or restore it."


def _json(content: bytes, path: Path, line: int | None = None) -> object:
    try:
        parsed: object = json.loads(content)
    except ValueError as error:
        raise RunError(f"{_place(path, line)}: not valid JSON ({error}). {_ADVICE}") from error
    return parsed


def _checked(adapter: TypeAdapter[T], parsed: object, path: Path, line: int | None = None) -> T:
    try:
        return adapter.validate_python(parsed)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "content"
        raise RunError(f"{_place(path, line)}: {key}: {first['msg']}. {_ADVICE}") from error


def _place(path: Path, line: int | None) -> str:
    return f"{path}" if line is None else f"{path}, line {line}"
