"""A checkpoint: all that going on with a run needs, packed and read without running any code from it."""

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
    """How far a run has come.

    Args:
        epoch: Epochs finished.
        best_epoch: The epoch whose weights are kept, from 1.
        best_score: Its validation balanced accuracy.
        rows: Rows trained on.
        rows_forward: Rows forwarded for them, every pass counted.
    """

    epoch: int = 0
    best_epoch: int = 0
    best_score: float = -1.0
    rows: int = 0
    rows_forward: int = 0


@dataclass
class Begun:
    """What an epoch that is not finished has come to.

    Args:
        lr: Learning rate of its first step.
        rho: Neighbourhood size of its first step.
        losses: Sum of the losses of each batch, scalars: as many as steps were made.
        seconds: How long they took.
    """

    __pydantic_config__ = WITH_TENSORS

    lr: float
    rho: float
    losses: list[Tensor] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after a step.

    Args:
        options: Those that decide what comes out of the run.
        progress: How far it has come.
        begun: The epoch that is not finished; None between two epochs.
        model: State of the model.
        optimizer: State of the optimizer.
        steps: Steps that the schedule of the learning rate has made.
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
        """The weights that an epoch is measured with: their average where there is one."""
        return self.model if self.average is None else averaged_weights(self.average)

    def packed(self) -> bytes:
        """As bytes."""
        buffer = io.BytesIO()
        begun = None if self.begun is None else vars(self.begun)
        torch.save({"schema": SCHEMA, **vars(self), "progress": vars(self.progress), "begun": begun}, buffer)
        return buffer.getvalue()

    @classmethod
    def of(cls, content: Mapping[str, object], place: str) -> "Checkpoint":
        """Check what :func:`unpacked` gave.

        Raises:
            RunError: If it is of another schema, or an entry does not fit.
        """
        if content.get("schema") != SCHEMA:
            raise RunError(f"{place} was written by another version of imbsam (schema is not {SCHEMA}).")
        return checked_record(cls, content, place)


def unpacked(path: Path) -> Mapping[str, object]:
    """What a sealed file holds, read without running any code from it.

    Raises:
        DamagedError: If it is missing, or not as it was written.
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
