import pytest
import torch

from imbsam.errors import OptionError
from imbsam.sharpness import lanczos


def matrix(values):
    basis = torch.linalg.qr(torch.randn(len(values), len(values), dtype=torch.float64))[0]
    return basis @ torch.diag(torch.tensor(values, dtype=torch.float64)) @ basis.T


def run(full, steps, dtype=torch.float64, **options):
    start = torch.ones(len(full), dtype=dtype) + torch.arange(len(full)) / 10
    return lanczos(lambda v: full.to(dtype) @ v, start.to(dtype), steps=steps, **options)


def test_as_many_steps_as_weights_give_every_eigenvalue():
    values = [-3.0, -0.5, 0.1, 0.2, 1.0, 7.0]
    found = run(matrix(values), 6)
    assert found.ritz()[0].tolist() == pytest.approx(values, abs=1e-10)
    assert found.steps == 6


def test_the_basis_stays_orthonormal_long_after_eigenvalues_converged():
    full = matrix([1e4, 1e3, *torch.linspace(-1, 1, 98).tolist()])
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        basis = run(full, 60, dtype).basis
        torch.testing.assert_close(basis @ basis.T, torch.eye(60, dtype=dtype), rtol=0, atol=tolerance)


def test_a_converged_eigenvalue_comes_once():
    values = run(matrix([1e4, *torch.linspace(-1, 1, 99).tolist()]), 60).ritz()[0]
    assert int((values > 9e3).sum()) == 1


def test_residuals_bound_the_distance_to_an_eigenvalue():
    full = matrix(torch.linspace(-4, 9, 40).tolist())
    found = run(full, 12)
    values, vectors, residuals = found.ritz()
    true = torch.linalg.eigvalsh(full)
    for place in range(12):
        vector = found.vector(vectors[:, place])
        assert float((full @ vector - values[place] * vector).norm()) == pytest.approx(
            float(residuals[place]), abs=1e-9
        )
        assert float((true - values[place]).abs().min()) <= float(residuals[place]) + 1e-12


@pytest.mark.parametrize("values", [[0.0] * 5, [2.0] * 5, [1.0, 1.0, 5.0, 5.0, 5.0]])
def test_it_ends_where_the_basis_spans_an_invariant_subspace(values):
    found = run(matrix(values), 5)
    assert found.steps == len(set(values))
    assert found.beta == 0
    assert found.ritz()[0].tolist() == pytest.approx(sorted(set(values)), abs=1e-10)


def test_it_stops_when_told_to():
    assert run(matrix(torch.linspace(0, 1, 30).tolist()), 30, stop=lambda so_far: so_far.steps == 4).steps == 4


def test_no_step_is_refused():
    with pytest.raises(OptionError, match="steps must be at least 1"):
        run(torch.eye(3, dtype=torch.float64), 0)
