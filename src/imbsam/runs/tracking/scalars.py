"""The numbers of a run under the names that trackers show."""

from collections.abc import Mapping


def of_epoch(record: Mapping[str, object]) -> dict[str, float]:
    """The numbers of an epoch's line of metrics, as ``train/lr``, ``validation/balanced``, ``validation/recall/3``."""
    return {**_flat("train", record), **_flat("validation", record.get("validation"))}


def of_result(result: Mapping[str, object]) -> dict[str, float]:
    """The numbers of ``result.json``: those of the kept epoch on test and validation data, and what the run cost."""
    splits = {**_flat("test", result.get("test")), **_flat("kept", result.get("validation"))}
    return {**_flat("run", result), **splits}


def _flat(part: str, values: object) -> dict[str, float]:
    found = {}
    for name, value in values.items() if isinstance(values, Mapping) else ():
        if isinstance(value, float):
            found[f"{part}/{name}"] = value
        elif name == "per_class" and isinstance(value, list):
            found.update({f"{part}/recall/{c}": recall for c, recall in enumerate(value) if recall is not None})
    return found
