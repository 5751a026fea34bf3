"""Decisions: from a classifier's outputs to probabilities under named class priors, and to a class."""

from imbsam.decisions.calibration import UNCALIBRATED as UNCALIBRATED
from imbsam.decisions.calibration import Calibration as Calibration
from imbsam.decisions.calibration import fitted_calibration as fitted_calibration
from imbsam.decisions.class_prior import ClassPrior as ClassPrior
from imbsam.decisions.class_prior import log_class_prior as log_class_prior
from imbsam.decisions.class_prior import parsed_class_prior as parsed_class_prior
from imbsam.decisions.posterior import Posterior as Posterior
from imbsam.decisions.posterior import posterior_under as posterior_under
from imbsam.decisions.price import Price as Price
from imbsam.decisions.price import prices as prices
from imbsam.decisions.wanted import Wanted as Wanted
from imbsam.decisions.wanted import parsed_costs as parsed_costs
from imbsam.decisions.wanted import parsed_wanted as parsed_wanted
from imbsam.decisions.wanted import wanted_weights as wanted_weights
