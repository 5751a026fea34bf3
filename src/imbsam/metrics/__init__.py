"""Metrics of a classifier on each class and group, and of a detector on anomalies."""

from imbsam.metrics._classification import CALIBRATION_BINS as CALIBRATION_BINS
from imbsam.metrics._classification import MAX_CONFUSION_CLASSES as MAX_CONFUSION_CLASSES
from imbsam.metrics._classification import MEASURE_NAMES as MEASURE_NAMES
from imbsam.metrics._classification import MEASURES as MEASURES
from imbsam.metrics._classification import Confused as Confused
from imbsam.metrics._classification import Measure as Measure
from imbsam.metrics._classification import Metrics as Metrics
from imbsam.metrics._classification import classification as classification
from imbsam.metrics._classification import worst_confusions as worst_confusions
