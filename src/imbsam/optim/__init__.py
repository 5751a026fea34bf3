"""Sharpness-aware optimizers. Depends on torch and the class priors alone."""

from imbsam.optim._gradients import Combined as Combined
from imbsam.optim._gradients import Parts as Parts
from imbsam.optim._pass import Pass as Pass
from imbsam.optim._sharpness_aware import SharpnessAware as SharpnessAware
from imbsam.optim._step import Step as Step
from imbsam.optim._terms import Term as Term
from imbsam.optim.adaptive import Adaptive as Adaptive
from imbsam.optim.ascent import Ascent as Ascent
from imbsam.optim.ascent import Climbed as Climbed
from imbsam.optim.ascent import Gradient as Gradient
from imbsam.optim.ascent import Slope as Slope
from imbsam.optim.cc_sam import CCSAM as CCSAM
from imbsam.optim.cc_sam import ClassConditional as ClassConditional
from imbsam.optim.creating import create as create
from imbsam.optim.esam import ESAM as ESAM
from imbsam.optim.esam import Stochastic as Stochastic
from imbsam.optim.focal_sam import FocalSAM as FocalSAM
from imbsam.optim.friendly import Friendly as Friendly
from imbsam.optim.gnm import GNM as GNM
from imbsam.optim.gnm import ClampedNoise as ClampedNoise
from imbsam.optim.gsam import GSAM as GSAM
from imbsam.optim.imbsam import ImbSAM as ImbSAM
from imbsam.optim.looksam import LookSAM as LookSAM
from imbsam.optim.momentum import Momentum as Momentum
from imbsam.optim.plain import Plain as Plain
from imbsam.optim.random import Random as Random
from imbsam.optim.registry import ASCENTS as ASCENTS
from imbsam.optim.registry import METHODS as METHODS
from imbsam.optim.registry import Method as Method
from imbsam.optim.registry import list_methods as list_methods
from imbsam.optim.registry import options_of as options_of
from imbsam.optim.reuse import Reuse as Reuse
from imbsam.optim.rise import Rise as Rise
from imbsam.optim.sam import ASAM as ASAM
from imbsam.optim.sam import LESAM as LESAM
from imbsam.optim.sam import MSAM as MSAM
from imbsam.optim.sam import SAM as SAM
from imbsam.optim.sam import FriendlySAM as FriendlySAM
from imbsam.optim.sam import VaSSO as VaSSO
from imbsam.optim.sam_a import SAMA as SAMA
from imbsam.optim.sam_a import TailSAMA as TailSAMA
from imbsam.optim.sampa import SAMPa as SAMPa
from imbsam.optim.schedules import Schedule as Schedule
from imbsam.optim.sse_sam import SSESAM as SSESAM
from imbsam.optim.universal import DetSAM as DetSAM
from imbsam.optim.universal import FrobSAM as FrobSAM
from imbsam.optim.universal import TraceSAM as TraceSAM
from imbsam.optim.universal import UniversalSAM as UniversalSAM
from imbsam.optim.vasso import VarianceSuppressed as VarianceSuppressed
from imbsam.optim.weighted_sam import TargetBins as TargetBins
from imbsam.optim.weighted_sam import WeightedSAM as WeightedSAM

Passes = Step
"""The passes of a step by the name that a training loop knows them by."""
