"""Trackers, which show a run's numbers in the tools that teams use."""

from imbsam.runs.tracking.mlflow_run import Store as Store
from imbsam.runs.tracking.sync import Tracker as Tracker
from imbsam.runs.tracking.sync import chosen as chosen
from imbsam.runs.tracking.sync import keep_reports as keep_reports
from imbsam.runs.tracking.sync import opened as opened
from imbsam.runs.tracking.sync import sync as sync
from imbsam.runs.tracking.sync import together as together
