from collections.abc import Mapping
from dataclasses import MISSING, fields
from inspect import signature
from typing import get_type_hints

import numpy as np
import pytest

from imbsam.anomaly import AnomalyDetector, Settings
from imbsam.anomaly.estimator import FACE
from imbsam.errors import OptionError

PARAMETERS = signature(AnomalyDetector).parameters
OPTIONS = [field for field in fields(Settings) if field.default is not MISSING]
OPTIONS_OF_PARTS = [field for field in fields(Settings) if field.default is MISSING]


def test_the_detectors_parameters_are_the_settings_and_those_of_its_face():
    assert PARAMETERS.keys() - FACE == {field.name for field in fields(Settings)}


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)
def test_a_parameter_of_the_detector_is_of_the_kind_and_default_of_its_setting(option):
    assert PARAMETERS[option.name].default == option.default
    kinds = get_type_hints(AnomalyDetector.__init__)
    assert kinds[option.name] == get_type_hints(Settings)[option.name]


@pytest.mark.parametrize("option", OPTIONS_OF_PARTS, ids=lambda option: option.name)
def test_options_of_the_objective_and_of_the_method_are_none_by_default(option):
    assert PARAMETERS[option.name].default is None
    assert get_type_hints(AnomalyDetector.__init__)[option.name] == Mapping[str, object] | None
    assert getattr(Settings(), option.name) == {}


def test_numbers_of_numpy_are_numbers():
    settings = Settings(epochs=np.int64(3), lr=np.float32(0.5), contamination=np.float64(0.2))
    assert (settings.epochs, settings.lr, settings.contamination) == (3, 0.5, 0.2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be a whole number of at least 1; got 0"),
        ({"epochs": 1.5}, "epochs must be a whole number"),
        ({"steps": None}, "steps must be a whole number of at least 1; got None"),
        ({"members": True}, "members must be a whole number"),
        ({"batch_size": 1}, "batch_size must be a whole number of at least 2; got 1"),
        ({"anomalies_per_batch": -1}, "anomalies_per_batch must be"),
        ({"pretraining_epochs": -1}, "pretraining_epochs must be"),
        ({"lr": 0}, "lr must be finite and above 0; got 0"),
        ({"lr": float("nan")}, "lr must be finite"),
        ({"weight_decay": -1}, "weight_decay must be finite and at least 0; got -1"),
        ({"damping": float("inf")}, "damping must be finite"),
        ({"rho": -0.1}, "rho must be finite"),
        ({"contamination": 0}, r"contamination must be 'auto' or a share in \(0, 0\.5\]; got 0"),
        ({"contamination": 0.6}, "contamination must be"),
        ({"contamination": "high"}, "contamination must be"),
        ({"precision": "half"}, "precision must be 'double' or 'single'; got 'half'"),
    ],
)
def test_an_option_out_of_range_is_refused(options, message):
    with pytest.raises(OptionError, match=message):
        Settings(**options)
