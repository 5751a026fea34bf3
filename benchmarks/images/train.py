"""One run of the studies: the command's own training on a drawn data set, and what is measured of it."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from beyond import CHANGES
from methods import COMMON
from torch import Tensor, nn

from imbsam.config import Options
from imbsam.data import Dataset, evaluation_transform
from imbsam.losses import CrossEntropy, output_scale
from imbsam.metrics import MEASURES, Metrics, classification
from imbsam.priors import ClassPriors
from imbsam.runs.folder import RunFolder
from imbsam.runs.loop import Training
from imbsam.runs.ranks import World
from imbsam.runs.records import DataRecord
from imbsam.sharpness import LossSurface, Rows, sam_sharpness
from imbsam.storage.interruption import held_back
from imbsam.training import setup
from imbsam.training.criterion import loss_values
from imbsam.training.defaults import resolved, tail_classes
from imbsam.training.evaluation import outputs_of
from imbsam.training.methods import with_own_options

HEAD, TAIL = 3, 4
"""How many of the classes are many-shot, the first ones, and how many few-shot, the last."""
SHARPNESS_RHO = 0.1


class Doubled(nn.Module):
    """A criterion whose losses of tail rows count twice: re-weighting without flatness."""

    def __init__(self, criterion: nn.Module, tail: Tensor) -> None:
        super().__init__()
        self.criterion, self.weights = criterion, 1.0 + tail.float()

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.criterion(logits, targets) * self.weights[targets]


def problem_of(dataset: Dataset, values: Mapping[str, object], seed: int) -> tuple[setup.Problem, bool]:
    """The run that these options ask for, and whether the tail's loss is doubled."""
    own = {**COMMON, **values, "seed": seed}
    doubled, drw = bool(own.pop("doubled", False)), own.pop("drw", None)
    if drw is not None:
        batches = -(-len(dataset.train) // int(own["batch_size"]))
        own["start"] = round(float(drw) * int(own["epochs"]) * batches)
    if own["tail"] == "random":
        classes = torch.randperm(len(dataset.classes), generator=torch.Generator().manual_seed(1000 + seed))[:TAIL]
        own["tail"] = "classes=" + ",".join(str(index) for index in classes.tolist())
    priors = ClassPriors.from_targets(dataset.train.targets, num_classes=len(dataset.classes))
    options = resolved(with_own_options(Options(), own), dataset.name, dataset.spec, priors)
    medium = len(dataset.classes) - HEAD - TAIL
    groups = ("many",) * HEAD + ("medium",) * medium + ("few",) * TAIL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tail = tail_classes(options.method.tail, priors, dataset.classes)
    return setup.Problem(dataset.name, options, dataset, priors, groups, tail, torch.device("cpu")), doubled


def carried_out(dataset: Dataset, values: Mapping[str, object], seed: int, *, look: bool) -> dict[str, object]:
    """Train, choose the epoch by validation, measure it once on the test data.

    Args:
        dataset: As drawn.
        values: Options that differ from :data:`COMMON`.
        seed: Of weights and batches.
        look: Measure sharpness and recall on the training data, too.
    """
    torch.set_num_threads(1)
    change, *value = values.get("beyond", ("none",))
    own = {name: option for name, option in values.items() if name != "beyond"}
    problem, doubled = problem_of(dataset, own, seed)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as place, held_back() as signals:
        folder = RunFolder(Path(place))
        folder.write_data(DataRecord.of(problem, problem.options))
        folder.write_config(dataset.name, problem.options)
        training = Training(problem, folder, World())
        if doubled:
            training.criterion = Doubled(training.criterion, problem.tail)
        changed = CHANGES[change](training, *value)
        while training.progress.epoch < setup.epochs_of(problem.options):
            last = training.epoch(signals)
            changed.after_epoch()
            signals.check()
        result = changed.result(training.result(""))
    kept = {"validation": _percent(result.validation), "test": _percent(result.test)}
    about = {"epoch": result.best_epoch, "cost": round(result.cost_ratio, 3), "train_loss": last.train_loss}
    about |= {"seconds": round(result.train_seconds, 1), "rows": len(dataset.train)}
    return {**about, **kept, **(seen(training.model, problem) if look else {})}


def seen(model: nn.Module, problem: setup.Problem) -> dict[str, object]:
    """Recall on the training rows, and the SAM sharpness of head and tail, of the model that was kept."""
    train = problem.dataset.train
    logits = outputs_of(model, train, problem.dataset.spec, problem.options)
    recalls = classification(logits, train.targets, problem.groups, tail=problem.tail)
    transform = evaluation_transform(problem.dataset.spec)
    inputs = transform(train.batch(torch.arange(len(train))))
    scale = output_scale(problem.options.loss.loss, loss_values(problem.options))
    plain = CrossEntropy()
    rows = Rows.draw(inputs, train.targets, num_classes=len(problem.dataset.classes), per_class=100)
    surface = LossSurface(model, lambda logits, y: plain(logits * scale, y), rows, dtype=torch.float32)
    classes = range(len(problem.dataset.classes))
    parts = {"head": classes[:HEAD], "tail": classes[-TAIL:]}
    found = {name: sam_sharpness(surface, list(part), rho=SHARPNESS_RHO) for name, part in parts.items()}
    return {
        "train": _percent(recalls),
        "sharpness": {name: each.rise for name, each in found.items()},
    }


def _percent(scores: Metrics) -> dict[str, object]:
    kept = {measure: round(100 * scores.of(measure), 3) for measure in MEASURES}
    return {**kept, "ece": round(100 * scores.ece, 3), "log_loss": round(scores.log_loss, 4)}
