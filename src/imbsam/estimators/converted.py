"""Conversion of a trained blend to the state of a torch module: stored without running code, moved, exported."""

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from imbsam.errors import ModelError
from imbsam.estimators.blended import Blended
from imbsam.estimators.classifier import SharpClassifier
from imbsam.estimators.trained import Model
from imbsam.estimators.views import Reading, code_of
from imbsam.models.blend import KINDS
from imbsam.models.trees import Nodes, Trees


def blend_state(blend: Blended, reading: Reading) -> dict[str, Tensor]:
    """Return the state of a :class:`~imbsam.models.blend.Blend` that gives a blend's evidence on encoded rows.

    Args:
        blend: Blend of networks of the library, gradient boosting, forests and logistic regressions.
        reading: Encoding of the rows.

    Raises:
        ModelError: If a member is of another kind.
    """
    state = {
        "weights": torch.from_numpy(blend.pool.weights),
        "priors_weight": torch.tensor(blend.pool.priors).double(),
        "log_priors": torch.from_numpy(blend.log_priors),
    }
    for place, model in enumerate(blend.models):
        state |= _below(f"members.{place}", _evidence_state(model, reading))
    # Safetensors takes no tensors that share memory or have gaps.
    return {name: held.detach().clone().contiguous() for name, held in state.items()}


def _below(name: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": held for key, held in state.items()}


def _evidence_state(model: Model, reading: Reading) -> dict[str, Tensor]:
    classifier = model.classifier
    if isinstance(classifier, SharpClassifier):
        posterior = classifier.posterior_
        a, b = posterior.calibration.evidence, posterior.calibration.priors
        return {
            "kind": torch.tensor(KINDS.index("network")),
            "scale": torch.tensor(a * posterior.scale).double(),
            "shift": a * posterior.shift + (b - 1) * posterior.training,
            **_below("model", network_state(classifier, reading)),
        }
    if isinstance(classifier, HistGradientBoostingClassifier):
        kind, held = "boosting", boosting_state(classifier, reading.cardinalities)
    elif isinstance(classifier, RandomForestClassifier):
        kind, held = "forest", _hot(forest_state(classifier), reading)
    elif isinstance(classifier, LogisticRegression):
        kind, held = "linear", _hot(linear_state(classifier), reading)
    else:
        raise ModelError(f"the member {model.name!r} is a {type(classifier).__name__}, which cannot be stored.")
    return {
        "kind": torch.tensor(KINDS.index(kind)),
        "priors": torch.from_numpy(model.priors),
        "votes": torch.tensor(model.votes).double(),
        **_below("model", held),
    }


def network_state(network: SharpClassifier, reading: Reading) -> dict[str, Tensor]:
    """Return the state of a :class:`~imbsam.models.blend.Network` that gives the outputs of a network."""
    columns = network._learnt.columns
    numbers = torch.tensor([(column["mean"], column["std"]) for column in columns.numeric]).double().view(-1, 2)
    own = torch.zeros(len(columns.categorical), max(reading.cardinalities, default=0), dtype=torch.long)
    for place, column in enumerate(columns.categorical):
        for code, word in enumerate(column["values"], start=1):
            own[place, code_of(word)] = code
    return {
        "mean": numbers[:, 0],
        "std": numbers[:, 1],
        "codes": own,
        **_below("mlp", network.model_.state_dict()),
    }


def linear_state(linear: LogisticRegression) -> dict[str, Tensor]:
    """Return the state of a :class:`~imbsam.models.blend.Linear` that gives a logistic regression's logits."""
    weight, bias = torch.from_numpy(linear.coef_).double(), torch.from_numpy(linear.intercept_).double()
    if len(weight) == 1:
        weight, bias = torch.cat([torch.zeros_like(weight), weight]), torch.cat([torch.zeros_like(bias), bias])
    return {"weight": weight, "bias": bias}


def _hot(held: Mapping[str, Tensor], reading: Reading) -> dict[str, Tensor]:
    """Add the tensors that make one-hot columns of codes."""
    state = {"numeric": torch.tensor(reading.columns.spec.numeric), **_below("model", held)}
    encoder, cardinalities = reading.one_hot_encoder, reading.columns.spec.cardinalities
    if encoder is None:
        return state
    start = 0
    codes = np.minimum(np.arange(max(cardinalities))[:, None], np.array(cardinalities) - 1).astype(np.float32)
    columns = torch.from_numpy(encoder.transform(codes))
    for place, (known, rare) in enumerate(zip(encoder.categories_, encoder.infrequent_categories_, strict=True)):
        width = len(known) if rare is None else len(known) - len(rare) + 1
        state[f"hot.{place}"] = columns[: cardinalities[place], start : start + width]
        start += width
    return state


def forest_state(forest: RandomForestClassifier) -> dict[str, Tensor]:
    """Return the state of a :class:`~imbsam.models.trees.Forest` that gives a random forest's probabilities."""
    trees = []
    for estimator in forest.estimators_:
        tree = estimator.tree_
        values = tree.value[:, 0, :]
        trees.append(
            Nodes(
                feature=torch.from_numpy(tree.feature.astype(np.int64)).clamp_min(-1),
                threshold=torch.from_numpy(tree.threshold.astype(np.float64)),
                left=torch.from_numpy(tree.children_left.astype(np.int64)),
                right=torch.from_numpy(tree.children_right.astype(np.int64)),
                values=torch.from_numpy(values / values.sum(axis=1, keepdims=True)),
                depth=tree.max_depth,
            )
        )
    return Trees.packed(trees)


def boosting_state(boosting: HistGradientBoostingClassifier, cardinalities: tuple[int, ...]) -> dict[str, Tensor]:
    """Return the state of a :class:`~imbsam.models.trees.Boosting` that gives gradient boosting's logits without NaN.

    Args:
        boosting: Fitted gradient boosting.
        cardinalities: Number of codes of each column, 0 for a number.
    """
    is_categorical = boosting.is_categorical_
    places, known = np.arange(len(cardinalities)), []
    if is_categorical is not None:
        # It puts the categorical columns first, and numbers the codes that it has seen.
        places = np.concatenate([np.flatnonzero(is_categorical), np.flatnonzero(~is_categorical)])
        known = boosting._preprocessor.named_transformers_["encoder"].categories_
    trees = []
    for predictor in (tree for round_ in boosting._predictors for tree in round_):
        nodes = predictor.nodes
        codes = {}
        for node in np.flatnonzero((nodes["is_categorical"] == 1) & (nodes["is_leaf"] == 0)).tolist():
            asked = int(nodes["feature_idx"][node])
            codes[node] = _goes_left(
                nodes[node], predictor.raw_left_cat_bitsets, known[asked], cardinalities[places[asked]]
            )
        trees.append(
            Nodes(
                feature=torch.from_numpy(np.where(nodes["is_leaf"] == 1, -1, places[nodes["feature_idx"]])),
                threshold=torch.from_numpy(nodes["num_threshold"].astype(np.float64)),
                left=torch.from_numpy(nodes["left"].astype(np.int64)),
                right=torch.from_numpy(nodes["right"].astype(np.int64)),
                values=torch.from_numpy(nodes["value"].astype(np.float64))[:, None],
                depth=int(nodes["depth"].max()),
                codes=codes,
            )
        )
    start = torch.from_numpy(np.atleast_1d(np.asarray(boosting._baseline_prediction, dtype=np.float64)).ravel())
    return {**Trees.packed(trees), "start": start}


def _goes_left(node: np.void, bitsets: NDArray[np.uint32], known: NDArray[np.float64], cardinality: int) -> list[bool]:
    """Return whether each code goes left at a categorical split; unseen codes go where missing values go."""
    found = [bool(node["missing_go_to_left"])] * cardinality
    bits = bitsets[node["bitset_idx"]]
    for place, code in enumerate(known.astype(int)):
        found[code] = bool((int(bits[place // 32]) >> (place % 32)) & 1)
    return found
