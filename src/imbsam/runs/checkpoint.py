"""Checkpoint: everything needed to resume a run, packed and read without running any code from it."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import torch
from pydantic import ConfigDict, SkipValidation
from torch import Tensor

from imbsam.errors import RunError
from imbsam.storage.records import SCHEMA, checked_record
from imbsam.storage.seal import DamagedError, unsealed
from imbsam.training.averaging import averaged_weights

WITH_TENSORS = ConfigDict(arbitrary_types_allowed=True)


@dataclass(frozen=True)
class Progress:
    """Progress of a run.

    Args:
        epoch: Number of epochs finished.
        best_epoch: Epoch whose weights are kept, from 1.
        best_score: Its validation balanced accuracy.
        rows: Number of rows trained on.
        rows_forward: Number of rows forwarded for them, in all passes.
        tail_recall: Last recall of the tail on its training samples; None if it was never looked at.
        sharp_from: Number of steps after which the weights are perturbed; None if that does not depend on that recall,
            or is not decided yet.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    rows: int = 0
    rows_forward: int = 0
    tail_recall: float | None = None
    sharp_from: int | None = None


@dataclass
class Begun:
    """Progress of an epoch that is not finished.

    Args:
        lr: Learning rate of its first step.
        rho: Neighbourhood size of its first step.
        losses: Sum of the losses of each batch, scalars, one for each step made.
        seconds: Time of these steps in seconds.
    """

    __pydantic_config__ = WITH_TENSORS

    lr: float
    rho: float
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """State of a run after a step.

    Args:
        options: Options that decide the result of the run.
        progress: Progress of the run.
        begun: Epoch that is not finished; None between two epochs.
        model: State of the model.
        optimizer: State of the optimizer.
        steps: Number of steps that the schedule of the learning rate has made.
        random: State of the random number generators of each rank.
        average: State of the average of the weights; None where there is none.
    """

    __pydantic_config__ = WITH_TENSORS

    options: Mapping[str, object]
    progress: Progress
    begun: Begun | None
    model: Annotated[Mapping[str, Tensor], SkipValidation]
    optimizer: Annotated[dict[str, object], SkipValidation]
    steps: int
    random: Sequence[Mapping[str, Tensor]]
    average: Annotated[Mapping[str, Tensor] | None, SkipValidation] = None

    @property
    def measured(self) -> Mapping[str, Tensor]:
        """Weights with which an epoch is evaluated: their average if there is one."""
        return self.model if self.average is None else averaged_weights(self.average)

    def packed(self) -> bytes:
        """Return the checkpoint as bytes."""
        buffer = io.BytesIO()
        begun = None if self.begun is None else vars(self.begun)
        torch.save({"schema": SCHEMA, **vars(self), "progress": vars(self.progress), "begun": begun}, buffer)
        return buffer.getvalue()

    @classmethod
    def of(cls, content: Mapping[str, object], place: str) -> "Checkpoint":
        """Check the content from :func:`unpacked`.

        Raises:
            RunError: If it is of another schema, or an entry does not fit.
        """
        if content.get("schema") != SCHEMA:
            raise RunError(f"{place} was written by another version of imbsam (schema is not {SCHEMA}).")
        return checked_record(cls, content, place)


def unpacked(path: Path) -> Mapping[str, object]:
    """Read the content of a sealed file without running any code from it.

    Raises:
        DamagedError: If the file is missing, or not as it was written.
    """
    try:
        content: object = torch.load(io.BytesIO(unsealed(path.read_bytes())), weights_only=True, map_location="cpu")
    except FileNotFoundError:
        raise DamagedError("it is missing") from None
    except DamagedError:
        raise
    except Exception as error:  # Sealed by somebody else, it may hold anything.
        raise DamagedError(type(error).__name__) from None
    if not isinstance(content, dict):
        raise DamagedError("it holds no mapping")
    return content
