"""A training step and what stands around it: shared by runs, estimators and detectors."""
