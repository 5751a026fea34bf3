"""Losses for imbalanced classes: per sample, never reduced, so that an optimizer can weight the rows."""

from imbsam.losses.balanced_softmax import BalancedSoftmax as BalancedSoftmax
from imbsam.losses.class_balanced import ClassBalanced as ClassBalanced
from imbsam.losses.class_balanced import class_balanced_weights as class_balanced_weights
from imbsam.losses.cross_entropy import CrossEntropy as CrossEntropy
from imbsam.losses.deferred import Deferred as Deferred
from imbsam.losses.focal import Focal as Focal
from imbsam.losses.ldam import LDAM as LDAM
from imbsam.losses.logit_adjustment import LogitAdjustment as LogitAdjustment
from imbsam.losses.logit_adjustment import adjust_logits as adjust_logits
from imbsam.losses.registry import LOSSES as LOSSES
from imbsam.losses.registry import build as build
from imbsam.losses.registry import default_options as default_options
from imbsam.losses.registry import needs_cosine_classifier as needs_cosine_classifier
from imbsam.losses.registry import output_scale as output_scale
from imbsam.losses.smoothed import Smoothed as Smoothed
from imbsam.losses.training_shift import training_shift as training_shift
from imbsam.losses.vector_scaling import VectorScaling as VectorScaling
