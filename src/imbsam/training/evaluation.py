"""What a trained model says: its outputs, and what they mean."""

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
    """Outputs for every sample.

    Args:
        model: Left in the mode it was in.
        samples: What to score.
        spec: Specification of the model's inputs.
        options: Options of the run.
        tta: flip: the mean of the outputs for an image and for its mirror.

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
    """What outputs mean, as far as no held-out sample is needed to know it.

    Args:
        options: Options of the run.
        priors: Class priors of its training data.
        classes: Names, length C.
        epoch: Whose weights the model has, from 1: re-weighting that is deferred may not have begun.
        decision: Another one than that of the options.
        calibration: Calibration of the evidence.
        second: How the classifier was made anew after training; its outputs then stand for balanced priors.

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
    """The precision of forward passes."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.training.precision == "bfloat16")
