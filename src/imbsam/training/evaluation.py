"""Evaluation of a trained model: its outputs, and their meaning as probabilities."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from imbsam import data, losses
from imbsam.config import DecisionOptions, Options, TestTime
from imbsam.decisions import (
    UNCALIBRATED,
    Calibration,
    Posterior,
    parsed_class_prior,
    parsed_costs,
    posterior_under,
)
from imbsam.decisions.class_prior import log_training_priors, shift_of_drawn
from imbsam.inputs import InputSpec
from imbsam.priors import ClassPriors
from imbsam.training.criterion import criterion_of, loss_values
from imbsam.training.second_stage import SecondStage

EVALUATION_BATCH = 512


@torch.no_grad()
def outputs_of(
    model: nn.Module, samples: data.Samples, spec: InputSpec, options: Options, *, tta: TestTime = "none"
) -> Tensor:
    """Compute the outputs for every sample.

    Args:
        model: Model, whose mode is the same afterwards.
        samples: Samples to score.
        spec: Form of the model's inputs.
        options: Options of the run.
        tta: Test-time augmentation; ``"flip"`` averages the outputs for an image and its mirror image.

    Returns:
        Outputs, float32, on the CPU, shape ``(N, C)``.
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
        inputs = inputs.to(device)
        with autocast(device, options):
            outputs = model(inputs).float()
            if tta == "flip":
                outputs = (outputs + model(inputs.flip(-1)).float()) / 2
        parts.append(outputs.cpu())
    model.train(was_training)
    return torch.cat(parts)


def posterior_of(
    options: Options,
    priors: ClassPriors,
    classes: Sequence[str],
    *,
    epoch: int,
    decision: DecisionOptions | None = None,
    calibration: Calibration = UNCALIBRATED,
    second: SecondStage | None = None,
) -> Posterior:
    """Return the meaning of the outputs as probabilities, as far as it is known without held-out samples.

    Args:
        options: Options of the run.
        priors: Class priors of its training data.
        classes: Names of the classes, length C.
        epoch: Epoch, from 1, of the model's weights: deferred re-weighting may not have started.
        decision: Options of the decision that replace those of the run.
        calibration: Calibration of the evidence.
        second: Second stage that retrained the classifier; its outputs then stand for balanced priors.

    Raises:
        OptionError: If an option of the decision cannot be used.
    """
    decision = options.decision if decision is None else decision
    criterion = criterion_of(options, priors)
    if isinstance(criterion, losses.Deferred):
        criterion.set_epoch(epoch - 1)
    scale, shift = losses.output_scale(options.loss.loss, loss_values(options)), losses.training_shift(criterion)
    shift = shift_of_drawn(shift, priors, options.data.sampler, options.data.repeat_threshold)
    if second is not None:
        # Not the shift of the first stage's loss: this classifier was not trained by it.
        scale, shift = scale * second.scale, log_training_priors(priors)
    return posterior_under(
        parsed_class_prior(decision.class_prior),
        priors,
        classes,
        scale=scale,
        training_shift=shift,
        costs=parsed_costs(decision.cost, classes),
        calibration=calibration,
    )


def autocast(device: torch.device, options: Options) -> torch.autocast:
    """Return the context that sets the precision of forward passes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.training.precision == "bfloat16")
