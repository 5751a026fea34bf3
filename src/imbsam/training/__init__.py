"""A training step and its surroundings, shared by runs, estimators and detectors."""
