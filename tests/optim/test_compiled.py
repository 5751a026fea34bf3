"""Compiled models train as they are, in every method, and are compiled a few times only, however the tail varies."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn

from cases import BATCH_NORM, CASES, CLASSES, HEAD_AND_TAIL, MLP, TAIL, Case
from imbsam.errors import PassError
from imbsam.optim import METHODS, SharpnessAware, create
from optim.family import PRIORS
from optim.loops import contents, identical, imbsam, sgd, take_step

TABLE = next(case for case in CASES if case.name == "batch norm mlp")
ROWS = 16
TAILS = (3, 7, 1, 16, 5, 0, 9, 2, 12, 8, 4, 15, 6, 11, 1, 10, 14, 13, 0, 16)
"""Tail rows of successive batches: every number there is."""


# Torch looks at the .grad of what it goes on with where a graph breaks.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*Function'> should not be instantiated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"),
]


@pytest.fixture(autouse=True)
def _no_graphs_from_before() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


class Graphs:
    """A backend that runs graphs as they are and counts them."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        self.count += 1
        return graph.forward


class Residual(nn.Module):
    """BatchNorm between layers of a forward of its own, as in a residual network."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6, bias=False)
        self.norm = nn.BatchNorm1d(6)
        self.last = nn.Linear(6, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x + self.norm(self.first(x)).relu())


RESIDUAL = Case("residual", Residual, coupled=True)


def batch(case: Case, tail_rows: int, seed: int) -> tuple[Tensor, Tensor]:
    return case.batch(torch.tensor([3] * tail_rows + [0] * (ROWS - tail_rows)), seed)


def made(name: str, model: nn.Module, called: nn.Module, **options: object) -> SharpnessAware:
    return create(name, called, base=sgd(model.parameters()), priors=PRIORS, tail=TAIL, **options)


def step(optimizer: SharpnessAware, model: nn.Module, case: Case, given: tuple[Tensor, Tensor], seed: int) -> Tensor:
    torch.manual_seed(seed)
    return take_step(optimizer, model, case.loss, given)


@pytest.mark.parametrize("case", [MLP, TABLE], ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_a_compiled_model_bit_for_bit_as_it_is(name: str, case: Case) -> None:
    model, twin = case.model(), case.model()
    compiled = torch.compile(model, backend="eager")
    one = made(name, model, compiled, context_rows=2)
    other = made(name, twin, twin, context_rows=2)
    for number, given in enumerate(case.batches()):
        loss = step(one, compiled, case, given, number)
        assert torch.equal(loss, step(other, twin, case, given, number))
        assert identical(contents(model, one), contents(twin, other))


@pytest.mark.parametrize("row_multiple", [1, 8])
@pytest.mark.parametrize("name", METHODS)
def test_a_tail_of_any_size_takes_few_graphs(name: str, row_multiple: int) -> None:
    """The first shape, any number of rows, one row, which torch tells apart; and a forward without gradient."""
    graphs = Graphs()
    model = MLP.model()
    compiled = torch.compile(model, backend=graphs)
    optimizer = made(name, model, compiled, row_multiple=row_multiple)
    after = []
    for _ in range(2):
        for number, tail_rows in enumerate(TAILS):
            step(optimizer, compiled, MLP, batch(MLP, tail_rows, number), number)
        after.append(graphs.count)
    assert 1 <= graphs.count <= (2 if row_multiple > 1 else 3) + (name == "esam")
    assert after[0] == after[1]
    assert optimizer.steps == 2 * len(TAILS)


@pytest.mark.slow
@pytest.mark.parametrize("row_multiple", [1, 8])
@pytest.mark.parametrize("case", [TABLE, RESIDUAL], ids=str)
@pytest.mark.parametrize("name", ["imbsam", "cc-sam", "esam"])
def test_batch_norm_over_a_tail_of_any_size_takes_few_graphs(name: str, case: Case, row_multiple: int) -> None:
    """The statistics of tail and context are weighed outside the graphs: a graph of them would hold their numbers."""
    graphs = Graphs()
    model, twin = case.model(), case.model()
    compiled = torch.compile(model, backend=graphs)
    one = made(name, model, compiled, row_multiple=row_multiple, context_rows=2)
    other = made(name, twin, twin, row_multiple=row_multiple, context_rows=2)
    after = []
    for _ in range(2):
        for number, tail_rows in enumerate(TAILS):
            given = batch(case, tail_rows, number)
            step(one, compiled, case, given, number)
            step(other, twin, case, given, number)
        after.append(graphs.count)
    # The whole model; and where statistics are weighed what lies before and behind them, at first and with any rows.
    assert 1 <= graphs.count <= 4 + (name == "esam")
    assert after[0] == after[1]
    assert identical(contents(model, one), contents(twin, other))


def test_padded_passes_keep_a_model_compiled_for_fixed_shapes_to_a_few() -> None:
    """With a tail of any size, the rows of a pass are 8 or the 16 of the batch: two graphs, one for each."""
    graphs = Graphs()
    model, twin = MLP.model(), MLP.model()
    compiled = torch.compile(model, backend=graphs, dynamic=False)
    one = imbsam(MLP, compiled, sgd(model.parameters()), row_multiple=8)
    other = imbsam(MLP, twin)
    for number, tail_rows in enumerate(TAILS):
        take_step(one, compiled, MLP.loss, batch(MLP, tail_rows, number))
        take_step(other, twin, MLP.loss, batch(MLP, tail_rows, number))
    assert graphs.count == 2
    torch.testing.assert_close(list(model.parameters()), list(twin.parameters()), atol=1e-12, rtol=0)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_checkpoint_of_a_compiled_model_is_refused_while_its_weights_are_perturbed(case: Case, backend: str) -> None:
    model, twin = case.model(), case.model()
    compiled = torch.compile(model, backend=backend)
    one, other = imbsam(case, compiled, sgd(model.parameters())), imbsam(case, twin)
    for given in case.batches()[:3]:
        take_step(one, compiled, case.loss, given)
        take_step(other, twin, case.loss, given)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-12, rtol=0)
    x, y = case.batch(HEAD_AND_TAIL)
    before = [p.detach().clone() for p in model.parameters()]
    refused = 0
    with one.passes(y) as passes:
        for p in passes:
            if not identical(before, [w.detach() for w in model.parameters()]):
                for each in (model, compiled):
                    with pytest.raises(PassError, match="weights are perturbed"):
                        each.state_dict()
                refused += 1
            p.backward(case.loss(compiled(x[p.rows]), y[p.rows]))
    assert refused == 1


@pytest.mark.slow
def test_inductor_trains_the_model_to_rounding() -> None:
    model, twin = MLP.model(torch.float32), MLP.model(torch.float32)
    compiled = torch.compile(model)
    one, other = made("imbsam", model, compiled), made("imbsam", twin, twin)
    for number, given in enumerate(MLP.batches(torch.float32)):
        loss = step(one, compiled, MLP, given, number)
        torch.testing.assert_close(loss, step(other, twin, MLP, given, number), atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(contents(model), contents(twin), atol=1e-6, rtol=1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
