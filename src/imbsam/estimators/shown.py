"""Table of a fitted classifier for a notebook, below scikit-learn's diagram of its parameters."""

from collections.abc import Sequence

from torch import nn

from imbsam.notebook.tables import Cell
from imbsam.priors import ClassPriors

Facts = list[tuple[str, Cell]]

LABELS = 10
"""Labels that are written out."""


def data_facts(classes: Sequence[object], priors: ClassPriors) -> Facts:
    """Describe the rows that were trained on.

    Args:
        classes: Labels.
        priors: Class priors of the rows.
    """
    return [
        ("classes", f"{len(classes)}: {listed(classes)}"),
        ("training rows", f"{priors.total:,}, imbalance factor {priors.imbalance_factor:.4g}"),
    ]


def decision_facts(class_prior: object, cost: object, at_least: object) -> Facts:
    """Describe how classes are decided on.

    Args:
        class_prior: The parameter of an estimator.
        cost: The parameter.
        at_least: The parameter.
    """
    if class_prior is not None:
        prior = class_prior if isinstance(class_prior, str) else "given"
        told = decided = f"under the {prior} class frequencies"
    else:
        told, decided = "under the training class frequencies", "as if all classes were equally frequent"
    if cost is not None:
        decided = "by least expected cost"
    if at_least is not None:
        decided += ", with thresholds found on held-out rows"
    return [("probabilities", told), ("decisions", decided)]


def network_fact(model: nn.Module) -> tuple[str, Cell]:
    """Describe a multilayer perceptron: the width of each layer, and the number of weights.

    Args:
        model: The network.
    """
    matrices = [weight for name, weight in model.named_parameters() if weight.ndim == 2 and "embedding" not in name]
    widths = [matrices[0].shape[1], *(weight.shape[0] for weight in matrices)]
    weights = sum(weight.numel() for weight in model.parameters())
    return "network", f"{' → '.join(map(str, widths))} units, {weights:,} weights"


def listed(labels: Sequence[object]) -> str:
    """List labels, the first ten of many.

    Args:
        labels: All of them.
    """
    return ", ".join(map(str, labels[:LABELS])) + (", ..." if len(labels) > LABELS else "")
