"""In a loop of Accelerate a model ends at the weights of the plain loop."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cases import MLP, Case
from imbsam.errors import OptionError, PassError
from imbsam.integrations.accelerate import AccelerateBackward
from integrations import plain
from integrations.plain import BATCH_SIZE, CASES, METHODS, by_hand
from processes import held_by_ranks


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()


class Run:
    """An Accelerate loop, cut into epochs so that it can be saved and gone on with."""

    def __init__(
        self,
        name: str,
        case: Case = MLP,
        dtype: torch.dtype = torch.float64,
        *,
        accumulate: int = 1,
        clip: float | None = None,
        scaler: torch.amp.GradScaler | None = None,
        **options: object,
    ) -> None:
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate, **options)
        if scaler:
            # Accelerate itself gives a scaler to accelerators alone.
            self.accelerator.scaler, self.accelerator.native_amp = scaler, True
            AcceleratorState()._mixed_precision = "fp16"
        bare = case.model(dtype)
        optimizer = plain.optimizer_for(name, bare)
        loader = DataLoader(plain.dataset(case, dtype), BATCH_SIZE // accumulate)
        prepared = self.accelerator.prepare(bare, optimizer, loader, plain.schedule(optimizer))
        self.model, self.optimizer, self.loader, self.scheduler = prepared
        self.backward = AccelerateBackward(self.accelerator, self.model, self.optimizer)
        self.clip = clip
        self.losses: list[Tensor] = []

    def epochs(self, number: int) -> "Run":
        for _ in range(number):
            for batch in self.loader:
                with self.accelerator.accumulate(self.model):
                    loss = self.backward(batch, lambda rows: plain.losses_of(self.model, rows))
                    if self.accelerator.sync_gradients and self.clip:
                        self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
                    self.optimizer.step()
                    self.scheduler.step()
                    self.optimizer.zero_grad()
                if loss is not None:
                    self.losses.append(float(loss))
        return self

    @property
    def bare(self) -> nn.Module:
        return self.accelerator.unwrap_model(self.model)


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
def test_bf16_is_the_plain_loop_under_autocast(name: str) -> None:
    run = Run(name, dtype=torch.float32, mixed_precision="bf16").epochs(2)
    model, losses = by_hand(name, dtype=torch.float32, precision=torch.bfloat16)
    # Accelerate casts inside the model's forward alone, so the criterion gets float32 either way.
    torch.testing.assert_close(run.bare.state_dict(), model.state_dict(), atol=1e-6, rtol=1e-5)
    assert run.losses == pytest.approx(losses, rel=1e-5)


def test_a_grad_scaler_whose_scale_grows_changes_no_bit_in_float64() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    run = Run("imbsam", scaler=scaler, clip=0.5, accumulate=2).epochs(2)
    assert scaler.get_scale() > 2.0**10
    assert plain.same(run.bare, by_hand("imbsam", clip=0.5, micro=BATCH_SIZE // 2)[0])


# torch's scheduler warns of any first step that a scaler skips.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_fp16_skips_a_step_that_overflows_and_lowers_the_scale() -> None:
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, growth_interval=100)
    run = Run("imbsam", dtype=torch.float32, scaler=scaler)
    spoilt = DataLoader([(x * 1e30, y) for x, y in plain.dataset(dtype=torch.float32)], BATCH_SIZE)
    run.loader = [next(iter(spoilt))]
    run.epochs(1)
    assert run.optimizer.step_was_skipped
    assert plain.same(run.bare, MLP.model(torch.float32))
    assert scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str, tmp_path: Path) -> None:
    whole = Run(name).epochs(3)
    first = Run(name).epochs(1)
    first.accelerator.save_state(str(tmp_path))
    second = Run(name)
    second.accelerator.load_state(str(tmp_path))
    second.epochs(2)
    assert plain.same(second.bare, whole.bare)
    assert whole.losses == first.losses + second.losses
    torch.testing.assert_close(second.optimizer.state_dict(), whole.optimizer.state_dict(), atol=0, rtol=0)


def test_an_optimizer_that_was_not_prepared_is_refused() -> None:
    model = MLP.model()
    with pytest.raises(OptionError, match="SAM was not prepared"):
        AccelerateBackward(Accelerator(cpu=True), model, plain.optimizer_for("sam", model))


def test_an_optimizer_of_another_kind_is_refused() -> None:
    accelerator = Accelerator(cpu=True)
    model = MLP.model()
    prepared = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(OptionError, match=r"the prepared optimizer is SGD: .*imbsam\.Plain"):
        AccelerateBackward(accelerator, model, prepared)


def test_a_plain_backward_before_the_step_is_named() -> None:
    run = Run("imbsam")
    run.accelerator.backward(plain.losses_of(run.model, plain.dataset().tensors).mean())
    with pytest.raises(PassError, match=r"passes\(targets\)"):
        run.optimizer.step()


def test_sharded_weights_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run("sam")
    sharded = type("Kind", (), {"name": "FSDP"})
    monkeypatch.setattr(Accelerator, "distributed_type", sharded)
    with pytest.raises(OptionError, match="FSDP spreads the weights"):
        AccelerateBackward(run.accelerator, run.model, run.optimizer)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, object]]]:
    """What each of two processes holds after training under DDP; both frameworks in one start."""
    return held_by_ranks("integrations/accelerate_ranks.py", 2, tmp_path_factory.mktemp("ranks"))


def in_one_process(name: str) -> tuple[nn.Module, list[float]]:
    model = MLP.model()
    optimizer = plain.optimizer_for(name, model)
    whole_steps = [batch for batch in plain.batches(plain.dataset()) if len(batch[1]) == BATCH_SIZE]
    return model, plain.train(model, optimizer, whole_steps, scheduler=plain.schedule(optimizer))


@pytest.mark.parametrize("name", ["imbsam", "sam"])
@pytest.mark.parametrize("framework", ["accelerate", "transformers"])
def test_two_processes_under_ddp_end_at_the_weights_of_one(
    framework: str, name: str, ranks: list[dict[str, dict[str, object]]]
) -> None:
    one, other = (rank[f"{framework} {name}"]["weights"] for rank in ranks)
    assert all(torch.equal(one[key], other[key]) for key in one)
    torch.testing.assert_close(one, in_one_process(name)[0].state_dict(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["imbsam", "sam"])
def test_the_losses_of_two_processes_have_the_mean_of_one(name: str, ranks: list[dict[str, dict[str, object]]]) -> None:
    one, other = (rank[f"accelerate {name}"]["losses"] for rank in ranks)
    assert [(a + b) / 2 for a, b in zip(one, other, strict=True)] == pytest.approx(in_one_process(name)[1])


def test_a_method_without_classes_takes_a_batch_that_has_none_and_the_rows_of_another() -> None:
    run = Run("sam")
    x = plain.dataset().tensors[0][:4]
    with run.accelerator.accumulate(run.model):
        assert run.backward(x, lambda rows: run.model(rows).square().mean(1)) is not None
    run = Run("imbsam")
    taken: list[int] = []

    def take_rows(batch: list[Tensor], rows: Tensor) -> list[Tensor]:
        taken.append(len(rows))
        return [part[rows] for part in batch]

    run.backward = AccelerateBackward(run.accelerator, run.model, run.optimizer, take_rows=take_rows)
    assert plain.same(run.epochs(2).bare, by_hand("imbsam")[0])
    assert taken
