"""In a loop of Lightning Fabric a model ends at the weights of the plain loop."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from lightning_fabric.strategies import DataParallelStrategy, ModelParallelStrategy
from torch import Tensor

from cases import MLP, Case, cross_entropy
from imbsam.errors import OptionError, PassError
from imbsam.integrations.fabric import FabricBackward
from integrations import plain
from integrations.plain import BATCH_SIZE, CASES, METHODS, by_hand
from processes import logs, run_ranks


class Run:
    """A Fabric loop, cut into epochs so that it can be saved and gone on with."""

    def __init__(
        self,
        name: str,
        case: Case = MLP,
        dtype: torch.dtype = torch.float64,
        *,
        accumulate: int = 1,
        clip: float | None = None,
        fabric: Fabric | None = None,
        **options: object,
    ) -> None:
        self.fabric = fabric or Fabric(accelerator="cpu", devices=1, **options)
        self.bare = case.model(dtype)
        if isinstance(self.fabric.strategy, ModelParallelStrategy):
            self.model = self.fabric.setup_module(self.bare)
            optimizer = plain.optimizer_for(name, self.bare)
            self.optimizer = self.fabric.setup_optimizers(optimizer)
        else:
            optimizer = plain.optimizer_for(name, self.bare)
            self.model, self.optimizer = self.fabric.setup(self.bare, optimizer)
        self.scheduler = plain.schedule(optimizer)
        self.backward = FabricBackward(self.fabric, self.model, self.optimizer)
        self.data = plain.batches(plain.dataset(case, dtype), BATCH_SIZE // accumulate)
        self.accumulate = accumulate
        self.clip = clip
        self.losses: list[float] = []

    def row_losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return plain.losses_of(self.model, batch)

    def epochs(self, number: int) -> "Run":
        for _ in range(number):
            for count, batch in enumerate(self.data, 1):
                more = count % self.accumulate != 0 and count < len(self.data)
                loss = self.backward(batch, self.row_losses, more=more)
                if loss is None:
                    continue
                if self.clip:
                    self.fabric.clip_gradients(self.model, self.optimizer, max_norm=self.clip, error_if_nonfinite=False)
                self.optimizer.step()
                self.scheduler.step()
                self.losses.append(float(loss))
        return self


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_float64_ends_at_the_same_weights_bit_for_bit(name: str, case: Case) -> None:
    run = Run(name, case).epochs(2)
    model, losses = by_hand(name, case)
    assert plain.same(run.bare, model)
    assert run.losses == losses


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_accumulation_of_micro_batches_is_the_step_over_one_batch(name: str, case: Case) -> None:
    run = Run(name, case, accumulate=2).epochs(2)
    model, losses = by_hand(name, case, micro=BATCH_SIZE // 2)
    assert plain.same(run.bare, model)
    assert run.losses == losses


def test_clipping_sees_the_combined_gradient() -> None:
    run = Run("imbsam", clip=0.1).epochs(2)
    assert plain.same(run.bare, by_hand("imbsam", clip=0.1)[0])
    assert not plain.same(run.bare, by_hand("imbsam")[0])


@pytest.mark.parametrize("name", METHODS)
def test_bf16_mixed_is_the_plain_loop_under_autocast(name: str) -> None:
    run = Run(name, dtype=torch.float32, precision="bf16-mixed").epochs(2)
    model, losses = by_hand(name, dtype=torch.float32, precision=torch.bfloat16)
    # Fabric casts inside the model's forward alone, so the criterion gets float32 either way.
    assert plain.same(run.bare, model)
    assert run.losses == losses
    assert not plain.same(model, by_hand(name, dtype=torch.float32)[0])


@pytest.mark.parametrize("name", METHODS)
def test_bf16_true_is_the_plain_loop_over_a_model_of_bfloat16(name: str) -> None:
    run = Run(name, dtype=torch.float32, precision="bf16-true").epochs(2)
    assert {p.dtype for p in run.bare.parameters()} == {torch.bfloat16}
    model = MLP.model(torch.bfloat16)
    optimizer = plain.optimizer_for(name, model)
    schedule = plain.schedule(optimizer)
    for _ in range(2):
        for x, y in plain.batches(plain.dataset(dtype=torch.bfloat16)):
            # Fabric gives the criterion float32.
            optimizer.step(lambda rows, x=x, y=y: cross_entropy(model(x[rows]).float(), y[rows]), targets=y)
            schedule.step()
    assert plain.same(run.bare, model)


def half(scale: float) -> tuple[MixedPrecision, torch.amp.GradScaler]:
    """16-mixed with a scaler on the CPU, which Fabric's own switch gives to accelerators alone."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return MixedPrecision("16-mixed", "cpu", scaler=scaler), scaler


def test_16_mixed_with_accumulation_is_the_plain_loop_with_a_scaler() -> None:
    plugin, scaler = half(2.0**12)
    run = Run("imbsam", dtype=torch.float32, accumulate=2, clip=0.5, plugins=[plugin]).epochs(2)
    model, losses = by_hand(
        "imbsam", dtype=torch.float32, micro=3, clip=0.5, precision=torch.float16, scaler=half(2.0**12)[1]
    )
    assert scaler.get_scale() > 2.0**12
    assert plain.same(run.bare, model)
    assert run.losses == losses


# torch's scheduler warns of any first step that a scaler skips.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
@pytest.mark.parametrize("name", METHODS)
def test_16_mixed_skips_a_step_that_overflows_and_lowers_the_scale(name: str) -> None:
    plugin, scaler = half(2.0**60)
    run = Run(name, dtype=torch.float32, plugins=[plugin])
    run.data = run.data[:1]
    run.epochs(1)
    assert plain.same(run.bare, MLP.model(torch.float32))
    assert scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str, tmp_path: Path) -> None:
    whole, first, second = Run(name).epochs(3), Run(name).epochs(1), Run(name)
    parts = ("model", "optimizer", "scheduler")
    first.fabric.save(tmp_path / "last.ckpt", {part: getattr(first, part) for part in parts})
    second.fabric.load(tmp_path / "last.ckpt", {part: getattr(second, part) for part in parts})
    second.epochs(2)
    assert plain.same(second.bare, whole.bare)
    assert whole.losses == first.losses + second.losses
    torch.testing.assert_close(second.optimizer.state_dict(), whole.optimizer.state_dict(), atol=0, rtol=0)


def test_a_compiled_model_ends_at_the_same_weights_bit_for_bit() -> None:
    torch.compiler.reset()
    bare = MLP.model()
    fabric = Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(torch.compile(bare, backend="eager"), plain.optimizer_for("imbsam", bare))
    backward = FabricBackward(fabric, model, optimizer)
    for batch in plain.batches(plain.dataset()) * 2:
        backward(batch, lambda rows: plain.losses_of(model, rows))
        optimizer.step()
    twin = MLP.model()
    plain.train(twin, plain.optimizer_for("imbsam", twin), plain.batches(plain.dataset()))
    torch.compiler.reset()
    assert plain.same(bare, twin)


def test_classes_may_be_given_beside_a_batch_that_has_none() -> None:
    run = Run("imbsam")
    for _ in range(2):
        for x, y in run.data:
            run.backward({"x": x, "truth": y}, lambda rows: run.row_losses((rows["x"], rows["truth"])), targets=y)
            run.optimizer.step()
            run.scheduler.step()
    assert plain.same(run.bare, by_hand("imbsam")[0])


def test_an_optimizer_that_was_not_set_up_is_refused() -> None:
    run = Run("sam")
    with pytest.raises(OptionError, match=r"SAM was not set up: .*fabric\.setup\(model, optimizer\)"):
        FabricBackward(run.fabric, run.model, plain.optimizer_for("sam", run.bare))


def test_an_optimizer_of_another_kind_is_refused() -> None:
    fabric = Fabric(accelerator="cpu", devices=1)
    model = MLP.model()
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(OptionError, match=r"set up is SGD: .*imbsam\.Plain"):
        FabricBackward(fabric, model, optimizer)


def test_a_strategy_that_spreads_the_weights_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("sam")
    monkeypatch.setattr(run.fabric, "_strategy", DataParallelStrategy())
    with pytest.raises(OptionError, match="DataParallelStrategy may spread the weights"):
        FabricBackward(run.fabric, run.model, run.optimizer)


def test_a_plain_backward_before_the_step_is_named() -> None:
    run = Run("imbsam")
    run.fabric.backward(plain.losses_of(run.model, plain.dataset().tensors).mean())
    with pytest.raises(PassError, match=r"passes\(targets\)"):
        run.optimizer.step()


def test_the_passes_of_the_optimizer_that_was_set_up_are_no_passes_of_the_one_inside() -> None:
    """Fabric's wrapper takes the class of what it wraps and none of its attributes; the step still says what lacks."""
    run = Run("imbsam")
    with run.optimizer.passes(run.data[0][1]) as passes:
        for p in passes:
            p.backward(run.row_losses(run.data[0])[p.rows])
    with pytest.raises(PassError, match="no finished passes"):
        run.optimizer.step()
    assert plain.same(run.bare, MLP.model())


def two_processes(how: str, folder: Path) -> None:
    assert run_ranks("integrations/fabric_ranks.py", 2, folder, how) == [0, 0], logs(folder, 2)
    for name, perturbed_passes in (("imbsam", 1), ("sam", 1)):
        model, losses = by_hand(name, clip=0.5)
        one, other = (torch.load(folder / f"{name}-{rank}.pt") for rank in range(2))
        assert all(torch.equal(one["weights"][key], other["weights"][key]) for key in one["weights"])
        torch.testing.assert_close(one["weights"], model.state_dict(), atol=1e-12, rtol=0)
        means = [(a + b) / 2 for a, b in zip(one["losses"], other["losses"], strict=True)]
        assert means == pytest.approx(losses, abs=1e-12)
        assert one["refused"] == other["refused"] == perturbed_passes


def test_two_processes_under_ddp_end_at_the_weights_of_one(tmp_path: Path) -> None:
    two_processes("ddp", tmp_path)


def test_two_processes_that_share_sharded_weights_end_at_the_weights_of_one(tmp_path: Path) -> None:
    two_processes("shard", tmp_path)
    for rank in range(2):
        straight, resumed = torch.load(tmp_path / f"resumed-{rank}.pt")
        assert all(torch.equal(value, resumed[key]) for key, value in straight.items())


def test_rows_of_a_batch_of_ones_own_are_taken_by_the_function_given() -> None:
    run = Run("imbsam")
    own = [SimpleNamespace(x=x, y=y) for x, y in run.data]

    def take_rows(batch: SimpleNamespace, rows: Tensor) -> SimpleNamespace:
        return SimpleNamespace(x=batch.x[rows], y=batch.y[rows])

    run.data, run.row_losses = own, lambda batch: plain.losses_of(run.model, (batch.x, batch.y))
    run.backward = FabricBackward(run.fabric, run.model, run.optimizer, take_rows=take_rows)
    assert plain.same(run.epochs(2).bare, by_hand("imbsam")[0])
