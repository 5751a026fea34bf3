"""Words for labels in files; without torch, so that the command reads it fast."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelWords:
    """Labels: words for each kind. An empty cell is unlabelled."""

    anomaly: str = "1"
    """Label of a known anomaly; for images, name of the subfolder."""
    normal: str = "-1"
    """Label of a row known to be normal."""
    unlabelled: str = "0"
    """Label of an unlabelled row."""
