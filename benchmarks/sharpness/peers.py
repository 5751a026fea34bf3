"""The same Hessians by imbsam.sharpness, PyHessian and curvlinops: do they agree, and how long does each take.

PyHessian and curvlinops are no dependency of this project; the README says how to make an environment that has them.
Every library does the same number of Hessian products on the same rows of the same network, in float32.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from imbsam import sharpness
from imbsam.inputs import ImageSpec
from imbsam.models import build

if TYPE_CHECKING:
    from pyhessian import hessian

SPEC = ImageSpec(3, 32, 32, (0.5,) * 3, (0.25,) * 3)
CLASSES = 10


def surface(model: nn.Module, x: Tensor, y: Tensor, size: int, *, keep: bool = True) -> sharpness.LossSurface:
    rows = sharpness.Rows.draw(x, y, num_classes=CLASSES)
    criterion = nn.CrossEntropyLoss(reduction="none")
    return sharpness.LossSurface(model, criterion, rows, batch_size=size, graph_bytes=2**32 if keep else 0)


def density(where: sharpness.LossSurface, steps: int) -> tuple[float, float]:
    extremes, _ = sharpness.spectrum(where, steps=steps)
    return extremes.largest, extremes.smallest


def everything(where: sharpness.LossSurface, steps: int) -> tuple[float, float]:
    sharpness.trace(where, probes=10)
    return density(where, steps)


def old_eig(matrix: Tensor, *, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """What ``torch.eig``, which PyHessian 0.1 calls and torch no longer has, gave for a symmetric matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def pyhessian_density(found: hessian, steps: int) -> tuple[float, float]:
    nodes, _ = found.density(iter=steps, n_v=1)
    return max(nodes[0]), min(nodes[0])


def pyhessian_everything(found: hessian, steps: int) -> tuple[float, float]:
    (largest,), _ = found.eigenvalues(maxIter=100, tol=1e-3, top_n=1)
    found.trace(maxIter=10, tol=0.0)
    return largest, pyhessian_density(found, steps)[1]


def curvlinops_product(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    from curvlinops import HessianLinearOperator

    params = [p for p in model.parameters() if p.requires_grad]
    operator = HessianLinearOperator(model, nn.CrossEntropyLoss(), params, [(x, y)], check_deterministic=False)
    return lambda vector: operator @ vector


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--peers", nargs="*", default=["pyhessian"])
    chosen = parser.parse_args()
    torch.manual_seed(0)
    model = build(chosen.model, SPEC, num_classes=CLASSES).eval()
    y = torch.arange(chosen.rows) % CLASSES
    x = torch.randn(chosen.rows, 3, 32, 32) + y[:, None, None, None] / 4
    model.train()
    for _ in range(30):
        model(x)  # running statistics that fit the rows
    model.eval()
    whole, half = chosen.rows, chosen.rows // 2
    work: dict[str, Callable[[], tuple[float, float]]] = {
        "density, one batch: imbsam": lambda: density(surface(model, x, y, whole), chosen.steps),
        "density, two batches: imbsam": lambda: density(surface(model, x, y, half), chosen.steps),
        "density, no graph kept: imbsam": lambda: density(surface(model, x, y, half, keep=False), chosen.steps),
        "largest, trace, density: imbsam": lambda: everything(surface(model, x, y, half), chosen.steps),
    }
    if "pyhessian" in chosen.peers:
        from pyhessian import hessian

        torch.eig = old_eig
        loss, loader = nn.CrossEntropyLoss(), list(zip(x.split(half), y.split(half), strict=True))
        work |= {
            "density, one batch: PyHessian": lambda: pyhessian_density(
                hessian(model, loss, data=(x, y), cuda=False), chosen.steps
            ),
            "density, two batches: PyHessian": lambda: pyhessian_density(
                hessian(model, loss, dataloader=loader, cuda=False), chosen.steps
            ),
            "largest, trace, density: PyHessian": lambda: pyhessian_everything(
                hessian(model, loss, dataloader=loader, cuda=False), chosen.steps
            ),
        }
    if "curvlinops" in chosen.peers:
        product = curvlinops_product(model, x, y)

        def run() -> tuple[float, float]:
            start = torch.randint(0, 2, (sum(p.numel() for p in model.parameters()),)) * 2.0 - 1
            values = sharpness.lanczos(product, start, steps=chosen.steps).ritz()[0]
            return float(values[-1]), float(values[0])

        work["curvlinops products"] = run
    seconds: dict[str, list[float]] = {name: [] for name in work}
    found = {}
    next(iter(work.values()))()  # what happens once in a process is in no number
    # In turns, and by processor time: whatever else the machine does then weighs on all alike.
    for _ in range(chosen.repeats):
        for name, job in work.items():
            began = time.process_time()
            found[name] = job()
            seconds[name].append(time.process_time() - began)
    for name, (largest, smallest) in found.items():
        values = {"largest": float(largest), "smallest": float(smallest)}
        print(json.dumps({"what": name, "cpu_seconds": [round(s, 2) for s in seconds[name]], **values}))


if __name__ == "__main__":
    main()
