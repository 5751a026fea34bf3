"""Commands and their options, without slow imports, so that help is shown at once."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import tyro
from tyro.conf import OmitArgPrefixes, Positional, arg

from imbsam.anomaly.settings import Settings
from imbsam.anomaly.words import LabelWords
from imbsam.cli import optional
from imbsam.cli.help_texts import as_paragraphs
from imbsam.config import Backend, DecisionOptions, Objective, Options, Positive, TestTime, checked, read_yaml
from imbsam.errors import OptionError
from imbsam.runs.retraining_options import RetrainingOptions
from imbsam.runs.sharpness_options import SharpnessOptions

if TYPE_CHECKING:
    from imbsam.data.sources.dialect import Dialect

# Without a name of its own the help's boxes are headed "data options", not "options.data options".
FlatOptions = Annotated[Options, OmitArgPrefixes, arg(name="")]
Source = Annotated[Positional[str], arg(metavar="SOURCE")]
PossibleSource = Annotated[Positional[str | None], arg(metavar="[SOURCE]")]
Run = Annotated[Positional[Path], arg(metavar="RUN")]
Detector = Annotated[Positional[Path], arg(metavar="DETECTOR")]


@dataclass(frozen=True)
class DryRunOptions:
    """Dry run: memory and time of a training, before it starts."""

    dry_run: bool = False
    """Read and check the data, make one step of each method on real rows, and predict memory and time. Nothing is
    written."""
    samples_per_second: Positive | None = None
    """Training rows per second of plain steps on the machine that will train. Default: measured here."""

    def check(self) -> None:
        """Refuse options that are not valid.

        Raises:
            OptionError: If an option is not valid; the message names it.
        """
        checked(DryRunOptions, dataclasses.asdict(self))
        if self.samples_per_second is not None and not self.dry_run:
            raise OptionError(
                "--samples-per-second is used only by the prediction of --dry-run: add --dry-run, or leave it out."
            )


FlatDryRun = Annotated[DryRunOptions, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class TextFile:
    """CSV: its format, if the file does not show it."""

    separator: str | None = None
    """The character between two cells, or comma, semicolon, tab, pipe, space."""
    decimal: Literal[".", ","] | None = None
    """The mark before a number's fraction."""
    encoding: str | None = None
    """utf-8, cp1252, utf-16, ..."""

    def dialect(self, missing: Sequence[str] = ("auto",)) -> "Dialect":
        """Return the options in the form of the readers.

        Raises:
            OptionError: If a value is not valid.
        """
        # With it comes torch, which the help of a command must not wait for.
        from imbsam.data.sources.dialect import Dialect

        return Dialect(self.separator, self.decimal, self.encoding, tuple(missing))


FlatTextFile = Annotated[TextFile, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class LaterDecision:
    """Decision: replaces that of the run, without new training."""

    class_prior: tuple[str, ...] = ()
    """auto, training, balanced, loss, or CLASS=FREQUENCY for each class, for example as expected in deployment.
    Default: that of the run."""
    at_least: tuple[str, ...] = ()
    """recall:CLASS=SHARE or precision:CLASS=SHARE that a class has to reach, such as recall:melanoma=0.9. Thresholds
    are found on the validation data of the run, and the output says what other classes pay."""
    cost: tuple[str, ...] = ()
    """CLASS=COST of missing a class, such as melanoma=10, and 1 for other classes. Decisions have the least expected
    cost."""

    @property
    def asked(self) -> DecisionOptions | None:
        """Options of the decision; None if none is given, and the run decides as before."""
        if not (self.class_prior or self.at_least or self.cost):
            return None
        return DecisionOptions(self.class_prior, self.at_least, self.cost)


FlatLaterDecision = Annotated[LaterDecision, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class Command:
    """Command; the first line of its docstring is its help."""

    json: bool = field(default=False, kw_only=True)
    """Print the result as JSON on standard output."""

    @classmethod
    def summary(cls) -> str:
        """Return the first line of the command's help."""
        return (cls.__doc__ or "").splitlines()[0]


@dataclass(frozen=True)
class Configured(Command):
    """Command with the options of a run, which may come from a YAML file."""

    config: Path | None = field(default=None, kw_only=True)
    """YAML file with any of the options below; the command line overrides it."""
    options: FlatOptions = field(default_factory=Options, kw_only=True)


@dataclass(frozen=True)
class ManyRuns(Configured):
    """Command that makes many runs."""

    jobs: int | None = field(default=None, kw_only=True)
    """Number of processes. Default: one per core."""
    backend: Backend = field(default="local", kw_only=True)
    """Workers that make the runs: processes of this machine, or the workers of a Dask or Ray cluster with access to the
    same folders."""
    address: str | None = field(default=None, kw_only=True)
    """Address of the cluster's scheduler, such as tcp://10.0.0.1:8786."""


@dataclass(frozen=True)
class Train(Configured):
    """Train one model and report its accuracy on the rare classes."""

    source: PossibleSource = None
    """Data to train on; not needed with --resume."""
    out: Path | None = None
    """Folder for the run. Default: runs/SOURCE-seedN, with the method's name if one is given."""
    resume: Path | None = None
    """Resume the run in this folder, with the options it was started with."""
    overwrite: bool = False
    """Replace a run that exists in the folder."""
    quiet: bool = False
    """Print only the result."""
    dry: FlatDryRun = field(default_factory=DryRunOptions)


@dataclass(frozen=True)
class Compare(ManyRuns):
    """Train several methods over several seeds, and report with intervals."""

    source: PossibleSource = None
    """Data to train on."""
    methods: tuple[str, ...] = ("sgd", "sam", "imbsam")
    """METHOD or METHOD:OPTION=VALUE,...; the first is the baseline. Example: sgd imbsam:rho=0.1,ascent=friendly. The
    name of a family stands for its methods: all, plain, all-classes, class-aware, one-pass."""
    seeds: int = 6
    """Seeds 0 to N-1; each draws its own split, long tail, weights and batches, the same for every method."""
    recipe: str | None = None
    """Methods, seeds and options of a paper, whose data are checked: cifar100-lt, imagenet-lt or inaturalist-2018, each
    also with .corrected appended, or a YAML file. --config and the command line override it; a METHOD in the recipe
    gets the recipe's options."""
    out: Path | None = None
    """Folder for the comparison. Default: runs/compare-SOURCE, with a recipe runs/RECIPE. Finished runs in it are not
    repeated."""
    quiet: bool = False
    """Print only the result."""
    dry: FlatDryRun = field(default_factory=DryRunOptions)


@dataclass(frozen=True)
class Tune(ManyRuns):
    """Search options on validation data, in a study that an interruption never loses."""

    source: PossibleSource = None
    """Data to train on."""
    search: tuple[str, ...] = ()
    """Options to search: rho=0.02:0.5 for a range, tail=auto|fewer-than=20 for choices; lr, weight-decay, rho or tail
    alone for their usual ranges. Default: those of these four that the method has."""
    trials: int = 30
    """Number of trials of the study; the same command with a higher number continues it."""
    seeds: int = 1
    """Number of runs of a trial, with seeds 0 to N-1; the score is their mean."""
    objective: Objective = "balanced"
    """Score on the validation data: balanced accuracy, few-shot recall, macro F1 or accuracy."""
    out: Path | None = None
    """Folder for the study. Default: runs/tune-SOURCE-METHOD. Finished trials in it are not repeated."""
    storage: str | None = None
    """Address of an Optuna storage that several machines share, such as sqlite:///study.db. Default: a file in the
    folder."""
    quiet: bool = False
    """Print only the result."""


@dataclass(frozen=True)
class Cost(Configured):
    """Count the cost of each method's steps relative to plain ones, before training."""

    source: PossibleSource = None
    """Data to train on."""
    methods: tuple[str, ...] = ("sgd", "sam", "imbsam", "imbsam:ascent=reuse")
    """METHOD or METHOD:OPTION=VALUE,..., or a family's name, as for compare."""


@dataclass(frozen=True)
class Reproduce(Compare):
    """Run compare with the recipe of a paper, at full size; try --dry-run first."""

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")] = field(kw_only=True)
    """cifar100-lt, imagenet-lt or inaturalist-2018 with the settings of the authors' code, or a YAML file. With
    .corrected appended, the epoch is not chosen on the data that are judged, and no loss is doubled. The output says
    what differs from the paper."""
    source: Annotated[str | None, arg(name="data", metavar="SOURCE")] = field(default=None, kw_only=True)
    """Folder of the data; LISTS@IMAGES if lists and images are in different folders."""


@dataclass(frozen=True)
class Evaluate(Command):
    """Evaluate a trained run on its test data, or on other labelled data."""

    run: Run
    """Folder of the run."""
    source: PossibleSource = None
    """Labelled data. Default: the test data of the run."""
    model: str | None = None
    """package.module:callable, if the run's model is your own code: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read. A note counts and names them."""
    tta: TestTime = "none"
    """Images: test-time augmentation. flip averages the outputs over an image and its mirror image, at twice the
    work."""
    file: FlatTextFile = field(default_factory=TextFile)
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class Predict(Command):
    """Write the class and its probability for each file or row, as CSV."""

    run: Run
    """Folder of the run."""
    source: Source
    """Images or rows, labelled or not; - is standard input."""
    out: Path = Path("predictions.csv")
    """CSV file to write."""
    all_probabilities: bool = False
    """Write the probability of each class, too."""
    model: str | None = None
    """package.module:callable, if the run's model is your own code: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read. A note counts and names them."""
    tta: TestTime = "none"
    """Images: test-time augmentation. flip averages the outputs over an image and its mirror image, at twice the
    work."""
    file: FlatTextFile = field(default_factory=TextFile)
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class Retrain(Command):
    """Retrain the last layer of a finished run for the rare classes, as a second run beside it."""

    run: Run
    """Folder of a run on images; it is only read."""
    out: Path | None = None
    """Folder for the new run, which all other commands take like any run. Default: RUN-HOW."""
    model: str | None = None
    """package.module:callable, if the run's model is your own code: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    quiet: bool = False
    """Print only the result."""
    options: Annotated[RetrainingOptions, OmitArgPrefixes, arg(name="")] = field(default_factory=RetrainingOptions)


@dataclass(frozen=True)
class Export(Command):
    """Export a trained run to one ONNX or torch.export file, with preprocessing and decision."""

    run: Run
    """Folder of the run."""
    out: Path | None = None
    """File to write: .onnx, or .pt2 for torch.export.load. The .json beside it describes inputs and outputs. Default:
    RUN/model.onnx."""
    model: str | None = None
    """package.module:callable, if the run's model is your own code: it is imported only if you name it here."""
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class LabelledRows(Command):
    """Command that reads rows of which some are labelled as anomalies."""

    source: Source
    """CSV, TSV, Excel, Parquet or npz, one file or several; or a folder of images with a subfolder for each label."""
    labels: str | None = None
    """Column that holds the labels: 1 anomaly, 0 or empty unlabelled, -1 known to be normal. npz: y."""
    ignore: tuple[str, ...] = ()
    """Table: columns to leave out, such as numbers that only name the rows."""
    text: tuple[str, ...] = ()
    """Table: columns to read as text even if they look like numbers, such as codes written in digits."""
    missing: tuple[str, ...] = ("auto",)
    """Table: words for a missing value, besides the empty cell. auto: NA, null and similar words; among numbers also ?,
    -, unknown, ..., with a note."""
    image_size: int | None = None
    """Images: resize to this many pixels on each side. Default: the images' own size."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read. A note counts and names them."""
    file: FlatTextFile = field(default_factory=TextFile)
    words: Annotated[LabelWords, OmitArgPrefixes, arg(name="")] = field(default_factory=LabelWords)


@dataclass(frozen=True)
class AnomalyFit(LabelledRows):
    """Fit an anomaly detector on a table or images with a few labelled anomalies."""

    out: Path | None = None
    """Folder for the detector. Default: runs/anomaly-SOURCE."""
    overwrite: bool = False
    """Replace a detector that exists in the folder."""
    seed: int = 0
    """Seed of everything random."""
    quiet: bool = False
    """Print only the result."""
    settings: Annotated[Settings, OmitArgPrefixes, arg(name="")] = field(default_factory=Settings)


@dataclass(frozen=True)
class AnomalyScore(Command):
    """Write the score of each row or image, and whether it is an anomaly, as CSV."""

    detector: Detector
    """Folder that `imbsam anomaly fit` wrote."""
    source: Source
    """Rows or images, labelled or not; a table of any size is read in blocks. - is standard input."""
    out: Path = Path("scores.csv")
    """CSV file to write."""
    id: str | None = None
    """Table: column that names the rows. Default: their number from 1."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read. A note counts and names them."""
    file: FlatTextFile = field(default_factory=TextFile)


@dataclass(frozen=True)
class AnomalyEvaluate(Command):
    """Compare scores with labels: areas with intervals, curves, thresholds, rows with high scores."""

    detector: Detector
    """Folder that `imbsam anomaly fit` wrote."""
    source: Source
    """Labelled rows or images; unlabelled ones count as normal."""
    labels: str | None = None
    """Column that holds the labels. Default: that of the fit."""
    out: Path | None = None
    """Folder for the report. Default: the detector's folder."""
    id: str | None = None
    """Table: column that names the rows."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read. A note counts and names them."""
    file: FlatTextFile = field(default_factory=TextFile)


@dataclass(frozen=True)
class AnomalyCompare(LabelledRows):
    """Compare detectors by cross-validation over the labelled anomalies, with intervals."""

    detectors: tuple[str, ...] = ("default", "forest", "boosting", "logistic", "isolation-forest")
    """NAME or NAME:OPTION=VALUE,...; the first is the baseline. default: the detector of `imbsam anomaly fit`; devnet,
    hsc, bce, focal, deep-sad, deep-svdd, feawad, prenet, rosas, with its options; from scikit-learn forest, boosting,
    logistic, isolation-forest. Example: default default:method=plain forest:n_estimators=500."""
    seeds: int | None = None
    """Number of repeats of the cross-validation, each with other folds and another seed. Default: 5 with fewer than 10
    labelled anomalies, 3 with fewer than 50, else 1."""
    out: Path | None = None
    """Folder for the report and the numbers. Default: runs/anomaly-compare-SOURCE."""
    seed: int = 0
    """First seed."""
    quiet: bool = False
    """Print only the result."""


@dataclass(frozen=True)
class Sharpness(Command):
    """Measure the sharpness of the loss of trained runs, for each class and group."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]")]
    """Folders of runs, or of a comparison for all of its runs. The method of the first run is the baseline."""
    out: Path | None = None
    """Folder for report, figures and JSON. Default: RUN/sharpness for a single run, else runs/sharpness."""
    model: str | None = None
    """package.module:callable, if the run's model is your own code: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    quiet: bool = False
    """Print only the result."""
    options: Annotated[SharpnessOptions, OmitArgPrefixes, arg(name="")] = field(default_factory=SharpnessOptions)


@dataclass(frozen=True)
class Report(Command):
    """Write the HTML report of a run or a comparison again."""

    folder: Annotated[Positional[Path], arg(metavar="FOLDER")]
    """Folder of a run or a comparison."""


@dataclass(frozen=True)
class Methods(Command):
    """List the methods by family: what they do, when to take them, their cost, options and source."""


@dataclass(frozen=True)
class Doctor(Command):
    """Show versions, devices, and which optional packages are missing."""


COMMANDS: Mapping[str, type[Command]] = {
    "train": Train,
    "compare": Compare,
    "tune": Tune,
    "cost": Cost,
    "reproduce": Reproduce,
    "retrain": Retrain,
    "evaluate": Evaluate,
    "predict": Predict,
    "export": Export,
    "anomaly fit": AnomalyFit,
    "anomaly score": AnomalyScore,
    "anomaly evaluate": AnomalyEvaluate,
    "anomaly compare": AnomalyCompare,
    "sharpness": Sharpness,
    "report": Report,
    "methods": Methods,
    "doctor": Doctor,
}


def parse(words: Sequence[str]) -> Command:
    """Read a command line.

    Args:
        words: The command's name and its arguments.

    Returns:
        The command, its options checked.

    Raises:
        OptionError: If a value is out of range or the YAML file cannot be used.
        SystemExit: With 2 if the command line cannot be parsed, 0 after help.
    """
    kind = COMMANDS[words[0]]
    if not {"-h", "--help"}.isdisjoint(words):
        as_paragraphs(kind)
    command = _read(kind, words)
    if isinstance(command, Configured):
        held = _with_files(kind, command)
        command = command if held is None else cast(Configured, _read(kind, words, held))
        command = dataclasses.replace(command, options=command.options.updated({}))
    return command


def _read(kind: type[Command], words: Sequence[str], default: Command | None = None) -> Command:
    return cast(
        Command,
        tyro.cli(
            kind,
            args=list(words[1:]),
            default=default,
            prog=f"imbsam {words[0]}",
            description=kind.summary(),
            registry=optional.registry(),
        ),
    )


def _with_files(kind: type[Command], command: Configured) -> Command | None:
    """Return the command's defaults with those of its recipe and its --config file; the command line overrides both.

    Raises:
        OptionError: If a file cannot be read or has an invalid value; the message names the file.
    """
    recipe = command.recipe if isinstance(command, Compare) else None
    own = {f.name for f in dataclasses.fields(kind)} - {"options", "config", "dry", "recipe"}
    mine: dict[str, object] = {} if recipe is None else {"recipe": recipe}
    rest: dict[str, object] = {}
    default = None
    for place, values in _files(recipe, command.config):
        for name, value in values.items():
            known = name.replace("-", "_")
            (mine if known in own else rest)[known] = value
        try:
            default = checked(kind, {**mine, "options": Options().updated(rest)})
        except OptionError as error:
            raise OptionError(f"{place}: {error}") from None
    return default


def _files(recipe: str | None, config: Path | None) -> Iterable[tuple[object, Mapping[str, object]]]:
    """Yield the settings of the recipe and of the file, each with the name of its source."""
    if recipe is not None:
        # With it comes torch, which the help of a command must not wait for.
        from imbsam.studies.recipes import Recipe

        yield recipe, Recipe.read(recipe).settings
    if config is not None:
        yield config, read_yaml(config)
