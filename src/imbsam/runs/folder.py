"""Folder of a run: its files, and how they are written and read."""

import hashlib
import json
import shutil
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from imbsam.config import Options, read_yaml, to_yaml
from imbsam.errors import OptionError, RunError, RunWarning
from imbsam.runs.checkpoint import Checkpoint, unpacked
from imbsam.runs.records import DataRecord, EpochRecord, Examples, Result
from imbsam.storage.files import keep_as, write_atomically
from imbsam.storage.records import parsed, read_record, write_record
from imbsam.storage.seal import DamagedError, sealed, sealed_tensors, unsealed, unsealed_tensors
from imbsam.training.second_stage import SecondStage


@dataclass(frozen=True)
class RunFolder:
    """Folder of one training run on disk.

    ``config.yaml`` holds every option as it was used, ``data.json`` what is needed to read further data,
    ``metrics.jsonl`` one line per epoch, ``last.ckpt`` everything needed to resume, ``previous.ckpt`` the checkpoint
    before it, ``best.safetensors`` the weights of the chosen epoch, ``result.json`` the outcome, ``sharpness-*.json``
    the measurements of ``imbsam sharpness``, ``second-stage.json`` how the classifier was retrained, and
    ``examples.json`` images of the worst confusions. Checkpoints and weights contain their SHA-256.
    """

    path: Path

    @property
    def checkpoint(self) -> Path:
        """Checkpoint after the last finished epoch, or after the step at which a signal ended the run."""
        return self.path / "last.ckpt"

    @property
    def previous(self) -> Path:
        """Checkpoint before the last, used if the last is damaged."""
        return self.path / "previous.ckpt"

    @property
    def metrics(self) -> Path:
        """Metrics, one line per epoch."""
        return self.path / "metrics.jsonl"

    @property
    def weights(self) -> Path:
        """Weights of the chosen epoch."""
        return self.path / "best.safetensors"

    @property
    def result(self) -> Path:
        """Outcome of the run; if the file exists, the run is finished."""
        return self.path / "result.json"

    @property
    def second_stage(self) -> Path:
        """Record of how the classifier was retrained; a run without a second stage has none."""
        return self.path / "second-stage.json"

    @property
    def examples(self) -> Path:
        """Images of the worst confusions."""
        return self.path / "examples.json"

    def sharpness(self, split: str) -> Path:
        """Return the path of the sharpness measured on the rows of a split."""
        return self.path / f"sharpness-{split}.json"

    def exists(self) -> bool:
        """Return whether a run was started here."""
        return (self.path / "config.yaml").exists()

    def has_checkpoint(self) -> bool:
        """Return whether there is a checkpoint to resume from."""
        return self.checkpoint.exists() or self.previous.exists()

    def clear(self) -> None:
        """Remove the files of a run, and no others.

        Raises:
            RunError: If a file cannot be removed.
        """
        try:
            for path in (
                *(self.result, self.checkpoint, self.previous, self.weights, self.metrics),
                self.second_stage,
            ):
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
        """Read the source and the options of the run.

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

    def write_data(self, record: DataRecord) -> None:
        """Write what later commands need to know about the data."""
        write_record(self.path / "data.json", record)

    def read_data(self) -> DataRecord:
        """Read classes, counts, groups, tail and the preprocessing of the data.

        Raises:
            RunError: If the file is missing or damaged.
        """
        return read_record(DataRecord, self.path / "data.json")

    def write_result(self, result: Result) -> None:
        """Write the outcome, which makes the run a finished one."""
        write_record(self.result, result)

    def read_result(self) -> Result:
        """Read the outcome.

        Raises:
            RunError: If the run is not finished, or the file is damaged.
        """
        return read_record(Result, self.result)

    def write_second_stage(self, stage: SecondStage) -> None:
        """Write how the classifier was retrained; call it before the weights are written."""
        write_record(self.second_stage, stage)

    def read_second_stage(self) -> SecondStage | None:
        """Read how the classifier was retrained; None for a run without a second stage.

        Raises:
            RunError: If the file is damaged.
        """
        return read_record(SecondStage, self.second_stage) if self.second_stage.exists() else None

    def write_examples(self, examples: Examples) -> None:
        """Write images of the worst confusions in a split."""
        write_record(self.examples, examples)

    def read_examples(self) -> Examples | None:
        """Read images of the worst confusions; None if none were written.

        Raises:
            RunError: If the file is damaged.
        """
        return read_record(Examples, self.examples) if self.examples.is_file() else None

    def append_metrics(self, record: EpochRecord) -> None:
        """Append the line of an epoch.

        Raises:
            RunError: If the line cannot be written.
        """
        try:
            with self.metrics.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(record)) + "\n")
        except OSError as error:
            raise RunError(f"cannot write {self.metrics}: {error.strerror or error}.") from None

    def epochs(self) -> list[EpochRecord]:
        """Read the record of each epoch.

        Raises:
            RunError: If the file cannot be read, or a line is damaged.
        """
        lines = enumerate(self._metric_lines(), start=1)
        return [parsed(EpochRecord, line, f"{self.metrics}, line {number}") for number, line in lines if line.strip()]

    def whole_epochs(self) -> list[EpochRecord]:
        """Read the record of each epoch, without damaged lines."""
        return [epoch for line in self._metric_lines() if (epoch := _whole(line)) is not None]

    def keep_metrics(self, epochs: int) -> None:
        """Drop lines of epochs that the last checkpoint does not include, and damaged lines, with a warning.

        Raises:
            RunError: If the file cannot be read or written.
        """
        lines = self._metric_lines()[:epochs]
        whole = [line for line in lines if _whole(line) is not None]
        if len(whole) < epochs:
            warnings.warn(
                f"{self.metrics} lacks the lines of {epochs - len(whole)} epochs; curves will lack them as well.",
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
        """Compute a digest of what builds and feeds a model: ``config.yaml``, ``data.json``, ``second-stage.json``."""
        files = (self.path / "config.yaml", self.path / "data.json", self.second_stage)
        found = [path.stat() for path in files if path.exists()]
        return _digest_of(self, tuple((each.st_ino, each.st_mtime_ns, each.st_size) for each in found))

    def read_weights(self) -> dict[str, Tensor]:
        """Read the weights of the chosen epoch.

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
            raise RunError(f"{self.weights} is damaged: {error}. Train again with --overwrite.") from None
        if about.get("run") != digest:
            raise RunError(
                f"{self.weights} was not written beside this config.yaml and data.json: one of them has changed, or "
                "the weights are of another run. Restore it, or train again with --overwrite."
            )
        return tensors

    def write_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write everything needed to resume; the last checkpoint becomes the previous one.

        Raises:
            RunError: If it cannot be written; the last checkpoint is kept.
        """
        content = sealed(checkpoint.packed())
        with suppress(OSError, DamagedError):  # A damaged one must not take the place of a whole one.
            unsealed(self.checkpoint.read_bytes())
            keep_as(self.checkpoint, self.previous)
        write_atomically(self.checkpoint, content)

    def read_checkpoint(self) -> Checkpoint:
        """Read the checkpoint without running any code from it; if it is damaged, the previous one, with a warning.

        Raises:
            RunError: If no checkpoint is intact, or it has another schema.
        """
        if not self.has_checkpoint():
            raise RunError(f"{self.path} has no checkpoint: no epoch was finished. Start again with --overwrite.")
        try:
            content = unpacked(self.checkpoint)
        except DamagedError as fault:
            told = f"{self.checkpoint} is damaged ({fault})."
            try:
                content = unpacked(self.previous)
            except DamagedError:
                raise RunError(f"{told} There is none before it: start again with --overwrite.") from None
            warnings.warn(f"{told} The one before it is used: {self.previous}.", RunWarning, stacklevel=2)
        return Checkpoint.of(content, f"{self.checkpoint}")


# Every epoch that is the best so far writes weights, and asks; to read both files anew takes longer than a small step.
@lru_cache(maxsize=16)
def _digest_of(folder: RunFolder, as_they_are: tuple[tuple[int, int, int], ...]) -> str:
    """Compute the digest, once as long as the files stay as they are."""
    held = folder.read_data()
    # Not where the data lie: the same run in two places has the same bytes.
    how = {name: value for name, value in held.preprocess.items() if name != "source"}
    about = [folder.read_config()[1].deciding(), held.classes, held.counts, held.groups, how]
    if (second := folder.read_second_stage()) is not None:
        about.append(asdict(second))
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _whole(line: bytes) -> EpochRecord | None:
    """Return the record of a line of metrics; ``None`` for a damaged line."""
    try:
        return parsed(EpochRecord, line, "")
    except RunError:
        return None
