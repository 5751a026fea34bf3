"""Anomaly detection with a few labelled anomalies: they are the tail of a sharpness-aware method."""

from imbsam.anomaly.core import Detector as Detector
from imbsam.anomaly.core import Member as Member
from imbsam.anomaly.core import fit as fit
from imbsam.anomaly.detector import AnomalyDetector as AnomalyDetector
from imbsam.anomaly.objective import Objective as Objective
from imbsam.anomaly.pyod import PyODDetector as PyODDetector
from imbsam.anomaly.registry import OBJECTIVES as OBJECTIVES
from imbsam.anomaly.registry import create_objective as create_objective
from imbsam.anomaly.registry import objective_options as objective_options
from imbsam.anomaly.settings import Settings as Settings
from imbsam.anomaly.threshold import Threshold as Threshold
