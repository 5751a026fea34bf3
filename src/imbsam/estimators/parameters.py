"""Constraints of the classifiers' parameters, in scikit-learn's terms."""

from numbers import Integral, Real

from sklearn.utils._param_validation import Interval, StrOptions

from imbsam.losses import LOSSES
from imbsam.optim import ASCENTS, METHODS
from imbsam.optim.bases import BASES

CONSTRAINTS: dict[str, list[object]] = {
    "method": [StrOptions(set(METHODS))],
    "rho": [None, Interval(Real, 0, None, closed="left")],
    "tail": [str],
    "method_options": [None, dict],
    "ascent": [None, StrOptions(set(ASCENTS))],
    "ascent_options": [None, dict],
    "sharp_from": [Interval(Real, 0, 1, closed="both")],
    "perturb": [str, list, tuple],
    "loss": [StrOptions(set(LOSSES))],
    "loss_options": [None, dict],
    "reweight_from": [None, Interval(Real, 0, 1, closed="both")],
    "class_prior": [None, str, dict, "array-like"],
    "cost": [None, dict],
    "at_least": [None, dict],
    "hidden": ["array-like"],
    "base": [StrOptions(set(BASES))],
    "lr": [None, Interval(Real, 0, None, closed="neither")],
    "momentum": [Interval(Real, 0, 1, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "schedule": [StrOptions({"cosine", "step", "constant"})],
    "clip_norm": [None, Interval(Real, 0, None, closed="neither")],
    "max_iter": [Interval(Integral, 1, None, closed="left")],
    "batch_size": [None, Interval(Integral, 1, None, closed="left")],
    "sampler": [StrOptions({"shuffle", "balanced"})],
    "categorical_features": [StrOptions({"auto"}), "array-like"],
    "early_stopping": ["boolean"],
    "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
    "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
    "warm_start": ["boolean"],
    "random_state": ["random_state"],
    "device": [str],
    "verbose": ["boolean"],
}
