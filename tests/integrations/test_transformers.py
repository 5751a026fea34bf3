"""Under the Hugging Face trainer a model ends at the weights of the plain loop."""

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from accelerate.state import AcceleratorState, GradientState, PartialState
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments
from transformers.modeling_outputs import SequenceClassifierOutput

from cases import MLP, Case
from imbsam.errors import DataError, OptionError, PassError
from imbsam.integrations.transformers import SharpnessAwareMixin
from imbsam.optim import ImbSAM
from integrations import plain
from integrations.plain import BATCH_SIZE, CASES, METHODS, TARGETS


@pytest.fixture(autouse=True)
def _fresh_state() -> Iterator[None]:
    """Accelerate keeps its settings for the whole process."""
    yield
    for state in (AcceleratorState, GradientState, PartialState):
        state._shared_state.clear()


class SharpTrainer(SharpnessAwareMixin, Trainer):
    pass


class Named(nn.Module):
    """A model of the tests as the trainer wants it: arguments by name, outputs with logits."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
        return SequenceClassifierOutput(logits=self.net(x))


def rows_of(case: Case, dtype: torch.dtype) -> list[dict[str, Tensor]]:
    return [{"x": x, "labels": y} for x, y in zip(*plain.dataset(case, dtype).tensors, strict=True)]


def trainer(
    folder: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None,
    data: Dataset[object] | list[object],
    accumulate: int = 1,
    kind: type[Trainer] = SharpTrainer,
    collate: object = None,
    **options: object,
) -> Trainer:
    settings = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": BATCH_SIZE // accumulate,
        "gradient_accumulation_steps": accumulate,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "max_grad_norm": 0.0,
        "remove_unused_columns": False,
    }
    args = TrainingArguments(**{**settings, **options})
    scheduler = plain.schedule(optimizer) if optimizer is not None else None
    return kind(model, args, train_dataset=data, optimizers=(optimizer, scheduler), data_collator=collate)


def made(name: str, folder: Path, case: Case = MLP, dtype: torch.dtype = torch.float64, **options: object) -> Trainer:
    model = Named(case.model(dtype))
    return trainer(folder, model, plain.optimizer_for(name, model), rows_of(case, dtype), **options)


def logged(run: Trainer) -> list[float]:
    return [line["loss"] for line in run.state.log_history if "loss" in line]


def by_hand(
    name: str, case: Case = MLP, dtype: torch.dtype = torch.float64, *, clip: float = math.inf, **options: object
) -> tuple[nn.Module, list[float]]:
    model = case.model(dtype)
    optimizer = plain.optimizer_for(name, model)
    data = plain.batches(plain.dataset(case, dtype))
    # The trainer clips by infinity where it is to clip nothing, to know the norm.
    options["clip"] = lambda: nn.utils.clip_grad_norm_(model.parameters(), clip)
    return model, plain.train(model, optimizer, data, scheduler=plain.schedule(optimizer), **options)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_float64_ends_at_the_same_weights_bit_for_bit(name: str, case: Case, tmp_path: Path) -> None:
    run = made(name, tmp_path, case)
    run.train()
    model, losses = by_hand(name, case)
    assert plain.same(run.model.net, model)
    assert logged(run) == pytest.approx(losses, rel=1e-5)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", METHODS)
def test_accumulation_of_micro_batches_is_the_step_over_one_batch(name: str, case: Case, tmp_path: Path) -> None:
    run = made(name, tmp_path, case, accumulate=2)
    run.train()
    model, losses = by_hand(name, case, micro=BATCH_SIZE // 2)
    assert plain.same(run.model.net, model)
    assert logged(run) == pytest.approx(losses, rel=1e-5)


def test_clipping_sees_the_combined_gradient(tmp_path: Path) -> None:
    run = made("imbsam", tmp_path, max_grad_norm=0.1)
    run.train()
    assert plain.same(run.model.net, by_hand("imbsam", clip=0.1)[0])
    assert not plain.same(run.model.net, by_hand("imbsam")[0])


@pytest.mark.parametrize("name", METHODS)
def test_bf16_is_the_plain_loop_under_autocast(name: str, tmp_path: Path) -> None:
    run = made(name, tmp_path, dtype=torch.float32, bf16=True)
    run.train()
    model, losses = by_hand(name, dtype=torch.float32, precision=torch.bfloat16)
    torch.testing.assert_close(run.model.net.state_dict(), model.state_dict(), atol=1e-6, rtol=1e-5)
    assert logged(run) == pytest.approx(losses, rel=1e-4)
    assert not plain.same(model, by_hand(name, dtype=torch.float32)[0])


@pytest.mark.parametrize("name", METHODS)
def test_a_run_resumed_from_a_checkpoint_ends_where_the_whole_run_does(name: str, tmp_path: Path) -> None:
    # Five steps an epoch: the checkpoint of step 3 lies inside the first.
    whole = made(name, tmp_path / "whole", accumulate=2, save_strategy="steps", save_steps=3)
    whole.train()
    resumed = made(name, tmp_path / "resumed", accumulate=2)
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole/checkpoint-3"))
    assert plain.same(resumed.model, whole.model)
    assert logged(resumed) == logged(whole)
    torch.testing.assert_close(resumed.optimizer.state_dict(), whole.optimizer.state_dict(), atol=0, rtol=0)


def sentences() -> list[dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [
        {"input_ids": torch.randint(1, 20, (3 + i % 4,), generator=generator), "labels": y}
        for i, y in enumerate(TARGETS)
    ]


def padded(rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """As a tokenizer's collator: padded to the longest sentence of the batch."""
    words = nn.utils.rnn.pad_sequence([row["input_ids"] for row in rows], batch_first=True)
    return {
        "input_ids": words,
        "attention_mask": (words > 0).long(),
        "labels": torch.stack([row["labels"] for row in rows]),
    }


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=20,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=5,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    return BertForSequenceClassification(config).double()


@pytest.mark.parametrize("accumulate", [1, 3])
def test_a_transformer_on_sentences_of_different_lengths(accumulate: int, tmp_path: Path) -> None:
    """Micro-batches padded to different lengths: a step is still that over all their rows."""
    run_model, model = bert(), bert()
    optimizer = ImbSAM(torch.optim.AdamW(run_model.parameters(), lr=0.01, eps=1e-3), plain.TAIL, model=run_model)
    run = trainer(tmp_path, run_model, optimizer, sentences(), accumulate, collate=padded, lr_scheduler_type="constant")
    run.lr_scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    run.train()
    optimizer = ImbSAM(torch.optim.AdamW(model.parameters(), lr=0.01, eps=1e-3), plain.TAIL, model=model)
    rows = sentences()
    for _ in range(2):
        for start in range(0, len(rows), BATCH_SIZE):
            batch = padded(rows[start : start + BATCH_SIZE])
            y = batch.pop("labels")
            with optimizer.passes(y) as passes:
                for p in passes:
                    logits = model(**{key: value[p.rows] for key, value in batch.items()}).logits
                    p.backward(F.cross_entropy(logits, y[p.rows], reduction="none"))
            optimizer.step()
    torch.testing.assert_close(run_model.state_dict(), model.state_dict(), atol=1e-12, rtol=0)
    assert not torch.equal(bert().classifier.weight, model.classifier.weight)


def test_label_smoothing_and_evaluation_are_those_of_the_criterion(tmp_path: Path) -> None:
    model = bert()
    optimizer = plain.optimizer_for("sam", model)
    run = trainer(tmp_path, model, optimizer, sentences(), collate=padded, label_smoothing_factor=0.2)
    batch = padded(sentences())
    labels = batch.pop("labels")
    model.eval()
    expected = F.cross_entropy(model(**batch).logits, labels, label_smoothing=0.2)
    assert run.evaluate(sentences())["eval_loss"] == pytest.approx(float(expected.detach()), rel=1e-6)


def test_training_again_starts_without_the_batches_of_a_run_that_was_broken_off(tmp_path: Path) -> None:
    run = made("sam", tmp_path, accumulate=2)
    good = run.compute_loss_func
    run.compute_loss_func = lambda outputs, labels, num_items_in_batch: good(outputs, labels).mean()
    with pytest.raises(PassError, match="reduction='none'"):
        run.train()
    run.compute_loss_func = good
    run.train()
    assert plain.same(run.model.net, by_hand("sam", micro=BATCH_SIZE // 2)[0])


def test_an_optimizer_of_another_kind_is_refused(tmp_path: Path) -> None:
    run = trainer(tmp_path, Named(MLP.model()), None, rows_of(MLP, torch.float64))
    with pytest.raises(OptionError, match=r"the prepared optimizer is AdamW: .*imbsam\.Plain"):
        run.train()


def test_a_batch_without_classes_is_named(tmp_path: Path) -> None:
    model = Named(MLP.model())
    data = [{"x": row["x"]} for row in rows_of(MLP, torch.float64)]
    with pytest.raises(DataError, match="no classes found in a batch"):
        trainer(tmp_path, model, plain.optimizer_for("imbsam", model), data).train()


def test_without_the_mixin_the_step_is_named(tmp_path: Path) -> None:
    class WithLoss(Named):
        def forward(self, x: Tensor, labels: Tensor | None = None) -> SequenceClassifierOutput:
            logits = self.net(x)
            return SequenceClassifierOutput(loss=F.cross_entropy(logits, labels), logits=logits)

    model = WithLoss(MLP.model())
    run = trainer(tmp_path, model, plain.optimizer_for("sam", model), rows_of(MLP, torch.float64), kind=Trainer)
    with pytest.raises(PassError, match=r"passes\(targets\)"):
        run.train()


def test_a_method_without_classes_takes_a_batch_that_has_none(tmp_path: Path) -> None:
    class Reconstructs(Named):
        def forward(self, x: Tensor) -> SequenceClassifierOutput:
            return SequenceClassifierOutput(loss=self.net(x).square().mean(1))

    model = Reconstructs(MLP.model())
    data = [{"x": row["x"]} for row in rows_of(MLP, torch.float64)]
    before = MLP.model()
    trainer(tmp_path, model, plain.optimizer_for("sam", model), data).train()
    assert not plain.same(model.net, before)
    model = Named(MLP.model())
    with pytest.raises(OptionError, match="without 'labels'"):
        trainer(tmp_path, model, plain.optimizer_for("sam", model), data).train()


LOSSES = {
    "multi_label_classification": (lambda y: F.one_hot(y, 5).double(), nn.BCEWithLogitsLoss()),
    "regression": (lambda y: F.one_hot(y, 5).double(), nn.MSELoss()),
    "single_label_classification": (lambda y: F.one_hot(y, 5).double(), nn.CrossEntropyLoss()),
}


@pytest.mark.parametrize("problem", LOSSES)
def test_the_loss_is_that_of_the_problem_the_model_names(problem: str, tmp_path: Path) -> None:
    labels, criterion = LOSSES[problem]
    model = bert()
    model.config.problem_type = problem
    data = [{**row, "labels": labels(row["labels"])} for row in sentences()]
    run = trainer(tmp_path, model, plain.optimizer_for("sam", model), data, collate=padded, num_train_epochs=1)
    batch = padded(data[:BATCH_SIZE])
    expected = criterion(model(batch["input_ids"], batch["attention_mask"]).logits, batch["labels"])
    run.train()
    assert logged(run)[0] == pytest.approx(float(expected.detach()), rel=1e-4)


def test_labels_that_do_not_say_what_the_loss_is_are_asked_about(tmp_path: Path) -> None:
    model = bert()
    data = [{**row, "labels": F.one_hot(row["labels"], 5).double()} for row in sentences()]
    with pytest.raises(OptionError, match=r"labels of shape \(6, 5\) .*problem_type"):
        trainer(tmp_path, model, plain.optimizer_for("sam", model), data, collate=padded).train()


def test_a_trainer_may_say_which_labels_are_the_classes_and_take_the_rows(tmp_path: Path) -> None:
    class Own(SharpTrainer):
        def row_targets(self, inputs: dict[str, Tensor]) -> Tensor:
            return inputs["species"]

        def take_rows(self, inputs: dict[str, Tensor], rows: Tensor) -> dict[str, Tensor]:
            return {key: value[rows] for key, value in inputs.items()}

    class Two(Named):
        def forward(self, x: Tensor, species: Tensor, names: object = None) -> SequenceClassifierOutput:
            return SequenceClassifierOutput(logits=self.net(x))

    model = Two(MLP.model())
    data = [{**row, "species": row["labels"]} for row in rows_of(MLP, torch.float64)]
    trainer(tmp_path, model, plain.optimizer_for("imbsam", model), data, kind=Own).train()
    assert plain.same(model.net, by_hand("imbsam")[0])
