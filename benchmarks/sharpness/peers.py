"""The same Hessians by imbsam.sharpness, PyHessian and curvlinops: do they agree, and how long does each take.

PyHessian and curvlinops are no dependency of this project; the README says how to make an environment that has them.
Every library does the same number of Hessian products on the same rows of the same network, in float32.
"""

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from imbsam import sharpness
from imbsam.inputs import ImageSpec
from imbsam.models import build

SPEC = ImageSpec(3, 32, 32, (0.5,) * 3, (0.25,) * 3)
CLASSES = 10


def ours(model: nn.Module, x: Tensor, y: Tensor, steps: int, *, keep: bool) -> tuple[float, float]:
    rows = sharpness.Rows.draw(x, y, num_classes=CLASSES)
    surface = sharpness.LossSurface(
        model, nn.CrossEntropyLoss(reduction="none"), rows, graph_bytes=2**32 if keep else 0
    )
    extremes, _ = sharpness.spectrum(surface, steps=steps)
    return extremes.largest, extremes.smallest


def old_eig(matrix: Tensor, *, eigenvectors: bool) -> tuple[Tensor, Tensor]:
    """What ``torch.eig``, which PyHessian 0.1 calls and torch no longer has, gave for a symmetric matrix."""
    values, vectors = torch.linalg.eigh(matrix)
    return torch.stack([values, torch.zeros_like(values)], dim=1), vectors


def pyhessian_density(model: nn.Module, x: Tensor, y: Tensor, steps: int) -> tuple[float, float]:
    from pyhessian import hessian

    found = hessian(model, nn.CrossEntropyLoss(), data=(x, y), cuda=False)
    nodes, _ = found.density(iter=steps, n_v=1)
    return max(nodes[0]), min(nodes[0])


def pyhessian_batches(model: nn.Module, x: Tensor, y: Tensor, steps: int, size: int) -> tuple[float, float]:
    from pyhessian import hessian

    loader = list(zip(x.split(size), y.split(size), strict=True))
    found = hessian(model, nn.CrossEntropyLoss(), dataloader=loader, cuda=False)
    nodes, _ = found.density(iter=steps, n_v=1)
    return max(nodes[0]), min(nodes[0])


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
    work: dict[str, Callable[[], tuple[float, float]]] = {
        "imbsam, graphs kept": lambda: ours(model, x, y, chosen.steps, keep=True),
        "imbsam, none kept": lambda: ours(model, x, y, chosen.steps, keep=False),
    }
    if "pyhessian" in chosen.peers:
        torch.eig = old_eig
        work["PyHessian, one batch"] = lambda: pyhessian_density(model, x, y, chosen.steps)
        work["PyHessian, loader"] = lambda: pyhessian_batches(model, x, y, chosen.steps, chosen.rows // 2)
    if "curvlinops" in chosen.peers:
        product = curvlinops_product(model, x, y)

        def run() -> tuple[float, float]:
            start = torch.randint(0, 2, (sum(p.numel() for p in model.parameters()),)) * 2.0 - 1
            values = sharpness.lanczos(product, start, steps=chosen.steps).ritz()[0]
            return float(values[-1]), float(values[0])

        work["curvlinops products"] = run
    seconds: dict[str, list[float]] = {name: [] for name in work}
    found = {}
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
