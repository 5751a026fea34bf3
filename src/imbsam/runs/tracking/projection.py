"""What a folder says, under the names that trackers show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from imbsam.runs.folder import RunFolder
from imbsam.storage.files import as_json

FILES = ("config.yaml", "result.json", "report.html", "model-card.md", "comparison.json", "tune.json", "best.yaml")
"""What stands beside the numbers."""

Step = tuple[int, dict[str, float]]


@dataclass(frozen=True)
class Projection:
    """What trackers are to show of a run, a comparison or a study.

    Args:
        epochs: The numbers of each line of metrics, as ``train/lr``, ``validation/balanced``, ``validation/recall/3``.
        outcome: One more step of a finished run: ``test/...``, ``kept/...`` of the kept epoch on validation data,
            ``run/...`` of the whole.
        texts: Files by name; none of a run that is not finished.
    """

    epochs: Sequence[Step]
    outcome: Sequence[Step]
    texts: Mapping[str, str]

    @classmethod
    def of(cls, folder: RunFolder, result: Mapping[str, object] | None = None) -> "Projection":
        """Read a folder, whose ``result.json`` may be still to come."""
        if result is None and folder.result.exists():
            result = folder.read_result()
        epochs = [
            (_int(line["epoch"]), _flat(train=line, validation=line.get("validation"))) for line in folder.epochs()
        ]
        paths = [folder.path / name for name in FILES] if result or not folder.exists() else []
        texts = {path.name: path.read_text(encoding="utf-8") for path in paths if path.is_file()}
        if result is None:
            return cls(epochs, [], texts)
        outcome = _flat(run=result, test=result.get("test"), kept=result.get("validation"))
        return cls(epochs, [(_int(result["epochs"]), outcome)], {**texts, "result.json": as_json(result)})


def _int(number: object) -> int:
    return int(str(number))


def _flat(**parts: object) -> dict[str, float]:
    found = {}
    for part, values in parts.items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if isinstance(value, float):
                found[f"{part}/{name}"] = value
            elif name == "per_class" and isinstance(value, list):
                found.update({f"{part}/recall/{c}": recall for c, recall in enumerate(value) if recall is not None})
    return found
