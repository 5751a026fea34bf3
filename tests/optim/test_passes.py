"""The passes as the caller's loop uses and misuses them."""

import copy
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from cases import BATCH_NORM, BATCHES, CASES, COUPLED, EMBEDDING, HEAD_AND_TAIL, INDEPENDENT, MLP, NO_TAIL, Case
from imbsam.errors import OptionError, PassError
from imbsam.optim import Ascent, Climbed, Slope
from imbsam.optim.ascent import Memory
from optim.loops import METHODS, contents, gradients, identical, imbsam, make_passes, sam, take_step


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
@pytest.mark.parametrize("case", INDEPENDENT, ids=str)
def test_micro_batches_add_up_to_the_whole_pass(case: Case, targets: Tensor, size: int) -> None:
    whole, parts = case.model(), case.model()
    x, y = case.batch(targets)
    expected = make_passes(imbsam(case, whole, rho=0.3), whole, case.loss, (x, y))
    with imbsam(case, parts, rho=0.3).passes(y) as passes:
        for p in passes:
            lengths = []
            for part in p.split(size):
                lengths.append(len(part.rows))
                part.backward(case.loss(parts(x[part.rows]), y[part.rows]))
            assert sum(lengths) == len(p.rows)
            assert max(lengths) == min(size, len(p.rows))
    torch.testing.assert_close(passes.loss, expected.loss, atol=1e-12, rtol=0)
    for g, e in zip(gradients(parts), gradients(whole), strict=True):
        assert (g is None) == (e is None)
        if g is not None:
            torch.testing.assert_close(g, e, atol=1e-12, rtol=0)


def test_micro_batches_of_sam_add_up_too() -> None:
    whole, parts = MLP.model(), MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    make_passes(sam(MLP, whole), whole, MLP.loss, (x, y))
    with sam(MLP, parts).passes(y) as passes:
        for p in passes:
            for part in p.split(3):
                part.backward(MLP.loss(parts(x[part.rows]), y[part.rows]))
    torch.testing.assert_close(
        [p.grad for p in parts.parameters()], [p.grad for p in whole.parameters()], atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("size", [0, -1])
def test_a_micro_batch_of_no_rows_is_refused(size: int) -> None:
    optimizer = imbsam(MLP, MLP.model())
    with pytest.raises(OptionError, match="at least 1"), optimizer.passes(HEAD_AND_TAIL) as passes:  # noqa: PT012
        for p in passes:
            list(p.split(size))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("targets", BATCHES[:4], ids=["mixed", "no tail", "one tail row", "only tail"])
def test_the_loss_is_the_batch_mean_at_the_unperturbed_weights(case: Case, targets: Tensor, method: object) -> None:
    model, twin = case.model(), case.model()
    x, y = case.batch(targets)
    loss = take_step(method(case, model, rho=2.0), model, case.loss, (x, y))
    torch.testing.assert_close(loss, case.loss(twin(x), y).mean().detach(), atol=1e-12, rtol=0)
    assert not loss.requires_grad
    assert loss.shape == ()


def test_select_takes_the_rows_of_every_tensor() -> None:
    x, y = MLP.batch(HEAD_AND_TAIL)
    weights = torch.rand(len(y))
    model = MLP.model()
    with imbsam(MLP, model).passes(y) as passes:
        for p in passes:
            mine, targets, w = p.select(x, y, weights)
            assert torch.equal(mine, x[p.rows])
            assert torch.equal(targets, y[p.rows])
            assert torch.equal(w, weights[p.rows])
            p.backward(MLP.loss(model(mine), targets))


def test_select_does_not_copy_a_whole_batch() -> None:
    x, y = MLP.batch(NO_TAIL)
    model = MLP.model()
    with imbsam(MLP, model).passes(y) as passes:
        for p in passes:
            (mine,) = p.select(x)
            assert mine.data_ptr() == x.data_ptr()
            p.backward(MLP.loss(model(mine), y))


def test_the_length_is_the_number_of_passes() -> None:
    optimizer = imbsam(MLP, MLP.model())
    assert len(optimizer.passes(NO_TAIL)) == 1
    assert len(optimizer.passes(HEAD_AND_TAIL)) == 3


def assert_refused_and_untouched(case: Case, model: nn.Module, before: list[Tensor], optimizer: object) -> None:
    assert identical(before, contents(model, optimizer))
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(PassError, match=r"no finished passes.*with optimizer.passes\(targets\)"):
        optimizer.step()
    assert identical(before, contents(model, optimizer))
    take_step(optimizer, model, case.loss, case.batch(HEAD_AND_TAIL, 9))
    assert not identical(before, contents(model, optimizer))


class LossError(Exception):
    pass


FAILURES = {
    "the loss raises": LossError,
    "the user interrupts": KeyboardInterrupt,
    "the process exits": SystemExit,
    "the generator closes": GeneratorExit,
}


@pytest.mark.parametrize("failing", [0, 1, 2])
@pytest.mark.parametrize("when", ["before backward", "after backward"])
@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("case", [MLP, *COUPLED, EMBEDDING], ids=str)
def test_weights_and_statistics_come_back_bitwise_when_a_pass_fails(
    case: Case, failure: str, when: str, failing: int
) -> None:
    model = case.model()
    optimizer = imbsam(case, model, rho=1.0, context_rows=4)
    x, y = case.batch(HEAD_AND_TAIL.repeat(3))
    take_step(optimizer, model, case.loss, (x, y))
    before = contents(model, optimizer)
    with pytest.raises(FAILURES[failure]), optimizer.passes(y) as passes:  # noqa: PT012
        for k, p in enumerate(passes):
            losses = case.loss(model(x[p.rows]), y[p.rows])
            if k == failing and when == "before backward":
                raise FAILURES[failure]
            p.backward(losses)
            if k == failing:
                raise FAILURES[failure]
    assert_refused_and_untouched(case, model, before, optimizer)


@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_weights_and_statistics_come_back_bitwise_when_a_closure_fails(case: Case) -> None:
    for method in METHODS:
        for failing in range(2):
            model = case.model()
            optimizer = method(case, model, rho=1.0)
            x, y = case.batch(HEAD_AND_TAIL.repeat(3))
            before = contents(model, optimizer)
            calls = []

            def closure(rows: Tensor, model=model, x=x, y=y, calls=calls, failing=failing) -> Tensor:
                calls.append(rows)
                losses = case.loss(model(x[rows]), y[rows])
                if len(calls) > failing:
                    raise LossError
                return losses

            with pytest.raises(LossError):
                optimizer.step(closure, targets=y)
            assert_refused_and_untouched(case, model, before, optimizer)


def test_an_error_inside_the_ascent_leaves_the_weights_alone() -> None:
    class Failing(Ascent):
        def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
            slopes[0].params[0].zero_()
            raise LossError

    model = MLP.model()
    optimizer = imbsam(MLP, model, ascent=Failing())
    before = contents(model)
    with pytest.raises(LossError):
        take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert identical(before, contents(model))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_weights_after_the_passes_are_bitwise_those_before(case: Case, dtype: torch.dtype) -> None:
    model = case.model(dtype)
    optimizer = imbsam(case, model, rho=0.7)
    before = [p.detach().clone() for p in model.parameters()]
    moved = False
    x, y = case.batch(HEAD_AND_TAIL, dtype=dtype)
    with optimizer.passes(y) as passes:
        for p in passes:
            moved = moved or not identical(before, [w.detach() for w in model.parameters()])
            p.backward(case.loss(model(x[p.rows]), y[p.rows]))
    assert moved
    assert identical(before, [w.detach() for w in model.parameters()])


@pytest.mark.parametrize("pass_number", [0, 1, 2])
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_a_break_discards_the_step(case: Case, pass_number: int) -> None:
    model = case.model()
    optimizer = imbsam(case, model)
    x, y = case.batch(HEAD_AND_TAIL.repeat(3))
    before = contents(model, optimizer)
    with optimizer.passes(y) as passes:
        for k, p in enumerate(passes):
            p.backward(case.loss(model(x[p.rows]), y[p.rows]))
            if k == pass_number:
                break
    assert_refused_and_untouched(case, model, before, optimizer)


def test_a_return_from_the_loop_discards_the_step() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    before = contents(model, optimizer)

    def train() -> None:
        with optimizer.passes(y) as passes:
            for p in passes:
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
                if len(passes.norms):
                    return

    train()
    assert_refused_and_untouched(MLP, model, before, optimizer)


def test_a_block_left_without_a_loop_discards_the_step() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    before = contents(model, optimizer)
    with optimizer.passes(HEAD_AND_TAIL):
        pass
    assert_refused_and_untouched(MLP, model, before, optimizer)


def test_a_pass_without_backward_is_an_error() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    before = contents(model, optimizer)
    with pytest.raises(PassError, match=r"without the losses of 2 of its 2 rows: call backward\(\)"):  # noqa: PT012, SIM117
        with optimizer.passes(HEAD_AND_TAIL) as passes:
            for _ in passes:
                pass
    assert_refused_and_untouched(MLP, model, before, optimizer)


def test_a_pass_with_some_micro_batches_missing_is_an_error() -> None:
    model = MLP.model()
    x, y = MLP.batch(NO_TAIL)
    optimizer = imbsam(MLP, model)
    with pytest.raises(PassError, match="the losses of 4 of its 6 rows"), optimizer.passes(y) as passes:  # noqa: PT012
        for p in passes:
            part = next(p.split(2))
            part.backward(MLP.loss(model(x[part.rows]), y[part.rows]))


@pytest.mark.parametrize("attempt", ["no with", "twice", "list"])
def test_passes_are_looped_over_once_inside_their_block(attempt: str) -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(NO_TAIL)
    if attempt == "no with":
        with pytest.raises(PassError, match=r"write `with optimizer\.passes"):
            next(iter(optimizer.passes(y)))
    elif attempt == "twice":
        with optimizer.passes(y) as passes:
            for p in passes:
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
            with pytest.raises(PassError, match="loop once"):
                next(iter(passes))
    else:
        with pytest.raises(PassError, match=r"call backward\(\)"), optimizer.passes(y) as passes:
            list(passes)


def test_backward_twice_on_one_pass_is_an_error() -> None:
    model = MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    with pytest.raises(PassError, match="a pass that is over"), imbsam(MLP, model).passes(y) as passes:  # noqa: PT012
        for p in passes:
            for _ in range(2):
                p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))


def test_backward_on_an_earlier_pass_is_an_error() -> None:
    model = MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)
    first = None
    with pytest.raises(PassError, match="a pass that is over"), imbsam(MLP, model).passes(y) as passes:  # noqa: PT012
        for p in passes:
            first = first or p
            first.backward(MLP.loss(model(x[first.rows]), y[first.rows]))


def test_backward_after_the_block_is_an_error() -> None:
    model = MLP.model()
    x, y = MLP.batch(NO_TAIL)
    with imbsam(MLP, model).passes(y) as passes:
        for p in passes:
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    with pytest.raises(PassError, match="a pass that is over"):
        p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))


def test_backward_after_the_loop_is_an_error_and_the_passes_stay_whole() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(NO_TAIL)
    with optimizer.passes(y) as passes:
        for p in passes:
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
        with pytest.raises(PassError, match="a pass that is over"):
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    optimizer.step()
    assert optimizer.steps == 1


@pytest.mark.parametrize(
    "spoil",
    [lambda losses: losses.mean(), lambda losses: losses[:-1], lambda losses: losses[:, None]],
    ids=["scalar", "too short", "a column"],
)
def test_losses_that_are_not_one_per_row_are_refused(spoil: object) -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(NO_TAIL)
    before = contents(model)
    with pytest.raises(PassError, match=r"each of the 6 rows, shape \(6,\); got shape .*reduction='none'"):
        optimizer.step(lambda rows: spoil(MLP.loss(model(x[rows]), y[rows])), targets=y)
    assert identical(before, contents(model))


def test_a_batch_of_one_row_needs_a_loss_of_shape_one() -> None:
    model = MLP.model()
    x, y = MLP.batch(torch.tensor([3]))
    with pytest.raises(PassError, match=r"shape \(1,\); got shape \(\)"):
        imbsam(MLP, model).step(lambda rows: MLP.loss(model(x[rows]), y[rows]).mean(), targets=y)


@pytest.mark.parametrize("call", ["step", "step with a closure", "passes", "state_dict", "load_state_dict", "copy"])
def test_the_optimizer_refuses_what_would_meet_perturbed_weights(call: str) -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    saved = optimizer.state_dict()
    before = contents(model)
    calls = {
        "step": lambda: optimizer.step(),
        "step with a closure": lambda: take_step(optimizer, model, MLP.loss, (x, y)),
        "passes": lambda: optimizer.passes(y),
        "state_dict": lambda: optimizer.state_dict(),
        "load_state_dict": lambda: optimizer.load_state_dict(saved),
        "copy": lambda: copy.deepcopy(optimizer),
    }
    with optimizer.passes(y) as passes:
        for p in passes:
            named = "copying" if call == "copy" else f"{call.partition(' ')[0]}()"
            with pytest.raises(PassError) as told:
                calls[call]()
            assert str(told.value).startswith(f"{named} inside open passes, where the weights may be perturbed")
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))
    assert identical(before, contents(model))
    optimizer.step()


def test_passes_made_earlier_cannot_be_entered_inside_others() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    x, y = MLP.batch(HEAD_AND_TAIL)
    earlier = optimizer.passes(y)
    with optimizer.passes(y) as passes:
        for p in passes:
            with pytest.raises(PassError, match="enter each `with` block right after its passes"), earlier:
                pass
            p.backward(MLP.loss(model(x[p.rows]), y[p.rows]))


def test_passes_are_entered_once() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    passes = make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    optimizer.step()
    after = contents(model)
    with pytest.raises(PassError, match="these passes are over"), passes:
        pass
    with pytest.raises(PassError, match="no finished passes"):
        optimizer.step()
    assert identical(after, contents(model))


def test_one_round_of_passes_makes_one_step() -> None:
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    optimizer.step()
    after = contents(model)
    with pytest.raises(PassError, match="no finished passes"):
        optimizer.step()
    assert identical(after, contents(model))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", [MLP, BATCH_NORM], ids=str)
def test_zero_grad_inside_the_passes_takes_nothing_away(case: Case, method: object) -> None:
    """The habit of clearing before every backward must not drop the gradient of the passes before."""
    model, twin = case.model(), case.model()
    x, y = case.batch(HEAD_AND_TAIL.repeat(3))
    optimizer = method(case, model)
    with optimizer.passes(y) as passes:
        for p in passes:
            optimizer.zero_grad()
            p.backward(case.loss(model(x[p.rows]), y[p.rows]))
    make_passes(method(case, twin), twin, case.loss, (x, y))
    assert identical([p.grad for p in model.parameters()], [p.grad for p in twin.parameters()])
    optimizer.zero_grad()
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("returned", [None, 0.5])
def test_a_closure_that_returns_no_loss_is_refused(returned: object) -> None:
    model = MLP.model()
    x, y = MLP.batch(HEAD_AND_TAIL)

    def closure() -> object:
        MLP.loss(model(x), y).mean().backward()
        return returned

    before = contents(model)
    with pytest.raises(PassError, match="must return the loss"):
        sam(MLP, model).step(closure)
    assert identical(before, contents(model))


def test_closures_may_run_without_grad_mode_around_them() -> None:
    model, twin = MLP.model(), MLP.model()
    batch = MLP.batch(HEAD_AND_TAIL)
    with torch.no_grad():
        take_step(imbsam(MLP, model), model, MLP.loss, batch)
    take_step(imbsam(MLP, twin), twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


def test_clipping_and_further_losses_fit_between_the_passes_and_the_step() -> None:
    """After the block .grad is ordinary: a regulariser adds to it, clipping cuts it."""
    model = MLP.model()
    optimizer = imbsam(MLP, model)
    make_passes(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    expected = [p.grad + 0.2 * p.detach() for p in model.parameters()]
    (0.1 * sum((p**2).sum() for p in model.parameters())).backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], expected)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1e-3)
    before = contents(model)
    optimizer.step()
    change = torch.cat([(a - b).flatten() for a, b in zip(contents(model), before, strict=True)])
    assert norm > 1e-3
    assert float(change.norm()) < 0.1 * (1e-3 + 0.01 * 10)
