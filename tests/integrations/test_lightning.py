"""Under Lightning's trainer a model ends at the weights of the plain loop."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest
import pytorch_lightning as lightning
import torch
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset, default_collate

from cases import MLP, Case
from imbsam.errors import DataError, ImbsamError, OptionError, PassError
from imbsam.integrations.lightning import SharpnessAwareMixin
from integrations import plain
from integrations.plain import BATCH_SIZE, CASES, METHODS, by_hand
from processes import logs, run_ranks

pytestmark = [
    pytest.mark.filterwarnings("ignore:The 'train_dataloader' does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:The number of training batches .* is smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:You are using `torch.load`"),
]


class Module(SharpnessAwareMixin, lightning.LightningModule):
    def __init__(self, name: str, case: Case = MLP, dtype: torch.dtype = torch.float64, **options: object) -> None:
        super().__init__()
        self.net = case.model(dtype)
        self.made = (name, options)
        self.losses: list[float] = []

    def row_losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        return plain.losses_of(self.net, batch)

    def configure_optimizers(self) -> dict[str, object]:
        name, options = self.made
        optimizer = plain.optimizer_for(name, self, **options)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plain.schedule(optimizer), "interval": "step"}}

    def on_train_batch_end(self, outputs: dict[str, Tensor], batch: object, batch_idx: int) -> None:
        self.losses.append(float(outputs["loss"]))


def trainer(epochs: int = 2, **options: object) -> lightning.Trainer:
    quiet = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    return lightning.Trainer(accelerator="cpu", max_epochs=epochs, logger=False, **{**quiet, **options})


def fitted(
    name: str,
    case: Case = MLP,
    dtype: torch.dtype = torch.float64,
    size: int = BATCH_SIZE,
    method: dict[str, object] | None = None,
    **options: object,
) -> Module:
    module = Module(name, case, dtype, **(method or {}))
    trainer(**options).fit(module, DataLoader(plain.dataset(case, dtype), size))
    return module


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_float64_ends_at_the_same_weights_bit_for_bit(name: str, case: Case) -> None:
    module = fitted(name, case)
    model, losses = by_hand(name, case)
    assert plain.same(module.net, model)
    assert module.losses == losses
    assert not plain.same(model, case.model())


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_accumulation_of_micro_batches_is_the_step_over_one_batch(name: str, case: Case) -> None:
    module = fitted(name, case, size=BATCH_SIZE // 2, accumulate_grad_batches=2)
    model, losses = by_hand(name, case, micro=BATCH_SIZE // 2)
    assert plain.same(module.net, model)
    # The last batch of an epoch is a step by itself: nine micro-batches an epoch.
    assert [loss for loss in module.losses if loss == loss] == losses
    assert len(module.losses) == 2 * 9


def test_accumulation_by_three_agrees_to_rounding() -> None:
    module = fitted("imbsam", size=2, accumulate_grad_batches=3)
    model, losses = by_hand("imbsam", micro=2)
    torch.testing.assert_close(module.net.state_dict(), model.state_dict(), atol=1e-15, rtol=1e-14)
    assert [loss for loss in module.losses if loss == loss] == pytest.approx(losses, rel=1e-14)


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_sees_the_combined_gradient(algorithm: str) -> None:
    module = fitted("imbsam", gradient_clip_val=0.1, gradient_clip_algorithm=algorithm)
    model = MLP.model()
    optimizer = plain.optimizer_for("imbsam", model)
    clip = nn.utils.clip_grad_norm_ if algorithm == "norm" else nn.utils.clip_grad_value_
    data = plain.batches(plain.dataset())
    plain.train(model, optimizer, data, clip=lambda: clip(model.parameters(), 0.1), scheduler=plain.schedule(optimizer))
    assert plain.same(module.net, model)
    assert not plain.same(model, by_hand("imbsam")[0])


@pytest.mark.parametrize("name", METHODS)
def test_bf16_mixed_is_the_plain_loop_under_autocast(name: str) -> None:
    module = fitted(name, dtype=torch.float32, precision="bf16-mixed")
    model, losses = by_hand(name, dtype=torch.float32, precision=torch.bfloat16)
    assert plain.same(module.net, model)
    assert module.losses == losses
    assert not plain.same(model, by_hand(name, dtype=torch.float32)[0])


def half(scale: float) -> tuple[MixedPrecision, torch.amp.GradScaler]:
    """16-mixed with a scaler on the CPU, which Lightning's own switch gives to accelerators alone."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=3)
    return MixedPrecision("16-mixed", "cpu", scaler=scaler), scaler


def scaled_and_by_hand(name: str) -> tuple[nn.Module, nn.Module]:
    """Models trained in float64 under a scale that grows, and without one."""
    plugin, scaler = half(2.0**10)
    module = fitted(name, plugins=[plugin], gradient_clip_val=0.5)
    assert scaler.get_scale() > 2.0**10
    # Autocast leaves float64 alone, and powers of two are exact.
    model = MLP.model()
    optimizer = plain.optimizer_for(name, model)
    plain.train(
        model,
        optimizer,
        plain.batches(plain.dataset()),
        clip=lambda: nn.utils.clip_grad_norm_(model.parameters(), 0.5),
        scheduler=plain.schedule(optimizer),
    )
    return module.net, model


@pytest.mark.parametrize("name", [name for name in METHODS if name != "looksam"])
def test_a_grad_scaler_whose_scale_grows_changes_no_bit_in_float64(name: str) -> None:
    assert plain.same(*scaled_and_by_hand(name))


def test_a_grad_scaler_changes_looksam_by_what_its_published_number_is_beside_a_scaled_gradient() -> None:
    scaled, by_hand = scaled_and_by_hand("looksam")
    torch.testing.assert_close(scaled.state_dict(), by_hand.state_dict(), atol=1e-7, rtol=1e-6)


def test_16_mixed_with_accumulation_is_the_plain_loop_with_a_scaler() -> None:
    plugin, _ = half(2.0**12)
    module = fitted("imbsam", dtype=torch.float32, size=3, plugins=[plugin], accumulate_grad_batches=2)
    model, losses = by_hand("imbsam", dtype=torch.float32, micro=3, precision=torch.float16, scaler=half(2.0**12)[1])
    assert plain.same(module.net, model)
    assert [loss for loss in module.losses if loss == loss] == losses


# torch's scheduler warns of any first step that a scaler skips.
@pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step")
def test_16_mixed_skips_a_step_that_overflows_and_lowers_the_scale() -> None:
    plugin, scaler = half(2.0**60)
    module = fitted("imbsam", dtype=torch.float32, plugins=[plugin], max_steps=1)
    assert plain.same(module.net, MLP.model(torch.float32))
    assert scaler.get_scale() == 2.0**59


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str, tmp_path: Path) -> None:
    data = DataLoader(plain.dataset(), BATCH_SIZE)
    whole, first, second = Module(name), Module(name), Module(name)
    until_the_end = trainer(3)
    until_the_end.fit(whole, data)
    half_way = trainer(1)
    half_way.fit(first, data)
    half_way.save_checkpoint(tmp_path / "last.ckpt")
    resumed = trainer(3)
    resumed.fit(second, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert plain.same(second.net, whole.net)
    assert whole.losses == first.losses + second.losses
    straight, continued = (t.optimizers[0].state_dict() for t in (until_the_end, resumed))
    torch.testing.assert_close(continued, straight, atol=0, rtol=0)


class Counted(lightning.Callback):
    def __init__(self) -> None:
        self.steps = 0

    def on_before_optimizer_step(self, trainer: object, module: object, optimizer: torch.optim.Optimizer) -> None:
        self.steps += 1
        assert all(p.grad is not None for group in optimizer.param_groups for p in group["params"])


def test_hooks_around_the_step_fire_once_a_step() -> None:
    counted = Counted()
    fitted("sam", callbacks=[counted], size=3, accumulate_grad_batches=2)
    assert counted.steps == 2 * 5


def test_training_again_starts_without_the_batches_of_a_run_that_was_broken_off() -> None:
    class Fails(Module):
        fails = True

        def row_losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            if self.fails:
                raise ValueError("a bad batch")
            return super().row_losses(batch)

    module, data = Fails("imbsam"), DataLoader(plain.dataset(), BATCH_SIZE)
    with pytest.raises(ValueError, match="a bad batch"):
        trainer().fit(module, data)
    module.fails = False
    trainer().fit(module, data)
    assert plain.same(module.net, by_hand("imbsam")[0])


def test_a_mapping_serves_as_batch() -> None:
    class Mapped(Module):
        def row_losses(self, batch: dict[str, Tensor]) -> Tensor:
            return plain.losses_of(self.net, (batch["x"], batch["y"]))

    rows = [{"x": x, "y": y} for x, y in zip(*plain.dataset().tensors, strict=True)]
    module = Mapped("imbsam")
    trainer().fit(module, DataLoader(rows, BATCH_SIZE))
    assert plain.same(module.net, by_hand("imbsam")[0])


class Rows(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    labels: Tensor


class Any(Module):
    """Takes its inputs and classes from whatever the batch is."""

    def row_losses(self, batch: object) -> Tensor:
        return plain.losses_of(self.net, parts_of(batch))


def parts_of(batch: object) -> tuple[Tensor, Tensor]:
    if isinstance(batch, Record):
        return batch.x, batch.labels
    if isinstance(batch, dict):
        return torch.cat(batch["x"]), batch["labels"]
    return batch[0], batch[1]


COLLATES: dict[str, Callable[[list[tuple[Tensor, Tensor]]], object]] = {
    "NamedTuple": lambda rows: Rows(*default_collate(rows)),
    "dataclass": lambda rows: Record(*default_collate(rows)),
    "list of tensors": lambda rows: {
        "x": [x[None] for x, _ in rows],
        "labels": torch.stack([y for _, y in rows]),
        "boxes": [{"box": x[None]} for x, _ in rows],
        "size": (224, 160),
    },
}


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", ["imbsam", "sam"])
@pytest.mark.parametrize("collate", COLLATES.values(), ids=COLLATES)
def test_batches_of_any_form_train_as_pairs_do(collate: Callable[[object], object], name: str, accumulate: int) -> None:
    module = Any(name)
    data = DataLoader(plain.dataset(), BATCH_SIZE // accumulate, collate_fn=collate)
    trainer(accumulate_grad_batches=accumulate).fit(module, data)
    model = by_hand(name, micro=BATCH_SIZE // accumulate)[0]
    torch.testing.assert_close(module.net.state_dict(), model.state_dict(), atol=1e-12, rtol=0)


def three_parts() -> TensorDataset:
    x, y = plain.dataset().tensors
    return TensorDataset(x, y, y.flip(0))


def test_of_a_batch_of_three_parts_the_classes_are_asked_for() -> None:
    with pytest.raises(DataError, match="a batch of 3 parts does not say which are the classes"):
        fit(Any("imbsam"), three_parts())


@pytest.mark.parametrize("name", ["imbsam", "sam"])
def test_the_module_says_which_of_three_parts_are_the_classes(name: str) -> None:
    class Says(Any):
        def row_targets(self, batch: list[Tensor]) -> Tensor:
            return batch[1]

    module = Says(name)
    fit(module, three_parts())
    assert plain.same(module.net, by_hand(name)[0])


def test_a_method_without_classes_takes_a_batch_that_has_none() -> None:
    class Reconstructs(Module):
        def row_losses(self, batch: Tensor) -> Tensor:
            return self.net(batch).square().mean(1)

    module, model = Reconstructs("sam"), MLP.model()
    data = plain.dataset().tensors[0]
    fit(module, data)
    optimizer = plain.optimizer_for("sam", model)
    schedule = plain.schedule(optimizer)
    for _ in range(2):
        for x in data.split(BATCH_SIZE):
            optimizer.step(lambda rows, x=x: model(x[rows]).square().mean(1), targets=torch.zeros(len(x), dtype=int))
            schedule.step()
    assert plain.same(module.net, model)


class Graphs:
    """Knows its rows in a way of its own."""

    def __init__(self, rows: list[tuple[Tensor, Tensor]]) -> None:
        self.parts = default_collate(rows)
        self.y = self.parts[1]

    def __getitem__(self, index: int) -> Tensor:
        return self.parts[index]


class OwnBatches(Any):
    def transfer_batch_to_device(self, batch: object, device: torch.device, dataloader_idx: int) -> object:
        return batch


def test_a_batch_of_a_class_of_ones_own_is_cut_by_the_module_or_asked_about() -> None:
    class Cuts(OwnBatches):
        def take_rows(self, batch: Graphs, rows: Tensor) -> Graphs:
            return Graphs([(batch[0][i], batch[1][i]) for i in rows])

    data = DataLoader(plain.dataset(), BATCH_SIZE, collate_fn=Graphs)
    module = Cuts("imbsam")
    trainer().fit(module, data)
    assert plain.same(module.net, by_hand("imbsam")[0])
    with pytest.raises(DataError, match=r"the class Graphs, whose rows are not known: .* take_rows\(batch, rows\)"):
        trainer().fit(OwnBatches("imbsam"), data)


def test_texts_that_default_collate_put_together_are_one_a_row() -> None:
    seen: list[int] = []

    class Paths(Module):
        def row_losses(self, batch: dict[str, object]) -> Tensor:
            assert batch["path"] == [f"{float(x[0])}.png" for x in batch["x"]]
            seen.append(len(batch["path"]))
            return plain.losses_of(self.net, (batch["x"], batch["y"]))

    rows = [{"x": x, "y": y, "path": f"{float(x[0])}.png"} for x, y in plain.dataset()]
    fit(Paths("imbsam"), rows)
    assert min(seen) < BATCH_SIZE


def fit(module: Module, data: Sequence[object] | None = None) -> None:
    trainer().fit(module, DataLoader(plain.dataset() if data is None else data, BATCH_SIZE))


def test_an_optimizer_of_another_kind_is_refused() -> None:
    class Other(Module):
        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=0.1)

    with pytest.raises(OptionError, match=r"returned SGD: .*imbsam\.Plain"):
        fit(Other("sam"))


def test_manual_optimization_is_refused() -> None:
    module = Module("sam")
    module.automatic_optimization = False
    with pytest.raises(OptionError, match="automatic_optimization = False"):
        fit(module)


def test_a_hook_overridden_without_super_is_named() -> None:
    class Forgets(Module):
        def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
            pass

    with pytest.raises(PassError, match="without calling super"):
        fit(Forgets("sam"))


def test_a_batch_without_classes_is_named() -> None:
    with pytest.raises(DataError, match="no classes found in a batch of type Tensor"):
        fit(Module("imbsam"), plain.dataset().tensors[0])


def test_a_mean_in_the_place_of_row_losses_is_named() -> None:
    class Mean(Module):
        def row_losses(self, batch: tuple[Tensor, Tensor]) -> Tensor:
            return super().row_losses(batch).mean()

    with pytest.raises(PassError, match="reduction='none'"):
        fit(Mean("imbsam"))


class WithoutMixin(lightning.LightningModule):
    """Our optimizer in Lightning as it comes."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = MLP.model()
        self.name = name

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return plain.losses_of(self.net, batch).mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return plain.optimizer_for(self.name, self)


def test_without_the_mixin_a_class_agnostic_method_takes_the_closure_of_lightning() -> None:
    module = WithoutMixin("sam")
    fit(module)
    model = MLP.model()
    plain.train(model, plain.optimizer_for("sam", model), plain.batches(plain.dataset()))
    torch.testing.assert_close(module.net.state_dict(), model.state_dict(), atol=1e-14, rtol=0)


@pytest.mark.parametrize(("name", "options"), [("imbsam", {}), ("sam", {"plugins": [half(2.0)[0]]})])
def test_without_the_mixin_what_cannot_work_is_named(name: str, options: dict[str, object]) -> None:
    with pytest.raises((ImbsamError, TypeError), match=r"passes\(targets\)|needs the class of each row"):
        trainer(**options).fit(WithoutMixin(name), DataLoader(plain.dataset(), BATCH_SIZE))


def test_two_processes_under_ddp_end_at_the_weights_of_one(tmp_path: Path) -> None:
    assert run_ranks("integrations/lightning_ranks.py", 2, tmp_path) == [0, 0], logs(tmp_path, 2)
    for name in ("imbsam", "sam"):
        model, losses = by_hand(name)
        one, other = (torch.load(tmp_path / f"{name}-{rank}.pt") for rank in range(2))
        assert all(torch.equal(one["weights"][key], other["weights"][key]) for key in one["weights"])
        torch.testing.assert_close(one["weights"], model.state_dict(), atol=1e-12, rtol=0)
        means = [(a + b) / 2 for a, b in zip(one["losses"], other["losses"], strict=True)]
        assert [mean for mean in means if mean == mean] == pytest.approx(losses, abs=1e-12)
