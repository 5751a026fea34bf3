"""Second stage of training: the last layer is retrained on the features of a network that stays fixed."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import LambdaLR

from imbsam import data, losses
from imbsam.config import Options
from imbsam.data.seeding import CLASSIFIER, generator
from imbsam.errors import ModelError, NonFiniteError
from imbsam.models.classifier import CosineClassifier, classifier_of
from imbsam.training.criterion import loss_values
from imbsam.training.evaluation import autocast, outputs_of
from imbsam.training.methods import base_of
from imbsam.training.schedule import factor
from imbsam.training.second_stage import SecondStage
from imbsam.training.setup import Problem, augmentation_of, batch_size_of, epochs_of

TAUS = tuple(tenth / 10 for tenth in range(21))
"""Values of tau that are tried on validation data."""

SMOOTHING = 0.98
"""Smoothing of the labels (Sun et al. 2025), which gives each class almost the same share."""


class Cut:
    """Network up to its last layer: frozen, in eval mode.

    Args:
        model: Model, which is changed in place: only the last layer's weights take a gradient.
        name: Name of the model, for messages.
        num_classes: Number of classes C.

    Attributes:
        layer: The last layer.
        place: Its dotted name within the model.

    Raises:
        ModelError: If the model has no linear or cosine last layer, or several of them.
    """

    def __init__(self, model: nn.Module, name: str, num_classes: int) -> None:
        found = classifier_of(model, num_classes)
        if found is None:
            raise ModelError(
                f"the model {name} has not exactly one linear or cosine layer of {num_classes} outputs, so it is "
                "unclear which classifier to retrain: name the last layer `classifier`."
            )
        place, layer = found
        self.model, self.layer, self.place, self._name = model.eval(), layer, place, name
        if {each for each, _ in layer.named_parameters()} - {"weight", "bias"}:
            raise self._no_last_layer("has parametrized weights")
        model.requires_grad_(False)
        layer.requires_grad_(True)

    @torch.no_grad()
    def check(self, inputs: Tensor) -> None:
        """Check that the last layer gives the model's outputs.

        Args:
            inputs: Some inputs of the model.

        Raises:
            ModelError: If it does not.
        """
        outputs, features = self._forwarded(inputs)
        if not torch.allclose(self.layer(features), outputs, rtol=1e-3, atol=1e-4):
            raise self._no_last_layer("does not give the outputs")

    @torch.no_grad()
    def features(self, inputs: Tensor) -> Tensor:
        """Compute the input of the last layer, float32, shape ``(B, F)``.

        Args:
            inputs: Inputs, shape ``(B, ...)``, on the model's device.
        """
        return self._forwarded(inputs)[1].float()

    def _forwarded(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        got: list[Tensor] = []

        def keep(layer: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            got.extend(arguments[:1])

        with self.layer.register_forward_pre_hook(keep):
            outputs: Tensor = self.model(inputs)
        if len(got) != 1 or got[0].shape != (len(inputs), self.layer.in_features):
            raise self._no_last_layer("does not get one feature vector for each image")
        return outputs, got[0]

    def _no_last_layer(self, why: str) -> ModelError:
        return ModelError(f"the layer {self.place} of the model {self._name} {why}: it cannot be retrained.")


def usual_lr(options: Options, how: str) -> float:
    """Return the learning rate of the second stage where none is given.

    Args:
        options: Options of the first stage.
        how: ``"crt"`` or ``"smoothed"``.
    """
    if how == "smoothed":
        return 5e-4
    lr = options.training.lr
    return lr if base_of(options.method) == "sgd" and lr is not None else 0.1


def retrained(cut: Cut, problem: Problem, stage: SecondStage) -> Iterator[tuple[float, float]]:
    """Retrain the last layer; every value yielded stands for one epoch.

    ``crt`` (Kang et al. 2020, section 4.1): from random weights, cross-entropy, classes drawn equally often, the first
    stage's weight decay. ``smoothed`` (Sun et al. 2025): from the first stage's classifier, cross-entropy with labels
    smoothed by 0.98, rows as they are, no weight decay. Both by SGD; rows are augmented anew in each epoch, as in
    training. All draws follow from the run's seed.

    Args:
        cut: Network, whose last layer is changed in place.
        problem: Data and options of the first stage.
        stage: Options of the second stage, of which ``how``, ``epochs`` and ``lr`` are used.

    Yields:
        Mean loss of an epoch, and the learning rate of its first step.

    Raises:
        NonFiniteError: If the loss became NaN or infinite.
    """
    options, dataset, layer = problem.options, problem.dataset, cut.layer
    is_crt = stage.how == "crt"
    if is_crt:
        reset(layer, options.training.seed)
    scale = losses.output_scale(options.loss.loss, loss_values(options))
    decay = options.training.weight_decay if is_crt else 0.0
    assert stage.lr is not None
    optimizer = torch.optim.SGD(layer.parameters(), stage.lr, momentum=options.training.momentum, weight_decay=decay)
    device, schedule = layer.weight.device, None
    for epoch in range(stage.epochs):
        batches = data.batches(
            dataset.train,
            batch_size=batch_size_of(options),
            seed=options.training.seed,
            # Beyond those of the first stage, whose draws would come again.
            epoch=epochs_of(options) + epoch,
            shuffle=True,
            transform=augmentation_of(problem),
            workers=options.data.workers,
            sampler="balanced" if is_crt else "shuffle",
        )
        if schedule is None:
            course = factor("cosine", epochs=stage.epochs, warmup=0.0, steps_per_epoch=len(batches))
            schedule = LambdaLR(optimizer, course)
        lr, total = float(optimizer.param_groups[0]["lr"]), torch.zeros((), device=device)
        for inputs, targets in batches:
            with autocast(device, options):
                features = cut.features(inputs.to(device))
            smoothing = 0.0 if is_crt else SMOOTHING
            loss = cross_entropy(scale * layer(features), targets.to(device), label_smoothing=smoothing)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(targets)
        mean = float(total) / len(dataset.train)
        if not mean < float("inf"):
            raise NonFiniteError(f"epoch {epoch + 1} of the second stage: the loss is NaN or infinite. Lower --lr.")
        yield mean, lr


def reset(layer: nn.Linear | CosineClassifier, seed: int) -> None:
    """Give a classifier random weights, which depend on the seed alone.

    Args:
        layer: Layer, which is changed in place.
        seed: Seed of the run.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(generator(seed, 0, CLASSIFIER).initial_seed())
        if isinstance(layer, CosineClassifier):
            fresh: nn.Module = CosineClassifier(layer.in_features, layer.out_features)
        else:
            fresh = nn.Linear(layer.in_features, layer.out_features, bias=layer.bias is not None)
    layer.load_state_dict(fresh.state_dict())


@torch.no_grad()
def normalise(cut: Cut, tau: float) -> None:
    """Divide the weights of each class by their length to the power of tau, and drop the bias.

    Args:
        cut: Network, whose last layer is changed in place.
        tau: Exponent; 0 keeps the lengths, 1 makes all equal (Kang et al. 2020, section 4.3).

    Raises:
        ModelError: If the classifier uses cosines, which do not depend on lengths.
    """
    if not isinstance(cut.layer, nn.Linear):
        raise ModelError(
            "--how tau-norm has no effect on a cosine classifier, which does not depend on lengths: choose crt."
        )
    cut.layer.weight.copy_(tau_normalised(cut.layer.weight, tau))
    if cut.layer.bias is not None:
        cut.layer.bias.zero_()


def tau_normalised(weight: Tensor, tau: float) -> Tensor:
    """Return ``w_c / |w_c|^tau``; a class whose weights are all zero keeps them.

    Args:
        weight: Weights, one row for each class, shape ``(C, F)``.
        tau: Exponent, at least 0.
    """
    lengths = weight.norm(dim=1, keepdim=True)
    return weight / torch.where(lengths > 0, lengths, 1.0) ** tau


def best_tau(features: Tensor, targets: Tensor, weight: Tensor) -> float:
    """Find the tau with the best balanced accuracy of the argmax of the outputs; among equal ones the smallest.

    Args:
        features: Features of rows that were not trained on, shape ``(N, F)``.
        targets: Their classes, shape ``(N,)``.
        weight: Weight, shape ``(C, F)``.
    """
    counts = torch.bincount(targets, minlength=len(weight))

    def balanced(tau: float) -> float:
        chosen = (features.double() @ tau_normalised(weight.double(), tau).T).argmax(dim=1)
        hits = torch.bincount(targets[chosen == targets], minlength=len(weight))
        return float((hits[counts > 0] / counts[counts > 0]).double().mean())

    scores = [balanced(tau) for tau in TAUS]
    return TAUS[scores.index(max(scores))]


def features_of(cut: Cut, samples: data.Samples, problem: Problem) -> Tensor:
    """Compute the features of every sample without augmentation, on the CPU, shape ``(N, F)``.

    Args:
        cut: The network.
        samples: Samples to use.
        problem: Data and options of the run.
    """
    return outputs_of(Features(cut).eval(), samples, problem.dataset.spec, problem.options)


class Features(nn.Module):
    """Network whose outputs are the inputs of its last layer.

    Args:
        cut: The network.
    """

    def __init__(self, cut: Cut) -> None:
        super().__init__()
        self.network, self._cut = cut.model, cut

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute features, shape ``(B, F)``."""
        return self._cut.features(inputs)


def spread(outputs: Tensor) -> float:
    """Compute the spread of the logits of a row: the root of their mean square about the row's mean.

    Args:
        outputs: Outputs, shape ``(N, C)``.
    """
    return float((outputs.double() - outputs.double().mean(dim=1, keepdim=True)).square().mean().sqrt())
