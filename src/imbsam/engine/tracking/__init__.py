"""Trackers: where a run's numbers are written for the tools that teams look at runs with."""

from imbsam.engine.tracking.group import Group as Group
from imbsam.engine.tracking.mlflow_run import Store as Store
from imbsam.engine.tracking.tracker import Tracker as Tracker
from imbsam.engine.tracking.tracker import chosen as chosen
from imbsam.engine.tracking.tracker import keep_reports as keep_reports
from imbsam.engine.tracking.tracker import together as together
