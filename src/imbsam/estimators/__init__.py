"""Estimators with the interface of scikit-learn: ``fit`` and ``predict`` on arrays and data frames."""

from imbsam.estimators.blend import BlendClassifier as BlendClassifier
from imbsam.estimators.classifier import SharpClassifier as SharpClassifier
