"""A pretrained Hugging Face model from a folder, fine-tuned by LoRA adapters under ImbSAM.

Only what is trained is perturbed and saved: the adapters and the new classifier. Nothing is downloaded.
"""

import sys
import tempfile
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import TrainingArguments, ViTConfig, ViTForImageClassification

from digits import BATCH_SIZE, EPOCHS, rare_digits
from imbsam import ImbSAM
from transformers_trainer import SharpTrainer, collate, report


def write_tiny_model(folder: Path) -> None:
    """Random weights in the layout of a pretrained model, where you have no folder of one."""
    torch.manual_seed(0)
    shape = {"image_size": 8, "patch_size": 4, "num_channels": 1, "num_labels": 10}
    size = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    ViTForImageClassification(ViTConfig(**shape, **size)).double().save_pretrained(folder)


def adapted(folder: Path) -> PeftModel:
    """The model of a folder, with adapters at its attention and a classifier that is trained whole."""
    model = ViTForImageClassification.from_pretrained(folder, local_files_only=True, dtype=torch.float64)
    torch.manual_seed(1)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"])
    return get_peft_model(model, lora)


def imbsam(model: PeftModel, tail: torch.Tensor) -> ImbSAM:
    trained = [p for p in model.parameters() if p.requires_grad]
    return ImbSAM(torch.optim.AdamW(trained, lr=1e-2), tail, rho=0.05, model=model)


def main(folder: Path) -> PeftModel:
    """Fine-tune; writes the adapters beside the model, into ``folder/adapters``."""
    dataset, tail = rare_digits()
    model = adapted(folder)
    model.print_trainable_parameters()
    args = TrainingArguments(
        output_dir=folder / "runs",
        num_train_epochs=EPOCHS,
        per_device_train_batch_size=BATCH_SIZE,
        train_sampling_strategy="sequential",
        label_names=["labels"],
        save_strategy="no",
        report_to="none",
        use_cpu=True,
    )
    trainer = SharpTrainer(
        model, args, train_dataset=dataset, data_collator=collate, optimizers=(imbsam(model, tail), None)
    )
    trainer.train()
    report(model, dataset, tail)
    model.save_pretrained(folder / "adapters")
    return model


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as made:
            write_tiny_model(Path(made))
            main(Path(made))
