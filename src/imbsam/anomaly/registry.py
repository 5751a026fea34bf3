"""Registry of the objectives by name."""

from collections.abc import Mapping, Sequence
from inspect import Parameter, signature

import torch

from imbsam.anomaly.blend import Blend
from imbsam.anomaly.classification import BCE, Focal
from imbsam.anomaly.deep_sad import DeepSAD
from imbsam.anomaly.deep_svdd import DeepSVDD
from imbsam.anomaly.devnet import DevNet
from imbsam.anomaly.feawad import FeaWAD
from imbsam.anomaly.hsc import HSC
from imbsam.anomaly.networks import draw_weights
from imbsam.anomaly.objective import Objective
from imbsam.anomaly.prenet import PReNet
from imbsam.anomaly.rosas import RoSAS
from imbsam.errors import OptionError

OBJECTIVES: Mapping[str, type[Objective]] = {
    "hsc": HSC,
    "bce": BCE,
    "focal": Focal,
    "deep-sad": DeepSAD,
    "deep-svdd": DeepSVDD,
    "blend": Blend,
    "devnet": DevNet,
    "feawad": FeaWAD,
    "prenet": PReNet,
    "rosas": RoSAS,
}

UNSUPERVISED = "deep-svdd"
"""Objective that needs no labels, to which the others fall back."""


def objective_named(name: str) -> type[Objective]:
    """Return an objective by its name.

    Raises:
        OptionError: If there is no objective with this name.
    """
    if name not in OBJECTIVES:
        raise OptionError(f"there is no objective {name!r}; there are {', '.join(OBJECTIVES)}.")
    return OBJECTIVES[name]


def objective_options(name: str) -> dict[str, object]:
    """Return the options of an objective and their defaults.

    Args:
        name: One of :data:`OBJECTIVES`.

    Raises:
        OptionError: If there is none of this name.
    """
    parameters = signature(objective_named(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY}


def create_objective(name: str, shape: Sequence[int], *, draw: torch.Generator, **options: object) -> Objective:
    """Make an objective with fresh weights.

    Args:
        name: One of :data:`OBJECTIVES`.
        shape: Shape of a row, ``(columns,)`` of a table or ``(channels, height, width)`` of an image.
        draw: Source of the weights.
        options: Options of the objective, see :func:`objective_options`.

    Raises:
        OptionError: If the name or an option is unknown or out of range.
    """
    known = objective_options(name)
    unknown = [option for option in options if option not in known]
    if unknown:
        raise OptionError(f"{name} has no option {unknown[0]!r}; its options are {', '.join(known) or 'none'}.")
    objective = objective_named(name)(shape, **options)
    draw_weights(objective, draw)
    return objective
