"""A run's folder: what is in it, and how it is written and read."""

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from imbsam.config import Options, read_yaml, to_yaml
from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.storage.files import keep_as, read_json, write_atomically, write_json
from imbsam.storage.seal import DamagedError, sealed, sealed_tensors, unsealed, unsealed_tensors

SCHEMA = 1


@dataclass(frozen=True)
class RunFolder:
    """One training run on disk.

    ``config.yaml`` holds every option as it was used, ``data.json`` what is needed to read further data,
    ``metrics.jsonl`` a line an epoch, ``last.ckpt`` all that resuming needs, ``previous.ckpt`` the one before it,
    ``best.safetensors`` the weights of the chosen epoch, ``result.json`` the outcome; ``sharpness-*.json`` what
    ``imbsam sharpness`` measured; ``examples.json`` images of the worst confusions. Checkpoints and weights carry their
    SHA-256.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The last finished epoch, or the step at which a signal ended the run."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """The checkpoint before the last, for the case that the last is damaged."""
        return self.path / "previous.ckpt"

    @property
    def metrics(self) -> Path:
        """A line an epoch."""
        return self.path / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """Weights of the chosen epoch."""
        return self.path / "best.safetensors"

    @property
    def result(self) -> Path:
        """The outcome; its presence means the run is finished."""
        return self.path / "result.json"

    def sharpness(self, split: str) -> Path:
        """What was measured of the loss surface over the rows of a split."""
        return self.path / f"sharpness-{split}.json"

    def exists(self) -> bool:
        """Whether a run was begun here."""
        return (self.path / "config.yaml").exists()

    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        return self.checkpoint.exists() or self.previous.exists()

    def clear(self) -> None:
        """Remove the files of a run, and no others.

        Raises:
            RunError: If one cannot be removed.
        """
        try:
            for path in (self.result, self.checkpoint, self.previous, self.weights, self.metrics):
                path.unlink(missing_ok=True)
            for name in ("report.html", "model-card.md", "examples.json", "mlflow.json", "data.json", "config.yaml"):
                (self.path / name).unlink(missing_ok=True)
            for split in ("train", "validation"):
                self.sharpness(split).unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot remove the run in {self.path}: {error.strerror or error}.") from None
        for name in ("figures", "sharpness", "tensorboard"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def write_config(self, source: str, options: Options) -> None:
        """Write the options as they are used."""
        write_atomically(self.path / "config.yaml", to_yaml({"source": source, **options.flat()}))

    def read_config(self) -> tuple[str, Options]:
        """The source and the options of the run.

        Raises:
            RunError: If there is no run here.
            OptionError: If the file was damaged.
        """
        if not self.exists():
            raise RunError(f"{self.path} is not a run's folder: it has no config.yaml.")
        values = read_yaml(self.path / "config.yaml")
        source = str(values.pop("source", ""))
        try:
            return source, Options().updated(values)
        except OptionError as error:
            raise OptionError(f"{self.path / 'config.yaml'}: {error}") from None

    def write_data(self, content: Mapping[str, object]) -> None:
        """Write what later commands need of the data."""
        write_json(self.path / "data.json", content)

    def read_data(self) -> dict[str, object]:
        """Classes, counts, groups, tail and the preprocessing of the data.

        Raises:
            RunError: If it is missing or damaged.
        """
        return read_json(self.path / "data.json")

    def write_result(self, content: Mapping[str, object]) -> None:
        """Write the outcome; the run is finished."""
        write_json(self.result, content)

    def read_result(self) -> dict[str, object]:
        """The outcome.

        Raises:
            RunError: If the run is not finished, or the file is damaged.
        """
        return read_json(self.result)

    def write_examples(self, split: str, confused: Sequence[Mapping[str, object]]) -> None:
        """Write images of the worst confusions in a split."""
        write_json(self.path / "examples.json", {"schema": SCHEMA, "split": split, "confused": confused})

    def append_metrics(self, record: Mapping[str, object]) -> None:
        """Add the line of an epoch.

        Raises:
            RunError: If it cannot be written.
        """
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.metrics}: {error.strerror or error}.") from None

    def epoch_seconds(self) -> list[float]:
        """How long each epoch took, evaluation included."""
        return [seconds for line in self._metric_lines() if (seconds := _seconds(line)) is not None]

    def epochs(self) -> list[dict[str, object]]:
        """The line of each epoch, without those that are damaged."""
        return [json.loads(line) for line in self._metric_lines() if _seconds(line) is not None]

    def keep_metrics(self, epochs: int) -> None:
        """Drop the lines of epochs that the last checkpoint does not hold, and lines that are damaged, which is said.

        Raises:
            RunError: If the file cannot be read or written.
        """
        lines = self._metric_lines()[:epochs]
        whole = [line for line in lines if _seconds(line) is not None]
        if len(whole) < epochs:
            warnings.warn(
                f"{self.metrics} lacks the lines of {epochs - len(whole)} epochs; curves will lack them, too.",
                RunWarning,
                stacklevel=2,
            )
        if self.metrics.exists():
            write_atomically(self.metrics, b"".join(whole))

    def _metric_lines(self) -> list[bytes]:
        try:
            return self.metrics.read_bytes().splitlines(keepends=True) if self.metrics.exists() else []
        except OSError as error:
            raise RunError(f"cannot read {self.metrics}: {error.strerror or error}.") from None

    def write_weights(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Write the weights of the chosen epoch."""
        write_atomically(self.weights, sealed_tensors(state, {"epoch": str(epoch), "run": self._digest()}))

    def _digest(self) -> str:
        """Of what a model is built by and fed, as ``config.yaml`` and ``data.json`` have it."""
        held = self.read_data()
        read = cast(dict[str, object], held.get("preprocess", {}))
        # Not where the data lie: the same run in two places has the same bytes.
        how = {name: value for name, value in read.items() if name != "source"}
        about = [self.read_config()[1].deciding(), *(held.get(name) for name in ("classes", "counts", "groups")), how]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    def read_weights(self) -> dict[str, Tensor]:
        """The weights of the chosen epoch.

        Raises:
            RunError: If there are none, or this file, ``config.yaml`` or ``data.json`` is not as it was written.
        """
        if not self.weights.exists():
            raise RunError(
                f"{self.path} has no weights yet: no epoch is finished. Train it: imbsam train --resume {self.path}"
            )
        try:
            tensors, about = unsealed_tensors(self.weights.read_bytes())
            digest = self._digest()
        except (OSError, DamagedError) as error:
            raise RunError(f"{self.weights} is damaged: {error}. Train anew with --overwrite.") from None
        if about.get("run") != digest:
            raise RunError(
                f"{self.weights} was not written beside this config.yaml and data.json: one of them has changed, or "
                "the weights are of another run. Restore it, or train anew with --overwrite."
            )
        return tensors

    def write_checkpoint(self, state: Mapping[str, object]) -> None:
        """Write all that resuming needs; the checkpoint that stood there becomes the previous one.

        Raises:
            RunError: If it cannot be written; the one that stood there stands.
        """
        buffer = io.BytesIO()
        torch.save({"schema": SCHEMA, **state}, buffer)
        with suppress(OSError, DamagedError):  # A damaged one must not take the place of a whole one.
            unsealed(self.checkpoint.read_bytes())
            keep_as(self.checkpoint, self.previous)
        write_atomically(self.checkpoint, sealed(buffer.getvalue()))

    def read_checkpoint(self) -> dict[str, object]:
        """Read it without running any code from it; where it is damaged, the previous one, and say so.

        Raises:
            RunError: If none is whole, or it is of another schema.
        """
        if not self.has_checkpoint():
            raise RunError(f"{self.path} has no checkpoint: no epoch was finished. Start again with --overwrite.")
        try:
            state = self._read(self.checkpoint)
        except DamagedError as fault:
            told = f"{self.checkpoint} is damaged ({fault})."
            try:
                state = self._read(self.previous)
            except DamagedError:
                raise RunError(f"{told} There is none before it: start again with --overwrite.") from None
            warnings.warn(f"{told} The one before it is used: {self.previous}.", RunWarning, stacklevel=2)
        if state.get("schema") != SCHEMA:
            raise RunError(f"{self.checkpoint} was written by another version of imbsam (schema is not {SCHEMA}).")
        return state

    @staticmethod
    def _read(path: Path) -> dict[str, object]:
        try:
            state = torch.load(io.BytesIO(unsealed(path.read_bytes())), weights_only=True, map_location="cpu")
        except FileNotFoundError:
            raise DamagedError("it is missing") from None
        except DamagedError:
            raise
        except Exception as error:  # Sealed by somebody else, it may hold anything.
            raise DamagedError(type(error).__name__) from None
        if not isinstance(state, dict):
            raise DamagedError("it holds no mapping")
        return cast(dict[str, object], state)


def _seconds(line: bytes) -> float | None:
    """How long the epoch of a line of metrics took; ``None`` of a damaged line."""
    try:
        return float(json.loads(line)["seconds"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
