import pytest
import torch

from imbsam.errors import OptionError
from imbsam.sharpness import extreme_eigenvalues, spectrum
from imbsam.sharpness.directions import rademacher


def test_extremes_are_those_of_the_full_hessian(case, part):
    full = torch.linalg.eigvalsh(case.hessian(part))
    found = extreme_eigenvalues(case.surface(), part, tolerance=1e-7)
    assert found.largest == pytest.approx(float(full[-1]), abs=1e-6)
    assert found.smallest == pytest.approx(float(full[0]), abs=1e-6)
    assert found.converged
    assert found.vectors is None


def test_some_part_is_at_a_saddle_so_that_the_smallest_eigenvalue_is_tested(case):
    assert float(torch.linalg.eigvalsh(case.hessian([3]))[0]) < -0.01


def test_eigenvectors_are_those_of_the_full_hessian(case, part):
    full = case.hessian(part)
    found = extreme_eigenvalues(case.surface(), part, tolerance=1e-9, vectors=True)
    for value, vector in zip((found.largest, found.smallest), found.vectors, strict=True):
        torch.testing.assert_close(full @ vector, value * vector, rtol=0, atol=1e-6)
        assert float(vector.norm()) == pytest.approx(1)


def test_too_few_steps_say_so_and_bound_the_eigenvalue_from_inside(case):
    full = torch.linalg.eigvalsh(case.hessian([0, 1]))
    found = extreme_eigenvalues(case.surface(), [0, 1], steps=4, tolerance=1e-6)
    assert (found.steps, found.converged) == (4, False)
    assert full[0] <= found.smallest <= found.largest <= full[-1]
    assert float((full - found.largest).abs().min()) <= found.largest_residual


def test_the_same_seed_gives_the_same_bits_and_another_another_start(case):
    first, again, other = (spectrum(case.surface(), steps=5, seed=seed) for seed in (0, 0, 1))
    assert first[0] == again[0]
    assert torch.equal(first[1].nodes, again[1].nodes)
    assert not torch.equal(first[1].nodes, other[1].nodes)


def test_one_run_of_products_serves_extremes_and_density(case):
    surface = case.surface(graph_bytes=0)
    extremes, density = spectrum(surface, [0, 3], steps=9)
    assert surface.forwarded == 9 * int(case.rows.drawn[[0, 3]].sum())
    assert (extremes.largest, extremes.smallest) == (float(density.nodes[-1]), float(density.nodes[0]))


def test_the_quadrature_is_exact_in_the_moments_of_its_start_vector(case, part):
    full = case.hessian(part)
    _, density = spectrum(case.surface(), part, steps=4, probes=2, seed=3)
    assert float(density.weights.sum()) == pytest.approx(1)
    starts = [rademacher(case.surface(), 3, probe) for probe in range(2)]
    for power in range(1, 8):
        expected = sum(float(v @ torch.linalg.matrix_power(full, power) @ v) / len(v) for v in starts) / 2
        assert float((density.weights * density.nodes**power).sum()) == pytest.approx(expected, rel=1e-8)


def test_the_density_integrates_to_one_and_lies_around_its_nodes(case):
    _, density = spectrum(case.surface(), steps=10)
    reach = torch.linspace(float(density.nodes[0]) - 1, float(density.nodes[-1]) + 1, 4001)
    values = density.at(reach, width=0.05)
    assert float(torch.trapezoid(values, reach.double())) == pytest.approx(1, abs=1e-6)
    heaviest = density.nodes[density.weights.argmax()]
    assert abs(float(reach[values.argmax()] - heaviest)) < 0.2


@pytest.mark.parametrize("options", [{"tolerance": -1}, {"tolerance": float("nan")}, {"steps": 0}])
def test_options_that_cannot_be_are_refused(case, options):
    with pytest.raises(OptionError):
        extreme_eigenvalues(case.surface(), **options)
    with pytest.raises(OptionError, match="probes"):
        spectrum(case.surface(), probes=0)
