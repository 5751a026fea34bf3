import numpy as np
import pytest
import torch
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from imbsam.anomaly.scaling import constant_columns, fit_scaling
from imbsam.errors import DataError, OptionError

ROWS = torch.tensor(np.random.default_rng(0).normal(size=(50, 3)) * [1, 100, 0.01] + [0, 5e6, 3])


def blocks():
    return torch.split(ROWS, 16)


@pytest.mark.parametrize(("how", "reference"), [("standard", StandardScaler()), ("minmax", MinMaxScaler())])
def test_columns_are_scaled_as_scikit_learn_does(how, reference):
    scaled = fit_scaling(blocks, how)(ROWS, torch.float64)
    np.testing.assert_allclose(scaled, reference.fit_transform(ROWS), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("how", ["standard", "minmax"])
def test_images_are_scaled_channel_by_channel(how):
    images = torch.tensor(np.random.default_rng(1).integers(0, 256, size=(9, 3, 4, 5)), dtype=torch.uint8)
    images[:, 1] = 7
    scaled = fit_scaling(lambda: torch.split(images, 4), how)(images, torch.float64).numpy()
    for channel in (0, 2):
        values = images[:, channel].numpy().astype(float)
        low, spread = {"standard": (values.mean(), values.std()), "minmax": (values.min(), np.ptp(values))}[how]
        np.testing.assert_allclose(scaled[:, channel], (values - low) / spread, atol=1e-12)
    assert not scaled[:, 1].any()
    assert constant_columns(torch.split(images, 4)) == [1]


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


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_missing_and_infinite_values_are_refused_with_their_column(bad):
    rows = ROWS.clone()
    rows[20, 2] = bad
    with pytest.raises(DataError, match=r"column \(of images: channel\) 2 holds NaN or infinite values"):
        fit_scaling(lambda: torch.split(rows, 16), "minmax")


def test_constant_columns_are_found_across_blocks():
    rows = torch.tensor([[1.0, 2.0], [1.0, 2.0], [1.0, 5.0]])
    assert constant_columns(torch.split(rows, 2)) == [0]


def test_an_unknown_scaling_is_refused():
    with pytest.raises(OptionError, match="scaling must be 'standard', 'minmax' or 'none'; got 'robust'"):
        fit_scaling(blocks, "robust")
