"""ImbSAM under the Hugging Face trainer: a small vision transformer on the digits, from random weights."""

import tempfile

import torch
from torch.utils.data import TensorDataset
from transformers import Trainer, TrainingArguments, ViTConfig, ViTForImageClassification

from digits import BATCH_SIZE, EPOCHS, rare_digits
from imbsam import ImbSAM
from imbsam.integrations.transformers import SharpnessAwareMixin


class SharpTrainer(SharpnessAwareMixin, Trainer):
    """The trainer with the passes in its ``training_step``."""


def vision_transformer() -> torch.nn.Module:
    torch.manual_seed(0)
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10}
    size = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1, "num_attention_heads": 2}
    return ViTForImageClassification(ViTConfig(**shape, **size)).double()


def collate(rows: list[tuple[torch.Tensor, torch.Tensor]]) -> dict[str, torch.Tensor]:
    pixels, labels = (torch.stack(column) for column in zip(*rows, strict=True))
    return {"pixel_values": pixels.view(-1, 1, 8, 8), "labels": labels}


def imbsam(model: torch.nn.Module, tail: torch.Tensor) -> ImbSAM:
    return ImbSAM(torch.optim.AdamW(model.parameters(), lr=3e-3), tail, rho=0.05, model=model)


def main(accumulate: int = 1) -> torch.nn.Module:
    dataset, tail = rare_digits()
    model = vision_transformer()
    with tempfile.TemporaryDirectory() as folder:
        args = TrainingArguments(
            output_dir=folder,
            num_train_epochs=2 * EPOCHS,
            per_device_train_batch_size=BATCH_SIZE // accumulate,
            gradient_accumulation_steps=accumulate,
            train_sampling_strategy="sequential",
            logging_strategy="epoch",
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        )
        trainer = SharpTrainer(
            model, args, train_dataset=dataset, data_collator=collate, optimizers=(imbsam(model, tail), None)
        )
        trainer.train()
    report(model, dataset, tail)
    return model


def report(model: torch.nn.Module, dataset: TensorDataset, tail: torch.Tensor) -> None:
    batch = collate(list(dataset))
    labels = batch.pop("labels")
    with torch.no_grad():
        right = model(**batch).logits.argmax(1) == labels
    print(f"recall of the rare digits {right[tail[labels]].double().mean():.2f}")


if __name__ == "__main__":
    main()
