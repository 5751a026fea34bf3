"""Trackers: where a run's numbers are written for the tools that teams look at runs with."""

from imbsam.runs.tracking.group import Group as Group
from imbsam.runs.tracking.mlflow_run import Store as Store
from imbsam.runs.tracking.tracker import Tracker as Tracker
from imbsam.runs.tracking.tracker import chosen as chosen
from imbsam.runs.tracking.tracker import keep_reports as keep_reports
from imbsam.runs.tracking.tracker import together as together
