"""Schedule-free bases under other frameworks: they are switched as a bare one is."""

from pathlib import Path

import torch
from accelerate import Accelerator
from lightning_fabric import Fabric
from torch import nn
from transformers import Trainer, TrainingArguments

from imbsam.integrations.transformers import SharpnessAwareMixin
from imbsam.optim import SAM
from integrations.test_transformers import bert
from optim.test_whole import Averaged


class SharpTrainer(SharpnessAwareMixin, Trainer):
    pass


def test_the_trainer_evaluates_one_place_and_trains_the_other(tmp_path: Path) -> None:
    model = bert()
    optimizer = SAM(Averaged(model.parameters()), model=model)
    rows = [{"input_ids": torch.randint(0, 20, (4,)), "labels": k % 3} for k in range(8)]
    arguments = TrainingArguments(
        str(tmp_path), per_device_train_batch_size=4, num_train_epochs=3, eval_strategy="epoch", save_strategy="no",
        report_to=[], use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    trainer = SharpTrainer(model, arguments, train_dataset=rows, eval_dataset=rows, optimizers=(optimizer, scheduler))
    trainer.train()
    assert optimizer.steps == 6
    assert [group["train_mode"] for group in optimizer.param_groups] == [False]


def test_accelerate_and_fabric_reach_the_base() -> None:
    for prepare in (Accelerator(cpu=True).prepare, Fabric(accelerator="cpu").setup):
        model = nn.Linear(6, 3)
        base = Averaged(model.parameters())
        _, prepared = prepare(model, SAM(base, model=model))
        for mode in ("eval", "train"):
            getattr(prepared, mode)()
            assert base.param_groups[0]["train_mode"] == (mode == "train")
