"""Sharpness-aware optimizers. Depends on torch and the class priors alone."""

from imbsam.optim._passes import Pass as Pass
from imbsam.optim._passes import Passes as Passes
from imbsam.optim._sharpness_aware import SharpnessAware as SharpnessAware
from imbsam.optim._terms import Term as Term
from imbsam.optim.ascent import Ascent as Ascent
from imbsam.optim.ascent import Gradient as Gradient
from imbsam.optim.ascent import Slope as Slope
from imbsam.optim.imbsam import ImbSAM as ImbSAM
from imbsam.optim.plain import Plain as Plain
from imbsam.optim.sam import SAM as SAM
