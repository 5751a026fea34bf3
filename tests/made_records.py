"""Records of runs with made-up numbers."""

from dataclasses import replace

from imbsam.metrics import MEASURES, Metrics
from imbsam.runs.records import EpochRecord, Result


def made_metrics(score=0.8, **scores):
    """Every share is ``score``, but for those named."""
    shares = dict.fromkeys(MEASURES, score) | scores
    return Metrics(samples=20, log_loss=1.2, ece=0.08, per_class=(score, score), confusion=None, **shares)


def made_epoch(epoch, epochs=5, **changed):
    """What an epoch of a run measured; nothing unless said."""
    record = EpochRecord(epoch, epochs, lr=0.1, rho=0.2, train_loss=0.5, skipped=0, seconds=1.25, validation=None)
    return replace(record, **changed)


def made_result(label, seed, test=None, **changed):
    """The result of a run with two classes."""
    result = Result(
        schema=1,
        name=f"{label}-seed{seed}",
        method="imbsam",
        label=label,
        seed=seed,
        source="digits",
        config={},
        classes=("a", "b"),
        counts=(120, 6),
        groups=("many", "few"),
        tail=(False, True),
        notes=(),
        best_epoch=3,
        epochs=5,
        test=test,
        validation=None,
        train_seconds=1.0,
        rows_forward=100,
        cost_ratio=None,
        versions={},
        device="cpu",
        finished="2026-11-23T15:00:00Z",
    )
    return replace(result, **changed)
