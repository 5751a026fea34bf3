"""Training, resuming, comparing and scoring: the road from options to results."""

from imbsam.engine.compare import Outcome as Outcome
from imbsam.engine.compare import PlannedRun as PlannedRun
from imbsam.engine.compare import Variant as Variant
from imbsam.engine.compare import compare as compare
from imbsam.engine.compare import plan_runs as plan_runs
from imbsam.engine.cost import Cost as Cost
from imbsam.engine.cost import expected_cost as expected_cost
from imbsam.engine.fit import fit as fit
from imbsam.engine.methods import NAMES as NAMES
from imbsam.engine.run_folder import RunFolder as RunFolder
from imbsam.engine.sharpness import RunSharpness as RunSharpness
from imbsam.engine.sharpness_options import SharpnessOptions as SharpnessOptions
from imbsam.engine.trained import Trained as Trained
from imbsam.engine.workers import Workers as Workers
