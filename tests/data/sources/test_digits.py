import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from imbsam.data.sources import digits
from imbsam.data.sources.digits import read_digits


@pytest.mark.parametrize("lies_elsewhere", [False, True])
def test_the_digits_are_scikit_learn_s(monkeypatch, lies_elsewhere):
    if lies_elsewhere:
        monkeypatch.setattr(digits, "FILE", digits.FILE.with_name("moved.csv.gz"))
    part, theirs = read_digits().train, load_digits()
    pixels = torch.from_numpy(np.round(theirs.images * 255 / 16).astype(np.uint8)).unsqueeze(1)
    assert torch.equal(part.content, pixels)
    assert part.targets.tolist() == theirs.target.tolist()
    assert part.names[::1796] == ["1", "1797"]


def test_only_their_file_is_read(monkeypatch):
    monkeypatch.setattr("sklearn.datasets.load_digits", None)
    assert len(read_digits().train) == 1797
