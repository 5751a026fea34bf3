"""What a trained model says: its logits."""

import torch
from torch import Tensor, nn

from imbsam import data, losses
from imbsam.config import Options
from imbsam.inputs import InputSpec
from imbsam.priors import ClassPriors
from imbsam.training.setup import loss_values

EVALUATION_BATCH = 512


@torch.no_grad()
def logits_of(
    model: nn.Module, samples: data.Samples, spec: InputSpec, options: Options, priors: ClassPriors
) -> Tensor:
    """Logits of every sample, adjusted post hoc where the options say so.

    Args:
        model: Left in the mode it was in.
        samples: What to score.
        spec: Of the model's inputs.
        options: Of the run.
        priors: Of its training data.

    Returns:
        float32, on the CPU, shape ``(N, C)``.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    parts = []
    loader = data.batches(
        samples,
        batch_size=EVALUATION_BATCH,
        shuffle=False,
        transform=data.evaluation_transform(spec),
        workers=options.data.workers,
    )
    for inputs, _ in loader:
        with autocast(device, options):
            parts.append(model(inputs.to(device)).float().cpu())
    model.train(was_training)
    logits = torch.cat(parts) * losses.output_scale(options.loss.loss, loss_values(options))
    return losses.adjust_logits(logits, priors, tau=options.loss.adjust) if options.loss.adjust else logits


def autocast(device: torch.device, options: Options) -> torch.autocast:
    """The precision of forward passes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.training.precision == "bfloat16")
