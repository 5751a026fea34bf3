"""Report of a run or a comparison: one HTML page, its figures, and the summary behind it."""

from imbsam.metrics import MEASURES, Measure
from imbsam.report.page import write_report
from imbsam.report.sharpness import findings, group_table, notes, write_sharpness
from imbsam.report.sharpness_runs import SharpnessStudy
from imbsam.report.summary import Difference, Estimate, Summary, summarise
from imbsam.report.words import answer, decided

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
    "notes",
    "summarise",
    "write_report",
    "write_sharpness",
]
