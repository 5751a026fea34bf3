"""A run's sharpness with made-up numbers."""

from collections.abc import Sequence

from imbsam.runs.sharpness_record import SharpnessRecord
from imbsam.storage.records import checked_record

MEASURED = ("spectrum", "trace", "sam", "line", "plane")


def made_sharpness(
    label: str = "sgd", seed: int = 0, *, height: float = 1.0, measures: Sequence[str] = MEASURED, **changed: object
) -> SharpnessRecord:
    """A run of three classes, whose numbers are ``height`` times those of the first."""
    classes, offsets = 3, [-1.0, 0.0, 1.0]
    parts = {"overall": [0, 1, 2], "many": [0], "few": [1, 2], "head": [0], "tail": [1, 2]}
    everyone = [*parts, *map(str, range(classes))]
    losses = [[height * (a * a + 0.1), 2 * height * (a * a + 0.1), None if a > 0 else 0.3] for a in offsets]
    found = {
        "spectrum": {
            "largest": 4.0 * height,
            "smallest": -height,
            "largest_residual": 0.2 * height,
            "smallest_residual": 0.0,
            "converged": True,
            "nodes": [-height, 0.0, 4.0 * height],
            "weights": [0.1, 0.8, 0.1],
        },
        "trace": {"value": 9.0 * height, "standard_error": 0.5},
        "sam": {"rise": 0.5 * height, "adaptive_rise": 0.25 * height, "loss": 0.1, "gradient_norm": 2.0},
    }
    options = {"iterations": 30, "probes": 10, "rho": 0.05, "adaptive_rho": 0.5, "along": "random"}
    measured: dict[str, dict[str, object]] = {
        name: {"options": options, "found": dict.fromkeys(everyone, each)} for name, each in found.items()
    }
    measured["line"] = {"options": options, "found": {"line": {"offsets": offsets, "losses": losses}}}
    rows = {f"row {n}": {"offsets": offsets, "losses": losses} for n in range(3)}
    measured["plane"] = {"options": options, "found": rows}
    content = {
        "schema": 1,
        "name": f"{label}-seed{seed}",
        "label": label,
        "seed": seed,
        "source": "digits",
        "loss": "cross-entropy",
        "split": "train",
        "settings": {"rows": 32, "epoch": "kept", "seed": 0, "float64": False},
        "weights": "0" * 64,
        "parameters": 1000,
        "classes": ["a", "b", "<i>c</i>"],
        "counts": [120, 12, 6],
        "groups": ["many", "few", "few"],
        "tail": [False, True, True],
        "sizes": [120, 12, 6],
        "drawn": [32, 12, 6],
        "parts": parts,
        "measured": {name: measured[name] for name in measures},
        **changed,
    }
    return checked_record(SharpnessRecord, content, "made")
