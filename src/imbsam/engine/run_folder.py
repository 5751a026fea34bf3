"""A run's folder: what is in it, and how it is written and read."""

import io
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from imbsam.config import Options, read_yaml, to_yaml
from imbsam.errors import OptionError, RunError
from imbsam.files import read_json, write_atomically, write_json

SCHEMA = 1


@dataclass(frozen=True)
class RunFolder:
    """One training run on disk.

    ``config.yaml`` holds every option as it was used, ``data.json`` what is needed to read further data,
    ``metrics.jsonl`` a line an epoch, ``last.ckpt`` all that resuming needs, ``best.safetensors`` the weights of the
    chosen epoch, ``result.json`` the outcome; ``sharpness-*.json`` what ``imbsam sharpness`` measured.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """The last finished epoch."""
        return self.path / "last.ckpt"

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

    def clear(self) -> None:
        """Remove the files of a run, and no others.

        Raises:
            RunError: If one cannot be removed.
        """
        try:
            for path in (self.result, self.checkpoint, self.weights, self.metrics):
                path.unlink(missing_ok=True)
            for name in ("report.html", "data.json", "config.yaml"):
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
        lines = self.metrics.read_text(encoding="utf-8").splitlines()
        return [float(json.loads(line)["seconds"]) for line in lines]

    def keep_metrics(self, epochs: int) -> None:
        """Drop the lines of epochs that the last checkpoint does not hold."""
        if self.metrics.exists():
            lines = self.metrics.read_text(encoding="utf-8").splitlines(keepends=True)
            write_atomically(self.metrics, "".join(lines[:epochs]))

    def write_weights(self, state: Mapping[str, Tensor], epoch: int) -> None:
        """Write the weights of the chosen epoch."""
        tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
        write_atomically(self.weights, save(tensors, metadata={"epoch": str(epoch)}))

    def read_weights(self) -> dict[str, Tensor]:
        """The weights of the chosen epoch.

        Raises:
            RunError: If there are none, or the file is damaged.
        """
        if not self.weights.exists():
            raise RunError(
                f"{self.path} has no weights yet: no epoch is finished. Train it: imbsam train --resume {self.path}"
            )
        try:
            return load_file(self.weights)
        except Exception as error:
            raise RunError(f"{self.weights} is damaged: {error}") from None

    def write_checkpoint(self, state: Mapping[str, object]) -> None:
        """Write all that resuming needs."""
        buffer = io.BytesIO()
        torch.save({"schema": SCHEMA, **state}, buffer)
        write_atomically(self.checkpoint, buffer.getvalue())

    def read_checkpoint(self) -> dict[str, object]:
        """Read it without running any code from it.

        Raises:
            RunError: If it is missing, damaged, or of another schema.
        """
        if not self.checkpoint.exists():
            raise RunError(f"{self.path} has no checkpoint: no epoch was finished. Start again with --overwrite.")
        try:
            state = torch.load(self.checkpoint, weights_only=True, map_location="cpu")
        except Exception as error:
            raise RunError(
                f"{self.checkpoint} is damaged ({type(error).__name__}). Start again with --overwrite."
            ) from None
        if not isinstance(state, dict) or state.get("schema") != SCHEMA:
            raise RunError(f"{self.checkpoint} was written by another version of imbsam (schema is not {SCHEMA}).")
        return cast(dict[str, object], state)
