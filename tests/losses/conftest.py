import pytest
import torch

from imbsam.priors import ClassPriors

COUNTS = [500, 120, 40, 9, 1]


@pytest.fixture
def priors():
    return ClassPriors.from_counts(COUNTS)


@pytest.fixture
def logits():
    return 3 * torch.randn(12, len(COUNTS), dtype=torch.double, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def targets():
    return torch.tensor([0, 1, 2, 3, 4, 0, 0, 1, 4, 3, 2, 1])
