"""Detector behind both interfaces: fit and score, on tensors."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imbsam.anomaly.blending import fit_blend
from imbsam.anomaly.labels import ANOMALY, ENCODING
from imbsam.anomaly.objective import Objective
from imbsam.anomaly.registry import UNSUPERVISED, objective_named
from imbsam.anomaly.scaling import ColumnScaling
from imbsam.anomaly.settings import Settings
from imbsam.anomaly.threshold import USUAL_SHARE, Threshold, by_share, calibrated
from imbsam.anomaly.training import Subset, block_rows, trained
from imbsam.data.seeding import generator
from imbsam.errors import DataError, DataWarning
from imbsam.notebook.tables import facts
from imbsam.optim import options_of

FOLDS = 5
"""Number of parts into which calibration cuts the rows; each network leaves one out."""

SPLIT, MEMBER = range(100, 102)


@dataclass(frozen=True)
class Member:
    """Trained network of a detector.

    Args:
        objective: Objective in evaluation mode.
        scaling: Scaling of its rows.
        shift: Mean score of its training rows that are not labelled anomalies; 0 if it is the only member.
        spread: Standard deviation of these scores; 1 if it is the only member.
    """

    objective: Objective
    scaling: ColumnScaling
    shift: float = 0.0
    spread: float = 1.0

    @torch.inference_mode()
    def score(self, block: Tensor, settings: Settings) -> Tensor:
        """Score a block of rows.

        Args:
            block: Rows, shape ``(B, *shape)``, unscaled.
            settings: Settings of the detector.

        Returns:
            Scores, shape ``(B,)``, float64, on the CPU.
        """
        rows = self.scaling(block, settings.dtype).to(settings.device)
        return (self.objective.score(rows).double().cpu() - self.shift) / self.spread


@dataclass(frozen=True, repr=False)
class Detector:
    """Fitted detector.

    Args:
        members: Networks, whose standardised scores are averaged.
        threshold: Score above which a row is an anomaly.
        objective: Name of the objective; the unsupervised one if there was no labelled anomaly.
        shape: Shape of a row, ``(columns,)`` of a table or ``(channels, height, width)`` of an image.
        settings: Settings that it was fitted with.
        training_scores: Scores of the training rows, shape ``(N,)``, each by the parts that were not trained on the
            row, if any; None without such parts, or if the detector was read from a file.
    """

    members: tuple[Member, ...]
    threshold: Threshold
    objective: str
    shape: tuple[int, ...]
    settings: Settings
    training_scores: Tensor | None = None

    def __repr__(self) -> str:
        parts = f"{self.objective}, {len(self.members)} member{'s' if len(self.members) > 1 else ''}"
        return f"Detector({parts}, rows of shape {self.shape}, threshold {self.threshold.value:.4g})"

    def _repr_html_(self) -> str:
        """A table for notebooks."""
        weights = sum(weight.numel() for member in self.members for weight in member.objective.parameters())
        return facts(
            "Fitted",
            [
                ("objective", self.objective),
                ("columns", self.shape[0]) if len(self.shape) == 1 else ("image shape", str(self.shape)),
                ("members", len(self.members)),
                ("weights", weights),
                *self.threshold.facts(),
            ],
        )

    def score(self, table: Tensor) -> Tensor:
        """Compute anomaly scores of rows.

        Args:
            table: Rows, shape ``(N, *shape)``, finite.

        Returns:
            Scores, shape ``(N,)``, float64; higher is more anomalous.

        Raises:
            DataError: If the rows have another shape.
        """
        return torch.cat(list(self.score_blocks(table))) if len(table) else torch.zeros(0, dtype=torch.float64)

    def scores_of_fit(self, table: Tensor) -> Tensor:
        """Compute scores of the training rows, each by the parts that were not trained on the row, if any.

        Args:
            table: Training rows, shape ``(N, *shape)``.

        Returns:
            Scores, shape ``(N,)``, float64.
        """
        return self.score(table) if self.training_scores is None else self.training_scores

    def score_blocks(self, table: Tensor) -> Iterator[Tensor]:
        """Yield scores for blocks of rows, so that nothing of the table's size is copied.

        Args:
            table: Rows, shape ``(N, *shape)``, finite.

        Yields:
            Scores, shape ``(B,)``, float64.

        Raises:
            DataError: If the rows have another shape.
        """
        if table.shape[1:] != self.shape:
            raise DataError(f"rows have shape {tuple(table.shape[1:])}; the detector was fitted on {self.shape}.")
        for block in torch.split(table, block_rows(self.shape)):
            yield torch.stack([member.score(block, self.settings) for member in self.members]).mean(dim=0)


def fit(table: Tensor, kinds: Tensor, settings: Settings, *, seed: int) -> Detector:
    """Train a detector.

    Args:
        table: Rows, shape ``(N, columns)``, or images ``(N, channels, height, width)``; finite, of any real dtype
            including uint8; at least two rows. It is not copied, and is processed in blocks.
        kinds: Kind of each row, shape ``(N,)``, see :func:`~imbsam.anomaly.labels.kinds_of`.
        settings: The options.
        seed: Seed of everything random; torch's global generator is not changed.

    Returns:
        The detector.

    Raises:
        DataError: If the labels leave nothing to learn from, or there is none although ``strict`` requires one.
        OptionError: If an option is unknown or out of range.
        NonFiniteError: If a loss or gradient became NaN or infinite.
    """
    if settings.precision is None:
        # In double precision a dense network costs a tenth more, a convolutional one several times as much.
        settings = replace(settings, precision="double" if table.ndim == 2 else "single")
    settings = replace(settings, objective=named(settings.objective, table.shape[1:]))
    # An unknown method is refused before an auto-encoder is trained.
    options_of(settings.method)
    name = objective_for(kinds, settings)
    least = objective_named(name).least_anomalies
    folds = _folds(kinds, least, seed) if settings.contamination == "auto" and least else None
    if name == "blend":
        return _blended(table, kinds, settings, seed, leave_out=folds is not None)
    members: list[Member] = []
    held_out: list[tuple[Tensor, Tensor]] = []
    for number in range(settings.members):
        held = torch.zeros(len(kinds), dtype=torch.bool) if folds is None else folds == number % FOLDS
        rows = Subset(table, (~held).nonzero().squeeze(1), kinds[~held])
        member = _member(name, rows, settings, seed=int(generator(seed, MEMBER, number).initial_seed()))
        members.append(member)
        if folds is not None:
            rows = Subset(table, held.nonzero().squeeze(1), kinds[held])
            scores = torch.cat([member.score(block, settings) for block in rows.blocks()])
            held_out.append((scores, kinds[held] == ANOMALY))
    detector = Detector(tuple(members), Threshold(0.0), name, tuple(table.shape[1:]), settings)
    return replace(detector, threshold=_threshold(detector, table, held_out))


def _blended(table: Tensor, kinds: Tensor, settings: Settings, seed: int, *, leave_out: bool) -> Detector:
    """Fit blends, each on all rows; their parts are scored on rows that they were not trained on."""
    rows = Subset(table, torch.arange(len(kinds)), kinds)
    fits = [
        fit_blend(rows, settings, seed=int(generator(seed, MEMBER, number).initial_seed()), leave_out=leave_out)
        for number in range(settings.members)
    ]
    members = tuple(Member(each.blend, each.scaling) for each in fits)
    scores = torch.stack([each.scores for each in fits]).mean(dim=0)
    honest = torch.stack([each.honest for each in fits]).all(dim=0)
    if leave_out:
        threshold = calibrated(scores[honest], kinds[honest] == ANOMALY)
    else:
        threshold = by_share(scores, _share(settings))
    return Detector(members, threshold, "blend", tuple(table.shape[1:]), settings, scores)


def objective_for(kinds: Tensor, settings: Settings) -> str:
    """Return the chosen objective, or the unsupervised one if no anomaly is labelled.

    Args:
        kinds: Kind of each row, shape ``(N,)``.
        settings: The options, with the name of an objective.

    Raises:
        DataError: If the labels leave nothing to learn from, or there is none although ``strict`` requires one.
        OptionError: If there is no such objective.
    """
    labelled = int((kinds == ANOMALY).sum())
    least = objective_named(settings.objective).least_anomalies
    if labelled == 0 and settings.strict:
        raise DataError(f"no row is labelled as an anomaly, and strict=True asks for some. {ENCODING}.")
    if least and labelled == 0:
        return UNSUPERVISED
    if labelled < least:
        raise DataError(
            f"{settings.objective} learns from pairs of two different labelled anomalies; y has {labelled}. "
            "Label another one, or choose an objective that needs only one, such as hsc or deep-sad."
        )
    if labelled == len(kinds):
        raise DataError(
            f"all {labelled} rows are labelled as anomalies: there are no other rows to separate them from. {ENCODING}."
        )
    return settings.objective


def named(objective: str, shape: Sequence[int]) -> str:
    """Return the name of the objective; for ``"auto"`` the one that suits the rows.

    Args:
        objective: Name that the user gave.
        shape: Shape of a row.
    """
    if objective != "auto":
        return objective
    return "blend" if len(shape) == 1 else "devnet"


def _member(name: str, rows: Subset, settings: Settings, *, seed: int) -> Member:
    objective, scaling = trained(name, rows, settings, seed=seed)
    member = Member(objective, scaling)
    if settings.members == 1:
        return member
    scores = torch.cat([member.score(block, settings) for block in rows.blocks()])[rows.kinds != ANOMALY]
    spread = float(scores.std(correction=0))
    return Member(objective, scaling, float(scores.mean()), spread if spread > 0 else 1.0)


def _threshold(detector: Detector, table: Tensor, held_out: list[tuple[Tensor, Tensor]]) -> Threshold:
    if held_out:
        scores, anomalous = (torch.cat(parts) for parts in zip(*held_out, strict=True))
        return calibrated(scores, anomalous)
    return by_share(detector.score(table), _share(detector.settings))


def _share(settings: Settings) -> float:
    return USUAL_SHARE if settings.contamination == "auto" else float(settings.contamination)


def _folds(kinds: Tensor, least: int, seed: int) -> Tensor | None:
    """Return the part of each row, shape ``(N,)``, every kind spread evenly; ``None`` with too few anomalies."""
    labelled = int((kinds == ANOMALY).sum())
    if labelled < least + 1 or len(kinds) - labelled < FOLDS + 1:
        warnings.warn(
            f"contamination='auto' holds labelled anomalies out to choose the threshold, and {labelled} of "
            f"{len(kinds)} rows are too few for that: {USUAL_SHARE:.0%} of the rows are called anomalies instead. "
            "Set contamination to a share to choose it yourself.",
            DataWarning,
            stacklevel=5,
        )
        return None
    draw = generator(seed, SPLIT)
    folds = torch.empty_like(kinds)
    for kind in torch.unique(kinds):
        rows = (kinds == kind).nonzero().squeeze(1)
        folds[rows[torch.randperm(len(rows), generator=draw)]] = torch.arange(len(rows)) % FOLDS
    return folds
