import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from imbsam.anomaly.scaling import constant_columns, fit_scaling
from imbsam.errors import OptionError

ROWS = torch.tensor(np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 0.01] + [0, 5e6, 3])


def blocks():
    return torch.split(ROWS, 16)


@pytest.mark.parametrize(("how", "reference"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_columns_are_scaled_as_scikit_learn_does(how, reference):
    scaled = fit_scaling(blocks, how)(ROWS, torch.float64)
    np.testing.assert_allclose(scaled, reference.fit_transform(ROWS), rtol=1e-7, atol=1e-9)


def test_columns_may_stay_as_they_are():
    assert torch.equal(fit_scaling(blocks, "none")(ROWS, torch.float64), ROWS)


@pytest.mark.parametrize("how", ["standard", "minmax", "none"])
def test_a_constant_column_becomes_zero_whatever_it_holds_later(how):
    rows = ROWS.clone()
    rows[:, 1] = 7.3
    scaling = fit_scaling(lambda: [rows], how)
    later = torch.tensor([[0.0, 900.0, 3.0]]).double()
    assert scaling(rows, torch.float64)[:, 1].abs().max() == 0
    assert scaling(later, torch.float64)[0, 1] == 0


def test_large_offsets_do_not_drown_small_differences_in_single_precision():
    rows = (torch.arange(8.0) + 2.0**23)[:, None]
    scaled = fit_scaling(lambda: [rows], "standard")(rows, torch.float32)
    assert float(scaled.diff(dim=0).min()) > 0.4


def test_constant_columns_are_found_across_blocks():
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 5.0]])
    assert constant_columns(torch.split(rows, 2)) == [0]


def test_an_unknown_scaling_is_refused():
    with pytest.raises(OptionError, match="scaling must be 'standard', 'minmax' or 'none'; got 'robust'"):
        fit_scaling(blocks, "robust")
