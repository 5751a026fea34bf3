"""Sharpness of the minimum that training found: for each class, each shot group, and overall.

A :class:`LossSurface` is a model, a per-sample loss and rows; every measure takes it and the classes to measure.
"""

from imbsam.sharpness.ascent import Ascended as Ascended
from imbsam.sharpness.ascent import sam_sharpness as sam_sharpness
from imbsam.sharpness.directions import filter_normalised as filter_normalised
from imbsam.sharpness.directions import random_direction as random_direction
from imbsam.sharpness.hessian import HessianProduct as HessianProduct
from imbsam.sharpness.lanczos import Tridiagonal as Tridiagonal
from imbsam.sharpness.lanczos import lanczos as lanczos
from imbsam.sharpness.landscape import line as line
from imbsam.sharpness.landscape import plane as plane
from imbsam.sharpness.parts import parts_of as parts_of
from imbsam.sharpness.rows import Rows as Rows
from imbsam.sharpness.spectrum import Extremes as Extremes
from imbsam.sharpness.spectrum import SpectralDensity as SpectralDensity
from imbsam.sharpness.spectrum import extreme_eigenvalues as extreme_eigenvalues
from imbsam.sharpness.spectrum import spectrum as spectrum
from imbsam.sharpness.surface import LossSurface as LossSurface
from imbsam.sharpness.trace import Trace as Trace
from imbsam.sharpness.trace import trace as trace
from imbsam.sharpness.trace import trace_samples as trace_samples
