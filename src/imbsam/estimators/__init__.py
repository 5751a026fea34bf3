"""Estimators with scikit-learn's face: ``fit`` and ``predict`` on arrays and data frames."""

from imbsam.estimators.classifier import SharpClassifier as SharpClassifier
