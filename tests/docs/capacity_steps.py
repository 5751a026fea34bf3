"""Steps on which the formulas of a step's cost are checked: a small network, one batch of every class, all methods."""

import torch
from capacity import WORK
from torch import Tensor, nn

from cases import CLASSES, TAIL, cross_entropy
from imbsam.optim import METHODS, Reuse, SharpnessAware, create, options_of
from optim.family import PRIORS
from optim.loops import sgd

RANKS = 2
WIDTH, DEPTH = 16, 3
CONTEXT = 3
BATCH = torch.tensor([0] * 8 + [1] * 6 + [2] * 5 + [3] * 3 + [4] * 2)
"""Of each rank: 24 rows, five of them of tail classes, each class further from the batch than its context."""

QUANTITIES = {
    "B": len(BATCH),
    "T": int(TAIL[BATCH].sum()),
    "K": CONTEXT,
    "C": CLASSES,
    "k": options_of("looksam")["interval"],
    "g": options_of("esam")["gamma"],
}


def period(name: str) -> int:
    """Steps after which a method's step comes again; as many before are enough for what it remembers."""
    return int(QUANTITIES["k"]) if name == "looksam" else 1


def quantities(name: str) -> dict[str, float]:
    method = name.partition(",")[0]
    samples = options_of(method).get("samples") if "sam" in method else None
    return {**QUANTITIES, **({} if samples is None else {"n": samples})}


def network(*, coupled: bool, width: int = WIDTH, depth: int = DEPTH) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        linear = nn.Linear(width, width, bias=False)
        nn.init.orthogonal_(linear.weight)
        layers += [linear, *([nn.BatchNorm1d(width)] if coupled else []), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, CLASSES, bias=False))


def made(name: str, model: nn.Module, bare: nn.Module, policy: str, **options: object) -> SharpnessAware:
    """A method by a name of the formulas, its step too small to lead anywhere."""
    method, _, more = name.partition(", ")
    assert method in METHODS
    assert name in WORK
    given: dict[str, object] = {"ascent": Reuse()} if more == "reuse" else {"switch": 0} if more == "late" else {}
    if policy != "alone":
        given.update(batch_statistics=policy, context_rows=CONTEXT)
    base = sgd(bare.parameters(), lr=1e-3)
    return create(method, model, base=base, priors=PRIORS, tail=TAIL, **given, **options)


def step(optimizer: SharpnessAware, model: nn.Module, targets: Tensor) -> None:
    width = WIDTH if not isinstance(model, nn.Sequential) else model[0].in_features
    x = torch.randn(len(targets), width, generator=torch.Generator().manual_seed(3))
    optimizer.step(lambda rows: cross_entropy(model(x[rows]), targets[rows]), targets=targets)


class Counted:
    """Rows that a model is shown, and rows that backwards go through, by hooks on its output."""

    def __init__(self, model: nn.Module) -> None:
        self._forwards = self._backwards = 0
        model.register_forward_hook(self._forwarded)

    def _forwarded(self, model: nn.Module, args: object, out: Tensor) -> None:
        self._forwards += len(out)
        if out.requires_grad:
            out.register_hook(self._backpropagated)

    def _backpropagated(self, grad: Tensor) -> None:
        self._backwards += len(grad)

    def rows(self) -> tuple[int, int]:
        return self._forwards, self._backwards
