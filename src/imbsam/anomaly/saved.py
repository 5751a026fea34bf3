"""Fitted detector on disk: numbers as safetensors, everything else as JSON, nothing that could run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from imbsam.anomaly.core import Detector, Member, fit
from imbsam.anomaly.registry import create_objective
from imbsam.anomaly.scaling import ColumnScaling
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.sources import Block, Preprocess
from imbsam.anomaly.threshold import Threshold
from imbsam.anomaly.words import LabelWords
from imbsam.errors import ImbsamError, RunError
from imbsam.storage.files import read_json, write_atomically, write_json
from imbsam.storage.seal import sealed_tensors, unsealed_tensors

SCHEMA = 3
ABOUT, WEIGHTS = "detector.json", "detector.safetensors"


@dataclass(frozen=True)
class SavedDetector:
    """Detector with what it needs to read files like those it was fitted on.

    Args:
        detector: Fitted detector.
        preprocess: Encoding from :func:`imbsam.anomaly.sources.read_training`.
        words: Words for labels.
        typical: Median row of the training data, shape ``(columns,)``; empty for images.
        source: Source that it was fitted on.
        counts: Rows of each kind: unlabelled, anomalies, normal.
    """

    detector: Detector
    preprocess: Preprocess
    words: LabelWords
    typical: Tensor
    source: str
    counts: tuple[int, int, int]

    @classmethod
    def fit(
        cls, training: Block, preprocess: Preprocess, words: LabelWords, source: str, settings: Settings, *, seed: int
    ) -> "SavedDetector":
        """Train a detector on the rows from :func:`imbsam.anomaly.sources.read_training`.

        Args:
            training: Training rows.
            preprocess: Encoding of the rows.
            words: Words for labels.
            source: Source of the rows.
            settings: The options.
            seed: Seed of everything random.

        Raises:
            ImbsamError: In the cases of :func:`imbsam.anomaly.fit`.
        """
        detector = fit(training.rows, training.known, settings, seed=seed)
        rows = training.rows
        typical = rows.median(dim=0).values if rows.ndim == 2 else torch.zeros(0)
        return cls(detector, preprocess, words, typical, source, training.counts)

    def write(self, folder: Path) -> None:
        """Write both files.

        Raises:
            RunError: If a file cannot be written.
        """
        detector = self.detector
        tensors = {"typical": self.typical}
        for number, member in enumerate(detector.members):
            tensors |= {f"{number}.objective.{name}": t for name, t in member.objective.state_dict().items()}
            tensors |= {f"{number}.shift": member.scaling.shift, f"{number}.factor": member.scaling.factor}
        about = {
            "schema": SCHEMA,
            "source": self.source,
            "objective": detector.objective,
            "shape": list(detector.shape),
            "threshold": _without_nan(asdict(detector.threshold)),
            "members": [{"shift": m.shift, "spread": m.spread} for m in detector.members],
            "settings": asdict(detector.settings),
            "counts": list(self.counts),
            "words": asdict(self.words),
            "preprocess": dict(self.preprocess),
        }
        write_atomically(folder / WEIGHTS, sealed_tensors(tensors, {"about": _digest(about)}))
        write_json(folder / ABOUT, about)

    @classmethod
    def open(cls, folder: Path, *, device: str = "cpu") -> "SavedDetector":
        """Read both files.

        Args:
            folder: Folder of the files.
            device: Device that computes.

        Raises:
            RunError: If a file is missing or damaged.
        """
        if not (folder / ABOUT).is_file():
            raise RunError(f"{folder} holds no fitted detector ({ABOUT} is missing): imbsam anomaly fit makes one.")
        about = read_json(folder / ABOUT)
        if about.get("schema") != SCHEMA:
            raise RunError(f"{folder / ABOUT} was written by another version of imbsam (schema is not {SCHEMA}).")
        try:
            tensors, sealed = unsealed_tensors((folder / WEIGHTS).read_bytes())
            if sealed.get("about") != _digest(about):
                raise RunError(f"{WEIGHTS} was not written beside this {ABOUT}")
            settings = replace(TypeAdapter(Settings).validate_python(about["settings"]), device=device)
            shape = tuple(cast(list[int], about["shape"]))
            name = str(about["objective"])
            options = settings.objective_options if name == settings.objective else {}
            members = []
            for number, scale in enumerate(cast(list[dict[str, float]], about["members"])):
                objective = create_objective(name, shape, draw=torch.Generator(), **options).to(settings.dtype)
                prefix = f"{number}.objective."
                objective.load_state_dict(
                    {key.removeprefix(prefix): t for key, t in tensors.items() if key.startswith(prefix)}
                )
                scaling = ColumnScaling(tensors[f"{number}.shift"], tensors[f"{number}.factor"])
                members.append(Member(objective.to(device).eval(), scaling, scale["shift"], scale["spread"]))
            threshold = Threshold(**cast(dict[str, float], about["threshold"]))  # type: ignore[arg-type]
            return cls(
                Detector(tuple(members), threshold, name, shape, settings),
                cast(Mapping[str, object], about["preprocess"]),
                LabelWords(**cast(dict[str, str], about["words"])),
                tensors["typical"],
                str(about["source"]),
                cast(tuple[int, int, int], tuple(cast(list[int], about["counts"]))),
            )
        except (KeyError, TypeError, ValueError, RuntimeError, OSError, ValidationError, ImbsamError) as error:
            reason = str(error).partition("\n")[0]
            raise RunError(
                f"the detector in {folder} is damaged ({type(error).__name__}: {reason}). Fit it again."
            ) from None


def _without_nan(values: dict[str, float]) -> dict[str, float]:
    """Return a threshold without its missing estimates: JSON has no NaN."""
    return {name: value for name, value in values.items() if value == value}


def _digest(about: Mapping[str, object]) -> str:
    """Compute a digest of everything that decides a detector's scores, but not of where its data are."""
    decides = {name: value for name, value in about.items() if name != "source"}
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
