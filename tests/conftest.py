"""What every test starts from."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    torch.manual_seed(0)


@pytest.fixture
def array_checks(monkeypatch) -> None:
    """scikit-learn leaves its check of array API input out where this is not set."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
