"""A trained run, opened to score data: its own test set, or other data of the same form."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from imbsam import data, models
from imbsam.config import DecisionOptions, Options, TestTime
from imbsam.decisions import Posterior, parsed_wanted
from imbsam.errors import DataError, ModelError, OptionError, RunError
from imbsam.inputs import ImageSpec, InputSpec
from imbsam.losses import needs_cosine_classifier
from imbsam.metrics import Metrics
from imbsam.models.blend import Blend
from imbsam.priors import ClassPriors, ShotGroup
from imbsam.runs.folder import RunFolder
from imbsam.runs.places import check_file
from imbsam.runs.reading import learnt_reading, measured, with_weights
from imbsam.runs.records import DataRecord, Read
from imbsam.storage.files import harmless, write_atomically
from imbsam.training import setup
from imbsam.training.evaluation import outputs_of, posterior_of
from imbsam.training.finetuning import finetune_of
from imbsam.training.methods import BLENDS
from imbsam.training.second_stage import SecondStage


def check_named(folder: RunFolder, held: str, named: object) -> None:
    """Refuse to import a model that only a run's folder names: the folder may come from anybody.

    Args:
        folder: Folder of the run.
        held: Model of the run.
        named: Model that the user named, if any.

    Raises:
        ModelError: If the model is made by a module outside this package, and the user did not name it.
    """
    if models.is_user_code(held) and named != held:
        raise ModelError(
            f"the run in {folder.path} has the model {held}, whose module would be imported and run. "
            f"If you trust it, name it: --model {held}"
        )


@dataclass(frozen=True)
class Trained:
    """Model of a run, with what it needs to read data.

    Args:
        source: Data that it was trained on.
        options: Options as used in training.
        model: Model with the weights of the chosen epoch.
        classes: Names of the classes, length C.
        priors: Class priors of the training data.
        groups: Shot group of each class.
        tail: Whether each class is tail.
        preprocess: Everything needed to read further data in the same way.
        epoch: Epoch of the model's weights, from 1.
        read: Calibration and thresholds.
        decision: Options of the decision that replace those of the run.
        tta: Test-time augmentation.
        second: Second stage that retrained the classifier; None without one.
    """

    source: str
    options: Options
    model: nn.Module
    classes: tuple[str, ...]
    priors: ClassPriors
    groups: tuple[ShotGroup, ...]
    tail: tuple[bool, ...]
    preprocess: Mapping[str, object]
    epoch: int
    read: Read
    decision: DecisionOptions
    tta: TestTime = "none"
    second: SecondStage | None = None

    @classmethod
    def open(cls, path: Path, *, device: str = "auto", model: str | None = None) -> "Trained":
        """Open a run's folder.

        Args:
            path: The folder.
            device: Device that computes.
            model: ``package.module:callable`` if the run's model is one; it is imported by this name only.

        Returns:
            The trained run.

        Raises:
            ImbsamError: If there is no usable run.
        """
        folder = RunFolder(path)
        source, options = folder.read_config()
        check_named(folder, options.model.model, model)
        about = folder.read_data()
        try:
            priors = ClassPriors.from_counts(about.counts)
            spec = data.spec_of(about.preprocess)
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path / 'data.json'} is damaged: {error}") from None
        weights = folder.read_weights()
        if options.method.method in BLENDS:
            network = _blend_of(folder, weights)
        else:
            network = _network_of(folder, options, about, spec, weights)
        network = network.to(setup.device_of(device))
        read, epoch = Read(), setup.epochs_of(options)
        if folder.result.exists():
            result = folder.read_result()
            read, epoch = result.read, result.best_epoch or epoch
        return cls(
            *(source, options, network, about.classes, priors, about.groups, about.tail, about.preprocess),
            epoch=epoch,
            read=read,
            decision=options.decision,
            second=folder.read_second_stage(),
        )

    @property
    def spec(self) -> InputSpec:
        """Form of a sample for the model."""
        return data.spec_of(self.preprocess)

    @property
    def posterior(self) -> Posterior:
        """Posterior of the outputs, which also makes the decisions."""
        found = posterior_of(
            self.options,
            self.priors,
            self.classes,
            epoch=self.epoch,
            decision=self.decision,
            calibration=self.read.calibration,
            second=self.second,
        )
        return with_weights(found, self.read)

    def outputs(self, samples: data.Samples) -> Tensor:
        """Compute the outputs for every sample, float32, shape ``(N, C)``."""
        return outputs_of(self.model, samples, self.spec, self.options, tta=self.tta)

    def averaged_over(self, tta: TestTime) -> "Trained":
        """Return the same run with test-time augmentation; its calibration is that of single images.

        Args:
            tta: ``"none"``, or ``"flip"`` for the mean over an image and its mirror image.

        Raises:
            OptionError: If the run is of a table, whose rows cannot be mirrored.
        """
        if tta == "flip" and not isinstance(self.spec, ImageSpec):
            raise OptionError(f"--tta flip is for images, but the run is of a table, {self.source}: leave it out.")
        return replace(self, tta=tta)

    def decided(self, later: DecisionOptions) -> "Trained":
        """Return the same run with other probabilities and decisions.

        Args:
            later: Options of the decision. A class prior that is left empty is that of training; goals and costs of
                training do not apply. Thresholds are found on the validation data that training held out.

        Raises:
            OptionError: If an option cannot be used, or a goal cannot be reached.
            DataError: If the data of the run are needed and changed since.
        """
        decision = replace(later, class_prior=later.class_prior or self.decision.class_prior)
        found = replace(self, decision=decision, read=Read(self.read.calibration))
        posterior = found.posterior
        if not parsed_wanted(decision.at_least, self.classes):
            return found
        samples = self._problem().dataset.validation
        scored = None if samples is None else (self.outputs(samples), samples.targets)
        return replace(found, read=learnt_reading(posterior, decision, self.classes, scored, is_calibrated=True))

    def _problem(self) -> setup.Problem:
        problem = setup.load_problem(self.source, self.options, held=self.preprocess)
        problem.check_same_data(self.classes, self.priors.counts.tolist())
        return problem

    def evaluate(
        self, source: str | None = None, *, skip_bad: bool = False, dialect: data.Dialect = data.AS_FOUND
    ) -> Metrics:
        """Evaluate the model.

        Args:
            source: Labelled data; by default the test data that training held out.
            skip_bad: Leave out unreadable images and rows.
            dialect: Format of a text table; what is left open is detected.

        Returns:
            The metrics.

        Raises:
            DataError: If there are no labelled data.
        """
        samples: data.Samples | None
        if source is None:
            samples = self._problem().dataset.test
            if samples is None:
                raise DataError(f"{self.source} has no test data; name labelled data: imbsam evaluate RUN SOURCE.")
        else:
            samples, labelled = data.load_like(source, self.preprocess, skip_bad=skip_bad, dialect=dialect)
            if not labelled:
                raise DataError(f"{source} has no classes to compare with; for unlabelled data use imbsam predict.")
        return measured(self.posterior, (self.outputs(samples), samples.targets), self.groups, self.tail)

    def predict(
        self,
        source: str,
        out: Path,
        *,
        all_probabilities: bool = False,
        skip_bad: bool = False,
        dialect: data.Dialect = data.AS_FOUND,
    ) -> tuple[int, Tensor]:
        """Write the class and its probability for each file or row.

        Args:
            source: Data, labelled or not.
            out: CSV file to write: ``name, class, probability``, and with ``all_probabilities`` a column per class.
            all_probabilities: Whether to write a column for each class.
            skip_bad: Leave out unreadable images and rows.
            dialect: Format of a text table; what is left open is detected.

        Returns:
            Number of samples, and of predictions of each class, shape ``(C,)``.

        Raises:
            ImbsamError: If the source cannot be read or the file cannot be written.
        """
        check_file(out, source)
        samples, _ = data.load_like(source, self.preprocess, skip_bad=skip_bad, dialect=dialect)
        outputs, posterior = self.outputs(samples), self.posterior
        probabilities, chosen = posterior.log_probabilities(outputs).exp(), posterior.scores(outputs).argmax(dim=1)
        best = probabilities.gather(1, chosen[:, None]).squeeze(1)
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        classes = [harmless(name) for name in self.classes]
        writer.writerow(["name", "class", "probability", *(classes if all_probabilities else ())])
        for name, index, top, row in zip(samples.names, chosen.tolist(), best.tolist(), probabilities, strict=True):
            every = [f"{p:.6g}" for p in row.tolist()] if all_probabilities else []
            writer.writerow([harmless(name), classes[index], f"{top:.6g}", *every])
        write_atomically(out, text.getvalue())
        return len(chosen), torch.bincount(chosen, minlength=len(self.classes))


def _network_of(
    folder: RunFolder, options: Options, about: DataRecord, spec: InputSpec, weights: Mapping[str, Tensor]
) -> nn.Module:
    network = models.build(
        options.model.model,
        spec,
        num_classes=len(about.classes),
        cosine_classifier=needs_cosine_classifier(options.loss.loss),
        finetune=finetune_of(options, about.preprocess, pretrained=False),
        width=options.model.width,
        norm=options.model.norm,
        hidden=options.model.hidden,
    )
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(f"{folder.weights} does not fit the run's model: {error}") from None
    return network


def _blend_of(folder: RunFolder, weights: Mapping[str, Tensor]) -> nn.Module:
    try:
        return Blend(weights)
    except (KeyError, RuntimeError) as error:
        raise RunError(f"{folder.weights} does not fit the run's method: {error}") from None
