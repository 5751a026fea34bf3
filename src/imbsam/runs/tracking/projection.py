"""Content of a folder, under the names that trackers show."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from imbsam.metrics import Metrics
from imbsam.runs.folder import RunFolder
from imbsam.runs.records import EpochRecord, Result
from imbsam.storage.files import as_json

FILES = ("config.yaml", "result.json", "report.html", "model-card.md", "comparison.json", "tune.json", "best.yaml")
"""Files that are shown beside the numbers."""

Step = tuple[int, dict[str, float]]


@dataclass(frozen=True)
class Projection:
    """Numbers and texts of a run, a comparison or a study that trackers show.

    Args:
        epochs: Numbers of each line of metrics: ``train/lr``, ``validation/balanced``, ``validation/recall/3``, ...
        outcome: One more step of a finished run: ``test/...``, ``kept/...`` for the kept epoch on validation data,
            ``run/...`` for the whole run.
        texts: Files by name; none for a run that is not finished.
    """

    epochs: Sequence[Step]
    outcome: Sequence[Step]
    texts: Mapping[str, str]

    @classmethod
    def of(cls, folder: RunFolder, result: Result | None = None) -> "Projection":
        """Read a folder, which may not have its ``result.json`` yet."""
        if result is None and folder.result.exists():
            result = folder.read_result()
        epochs = [(line.epoch, _flat(train=line, validation=line.validation)) for line in folder.whole_epochs()]
        paths = [folder.path / name for name in FILES] if result or not folder.exists() else []
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}
        if result is None:
            return cls(epochs, [], texts)
        outcome = _flat(run=result, test=result.test, kept=result.validation)
        return cls(epochs, [(result.epochs, outcome)], {**texts, "result.json": as_json(asdict(result))})


def _flat(**parts: Result | EpochRecord | Metrics | None) -> dict[str, float]:
    found = {}
    for part, record in parts.items():
        for name, value in vars(record).items() if record is not None else ():
            if isinstance(value, float):
                found[f"{part}/{name}"] = value
            elif name == "per_class":
                found.update({f"{part}/recall/{c}": recall for c, recall in enumerate(value) if recall is not None})
    return found
