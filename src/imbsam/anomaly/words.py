"""How labels are written in files; light, so that the command reads it without torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LabelWords:
    """Labels: how they are written. An empty cell is unlabelled."""

    anomaly: str = "1"
    """A known anomaly; of images, the subfolder."""
    normal: str = "-1"
    """A row known to be normal."""
    unlabelled: str = "0"
    """A row of which nothing is known."""
