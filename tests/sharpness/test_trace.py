import pytest
import torch

from imbsam.errors import OptionError
from imbsam.sharpness import trace, trace_samples
from imbsam.sharpness.directions import rademacher


def test_the_trace_is_that_of_the_full_hessian_within_its_error(case, part):
    found = trace(case.surface(), part, probes=100)
    assert abs(found.value - float(case.hessian(part).trace())) < 4 * found.standard_error


def test_each_sample_is_the_quadratic_form_of_its_signs(case, part):
    full = case.hessian(part)
    for probe, sample in enumerate(trace_samples(case.surface(), part, probes=3, seed=6)):
        signs = rademacher(case.surface(), 6, probe)
        assert set(signs.tolist()) == {-1, 1}
        assert float(sample) == pytest.approx(float(signs @ full @ signs), abs=1e-9)


def test_the_standard_error_is_that_of_the_samples(case):
    samples = trace_samples(case.surface(), [0], probes=9)
    found = trace(case.surface(), [0], probes=9)
    deviations = (samples - samples.mean()) ** 2
    assert found.value == pytest.approx(float(samples.sum()) / 9)
    assert found.standard_error == pytest.approx(float((deviations.sum() / 8 / 9) ** 0.5))
    assert trace(case.surface(), [0], probes=1).standard_error is None


def test_samples_of_a_group_are_made_out_of_those_of_its_classes(case):
    surface = case.surface()
    each = torch.stack([trace_samples(surface, [c], probes=5) for c in range(4)], dim=1)
    torch.testing.assert_close(
        surface.mean_loss(each, [0, 2, 3]), trace_samples(surface, [0, 2, 3], probes=5), rtol=0, atol=1e-10
    )


def test_no_probe_is_refused(case):
    with pytest.raises(OptionError, match="probes"):
        trace(case.surface(), probes=0)
