"""Report of a run or a comparison: one HTML page, its figures, and the summary behind it."""

import importlib
from contextlib import suppress
from threading import Thread
from typing import TYPE_CHECKING

from imbsam.metrics import MEASURES, Measure
from imbsam.report.summary import Difference, Estimate, Summary, summarise
from imbsam.report.words import answer, decided

if TYPE_CHECKING:
    from imbsam.report.page import write_report
    from imbsam.report.sharpness import findings, group_table, notes, write_sharpness
    from imbsam.report.sharpness_runs import SharpnessStudy

__all__ = [
    "MEASURES",
    "Difference",
    "Estimate",
    "Measure",
    "SharpnessStudy",
    "Summary",
    "answer",
    "decided",
    "findings",
    "group_table",
    "load_ahead",
    "notes",
    "summarise",
    "write_report",
    "write_sharpness",
]

# Loaded at first use (PEP 562): they draw, and a run need not wait for matplotlib before its first step.
_HOMES = {
    "SharpnessStudy": "sharpness_runs",
    "findings": "sharpness",
    "group_table": "sharpness",
    "notes": "sharpness",
    "write_report": "page",
    "write_sharpness": "sharpness",
}


def load_ahead() -> Thread:
    """Import what draws a page in a thread, while this process waits for others that make the runs."""

    def load() -> None:
        # What fails here fails again, and is told, where the page is written.
        with suppress(Exception):
            importlib.import_module(f"{__name__}.page")

    thread = Thread(target=load, name="loads the report")
    thread.start()
    return thread


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
