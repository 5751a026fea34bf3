"""ImbSAM under the Lightning trainer, with its clipping, its schedule and its accumulation of micro-batches."""

import pytorch_lightning as lightning
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

from digits import BATCH_SIZE, EPOCHS, imbsam, network, rare_digits, report
from imbsam.integrations.lightning import SharpnessAwareMixin


class Classifier(SharpnessAwareMixin, lightning.LightningModule):
    """Has ``row_losses`` in the place of ``training_step``."""

    def __init__(self, tail: torch.Tensor) -> None:
        super().__init__()
        self.network = network()
        self.tail = tail

    def row_losses(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        x, y = batch
        return F.cross_entropy(self.network(x), y, reduction="none")

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = imbsam(self, self.tail)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_train_batch_end(self, outputs: dict[str, torch.Tensor], batch: object, batch_idx: int) -> None:
        if not outputs["loss"].isnan():
            self.log("train_loss", outputs["loss"], prog_bar=True)


def main(accumulate: int = 1) -> torch.nn.Module:
    dataset, tail = rare_digits()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        logger=False,
        enable_checkpointing=False,
    )
    model = Classifier(tail)
    trainer.fit(model, DataLoader(dataset, BATCH_SIZE // accumulate))
    report(model.network, dataset, tail)
    return model.network


if __name__ == "__main__":
    main()
