"""What the examples share: scikit-learn's digits with 8 and 9 made rare, a small network, and how well it finds them.

Everything is float64 and in a fixed order, so that each example ends at the weights of the plain loop, bit for bit.
"""

import torch
from sklearn.datasets import load_digits
from torch.utils.data import TensorDataset

from imbsam import ClassPriors, ImbSAM

EPOCHS = 8
BATCH_SIZE = 64


def rare_digits() -> tuple[TensorDataset, torch.Tensor]:
    """Rows of (pixels, digit), where every twentieth 8 and 9 is kept, and the mask of the rare digits."""
    x, y = (torch.as_tensor(a) for a in load_digits(return_X_y=True))
    keep = (y < 8) | (torch.arange(len(y)) % 20 == 0)
    x, y = x[keep] / 16, y[keep]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    return TensorDataset(x[order], y[order]), ClassPriors.from_targets(y).tail(fewer_than=20)


def network() -> torch.nn.Module:
    """A multilayer perceptron with weights that are the same at every call."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
    return layers.double()


def imbsam(model: torch.nn.Module, tail: torch.Tensor) -> ImbSAM:
    """The optimizer."""
    base = torch.optim.SGD(model.parameters(), lr=0.3, momentum=0.9)
    return ImbSAM(base, tail, rho=0.1, model=model)


def report(model: torch.nn.Module, dataset: TensorDataset, tail: torch.Tensor) -> None:
    """Print the recall on the rare digits of the training rows."""
    x, y = dataset.tensors
    with torch.no_grad():
        right = model(x).argmax(1) == y
    rare, others = (right[rows].double().mean() for rows in (tail[y], ~tail[y]))
    print(f"recall of the rare digits {rare:.2f}, of the others {others:.2f}")
