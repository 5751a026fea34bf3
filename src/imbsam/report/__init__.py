"""The report of a run or a comparison: one HTML page, its figures, and the summary it rests on."""

from imbsam.report.page import write_report
from imbsam.report.summary import MEASURES, Difference, Estimate, Measure, Summary, summarise
from imbsam.report.words import answer

__all__ = ["MEASURES", "Difference", "Estimate", "Measure", "Summary", "answer", "summarise", "write_report"]
