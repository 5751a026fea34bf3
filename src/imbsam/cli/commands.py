"""The commands and their options; light enough that help answers at once."""

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
    """Dry run: what a training will take, before it is begun."""

    dry_run: bool = False
    """Read and check the data, make one step of each method on real rows, predict memory and time. Nothing is
    written."""
    samples_per_second: Positive | None = None
    """Training rows a second of plain steps on the machine that will train. Default: measured here."""

    def check(self) -> None:
        """Refuse options that cannot be.

        Raises:
            OptionError: Naming one.
        """
        checked(DryRunOptions, dataclasses.asdict(self))
        if self.samples_per_second is not None and not self.dry_run:
            raise OptionError("--samples-per-second is for the prediction of --dry-run; training takes its time.")


FlatDryRun = Annotated[DryRunOptions, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class TextFile:
    """CSV: how it is written, where the file does not tell."""

    separator: str | None = None
    """The character between two cells, or comma, semicolon, tab, pipe, space."""
    decimal: Literal[".", ","] | None = None
    """The mark before a number's fraction."""
    encoding: str | None = None
    """utf-8, cp1252, utf-16, ..."""

    def dialect(self, missing: Sequence[str] = ("auto",)) -> "Dialect":
        """The same as the readers take it.

        Raises:
            OptionError: If a value cannot be.
        """
        # With it comes torch, which the help of a command must not wait for.
        from imbsam.data.sources.dialect import Dialect

        return Dialect(self.separator, self.decimal, self.encoding, tuple(missing))


FlatTextFile = Annotated[TextFile, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class LaterDecision:
    """Decision: otherwise than the run, without training anew."""

    class_prior: tuple[str, ...] = ()
    """auto, training, balanced, loss, or CLASS=FREQUENCY for each class, as at deployment. Default: that of the
    run."""
    at_least: tuple[str, ...] = ()
    """recall:CLASS=SHARE or precision:CLASS=SHARE, as recall:melanoma=0.9: thresholds are found on the validation data
    of the run, and what others pay is said."""
    cost: tuple[str, ...] = ()
    """CLASS=COST, as melanoma=10: of missing it, 1 for other classes; decisions are those of least expected cost."""

    @property
    def asked(self) -> DecisionOptions | None:
        """What is asked for; None for nothing, and the run decides as it does."""
        if not (self.class_prior or self.at_least or self.cost):
            return None
        return DecisionOptions(self.class_prior, self.at_least, self.cost)


FlatLaterDecision = Annotated[LaterDecision, OmitArgPrefixes, arg(name="")]


@dataclass(frozen=True)
class Command:
    """One command; its docstring's first line is its help."""

    json: bool = field(default=False, kw_only=True)
    """Print what was found out as JSON on standard output."""

    @classmethod
    def summary(cls) -> str:
        """The first line of its help."""
        return (cls.__doc__ or "").splitlines()[0]


@dataclass(frozen=True)
class Configured(Command):
    """A command with the options of a run, which a YAML file may hold."""

    config: Path | None = field(default=None, kw_only=True)
    """YAML file with any of the options below; the command line goes before it."""
    options: FlatOptions = field(default_factory=Options, kw_only=True)


@dataclass(frozen=True)
class ManyRuns(Configured):
    """A command that makes many runs."""

    jobs: int | None = field(default=None, kw_only=True)
    """Processes. Default: one a core."""
    backend: Backend = field(default="local", kw_only=True)
    """Who makes the runs: processes of this machine, or the workers of a Dask or Ray cluster that see the same
    folders."""
    address: str | None = field(default=None, kw_only=True)
    """Of the cluster's scheduler, as tcp://10.0.0.1:8786."""


@dataclass(frozen=True)
class Train(Configured):
    """Train one model and report its accuracy on the rare classes."""

    source: PossibleSource = None
    """What to train on; not needed with --resume."""
    out: Path | None = None
    """Folder for the run. Default: runs/SOURCE-seedN, with the method's name where one is given."""
    resume: Path | None = None
    """Go on with the run in this folder, with the options it was begun with."""
    overwrite: bool = False
    """Begin anew where a run exists."""
    quiet: bool = False
    """Print the result only."""
    dry: FlatDryRun = field(default_factory=DryRunOptions)


@dataclass(frozen=True)
class Compare(ManyRuns):
    """Train several methods over several seeds, and report with intervals."""

    source: PossibleSource = None
    """What to train on."""
    methods: tuple[str, ...] = ("sgd", "sam", "imbsam")
    """METHOD or METHOD:OPTION=VALUE,...; the first is the baseline. For instance sgd imbsam:rho=0.1,ascent=friendly.
    A family's name stands for its methods: all, plain, all-classes, class-aware, one-pass."""
    seeds: int = 6
    """Seeds 0 to N-1; each draws its own split, long tail, weights and batches, the same for every method."""
    recipe: str | None = None
    """cifar100-lt, imagenet-lt, inaturalist-2018, each also with .corrected behind it, or a YAML file: methods, seeds
    and options of a paper, whose data are checked. --config and the command line go before it; a METHOD that it knows
    takes the recipe's options for it."""
    out: Path | None = None
    """Folder for the comparison. Default: runs/compare-SOURCE, with a recipe runs/RECIPE. Finished runs in it are not
    run again."""
    quiet: bool = False
    """Print the result only."""
    dry: FlatDryRun = field(default_factory=DryRunOptions)


@dataclass(frozen=True)
class Tune(ManyRuns):
    """Search options on validation data, with trials that are never lost."""

    source: PossibleSource = None
    """What to train on."""
    search: tuple[str, ...] = ()
    """Options and where: rho=0.02:0.5, a range; tail=auto|fewer-than=20, choices; lr, weight-decay, rho or tail alone
    where they are usually looked for. Default: those of these four that the method has."""
    trials: int = 30
    """How many the study is to have; the same command with a higher number goes on."""
    seeds: int = 1
    """Runs of a trial, with seeds 0 to N-1; the score is their mean."""
    objective: Objective = "balanced"
    """Score on the validation data: balanced accuracy, few-shot recall, macro F1 or accuracy."""
    out: Path | None = None
    """Folder for the study. Default: runs/tune-SOURCE-METHOD. Finished trials in it are not made again."""
    storage: str | None = None
    """Address of an Optuna storage that several machines share, as sqlite:///study.db. Default: a file in the
    folder."""
    quiet: bool = False
    """Print the result only."""


@dataclass(frozen=True)
class Cost(Configured):
    """Say what each method's steps will cost beside plain ones, before training."""

    source: PossibleSource = None
    """What to train on."""
    methods: tuple[str, ...] = ("sgd", "sam", "imbsam", "imbsam:ascent=reuse")
    """METHOD or METHOD:OPTION=VALUE,..., or a family's name, as for compare."""


@dataclass(frozen=True)
class Reproduce(Compare):
    """Short for compare with the recipe of a paper, at full size; see it first with --dry-run."""

    recipe: Annotated[Positional[str], arg(metavar="RECIPE")] = field(kw_only=True)
    """cifar100-lt, imagenet-lt or inaturalist-2018: as the authors' code has it; each also with .corrected behind it:
    judged on data that chose nothing, no loss doubled. Either says what differs. Or a YAML file."""
    source: Annotated[str | None, arg(name="data", metavar="SOURCE")] = field(default=None, kw_only=True)
    """Folder of the data; LISTS@IMAGES where lists and images lie apart."""


@dataclass(frozen=True)
class Evaluate(Command):
    """Measure a trained run on its test data, or on other labelled data."""

    run: Run
    """The run's folder."""
    source: PossibleSource = None
    """Labelled data. Default: the test data of the run."""
    model: str | None = None
    """package.module:callable, where the run's model is code of yours: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read; they are counted and named."""
    tta: TestTime = "none"
    """Images, test-time augmentation. flip: outputs are the mean over an image and its mirror, at twice the work."""
    file: FlatTextFile = field(default_factory=TextFile)
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class Predict(Command):
    """Write the class and its probability for each file or row, as CSV."""

    run: Run
    """The run's folder."""
    source: Source
    """Images or rows, labelled or not; - is standard input."""
    out: Path = Path("predictions.csv")
    """The CSV to write."""
    all_probabilities: bool = False
    """A column for each class too."""
    model: str | None = None
    """package.module:callable, where the run's model is code of yours: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read; they are counted and named."""
    tta: TestTime = "none"
    """Images, test-time augmentation. flip: outputs are the mean over an image and its mirror, at twice the work."""
    file: FlatTextFile = field(default_factory=TextFile)
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class Retrain(Command):
    """Make the last layer of a finished run anew, for the rare classes, as a second run beside it."""

    run: Run
    """The run's folder, of images; it is only read."""
    out: Path | None = None
    """Folder for the new run, which is evaluated, predicted with, reported and exported as any. Default: RUN-HOW."""
    model: str | None = None
    """package.module:callable, where the run's model is code of yours: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    quiet: bool = False
    """Print the result only."""
    options: Annotated[RetrainingOptions, OmitArgPrefixes, arg(name="")] = field(default_factory=RetrainingOptions)


@dataclass(frozen=True)
class Export(Command):
    """Write a trained run as one ONNX or torch.export file, preprocessing and decision inside."""

    run: Run
    """The run's folder."""
    out: Path | None = None
    """The file: .onnx, or .pt2 for torch.export.load. The .json beside it says how to feed it.
    Default: RUN/model.onnx."""
    model: str | None = None
    """package.module:callable, where the run's model is code of yours: it is imported only if you name it here."""
    decision: FlatLaterDecision = field(default_factory=LaterDecision)


@dataclass(frozen=True)
class LabelledRows(Command):
    """A command that reads rows of which some are labelled as anomalies."""

    source: Source
    """CSV, TSV, Excel, Parquet or npz, one file or several; or a folder of images with a subfolder for each label."""
    labels: str | None = None
    """The column that holds the labels: 1 anomaly, 0 or empty unlabelled, -1 known to be normal. npz: y."""
    ignore: tuple[str, ...] = ()
    """Table: columns to leave out, as numbers that only name the rows."""
    text: tuple[str, ...] = ()
    """Table: columns that are text whatever they look like, such as codes that are written in digits."""
    missing: tuple[str, ...] = ("auto",)
    """Table: words for a missing value, beside the empty cell. auto: NA, null and their like; among numbers also ?, -,
    unknown, ..., which is said."""
    image_size: int | None = None
    """Images: pixels of each side; by default as they are."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read; they are counted and named."""
    file: FlatTextFile = field(default_factory=TextFile)
    words: Annotated[LabelWords, OmitArgPrefixes, arg(name="")] = field(default_factory=LabelWords)


@dataclass(frozen=True)
class AnomalyFit(LabelledRows):
    """Fit an anomaly detector on a table or images with a few labelled anomalies."""

    out: Path | None = None
    """Folder for the detector. Default: runs/anomaly-SOURCE."""
    overwrite: bool = False
    """Replace a detector that is there."""
    seed: int = 0
    """All randomness follows from it."""
    quiet: bool = False
    """Print the result only."""
    settings: Annotated[Settings, OmitArgPrefixes, arg(name="")] = field(default_factory=Settings)


@dataclass(frozen=True)
class AnomalyScore(Command):
    """Write the score of each row or image, and whether it is an anomaly, as CSV."""

    detector: Detector
    """Folder that `imbsam anomaly fit` wrote."""
    source: Source
    """Rows or images, labelled or not; a table is gone through some rows at a time, whatever its size. - is standard
    input."""
    out: Path = Path("scores.csv")
    """The CSV to write."""
    id: str | None = None
    """Table: the column that names the rows; by default they are numbered from 1."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read; they are counted and named."""
    file: FlatTextFile = field(default_factory=TextFile)


@dataclass(frozen=True)
class AnomalyEvaluate(Command):
    """Compare scores with labels: areas with intervals, curves, thresholds, the rows that stand out."""

    detector: Detector
    """Folder that `imbsam anomaly fit` wrote."""
    source: Source
    """Labelled rows or images; unlabelled ones count as normal."""
    labels: str | None = None
    """The column that holds the labels. Default: the one of the fit."""
    out: Path | None = None
    """Folder for the report. Default: the detector's folder."""
    id: str | None = None
    """Table: the column that names the rows."""
    device: str = "cpu"
    """cpu, cuda, ..."""
    skip_bad: bool = False
    """Leave out rows with too many or too few cells, and images that cannot be read; they are counted and named."""
    file: FlatTextFile = field(default_factory=TextFile)


@dataclass(frozen=True)
class AnomalyCompare(LabelledRows):
    """Compare detectors by cross-validation over the labelled anomalies, and say what these can tell."""

    detectors: tuple[str, ...] = ("default", "forest", "boosting", "logistic", "isolation-forest")
    """NAME or NAME:OPTION=VALUE,...; the first is what the others are held to. default: the detector of `imbsam anomaly
    fit`; devnet, hsc, bce, focal, deep-sad, deep-svdd, feawad, prenet, rosas, with its options; of scikit-learn forest,
    boosting, logistic, isolation-forest. For instance default default:method=plain forest:n_estimators=500."""
    seeds: int | None = None
    """Repeats of the cross-validation, each with other folds and another seed. Default: 5 with fewer than 10 labelled
    anomalies, 3 with fewer than 50, else 1."""
    out: Path | None = None
    """Folder for report and numbers. Default: runs/anomaly-compare-SOURCE."""
    seed: int = 0
    """The first seed."""
    quiet: bool = False
    """Print the result only."""


@dataclass(frozen=True)
class Sharpness(Command):
    """Measure how sharp the loss surface is for each class and group of trained runs."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN [RUN ...]")]
    """Folders of runs, or of a comparison for all of its runs. The first one's method is the baseline."""
    out: Path | None = None
    """Folder for report, figures and JSON. Default: RUN/sharpness of a single run, else runs/sharpness."""
    model: str | None = None
    """package.module:callable, where the run's model is code of yours: it is imported only if you name it here."""
    device: str = "auto"
    """cpu, cuda, ..."""
    quiet: bool = False
    """Print the result only."""
    options: Annotated[SharpnessOptions, OmitArgPrefixes, arg(name="")] = field(default_factory=SharpnessOptions)


@dataclass(frozen=True)
class Report(Command):
    """Write the HTML report of a run or a comparison anew."""

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
    """The command's defaults with those of its recipe and its --config file, so that the command line overrides both.

    Raises:
        OptionError: If a file cannot be read or holds a value that cannot be; it is named.
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
    """Settings of the recipe and of the file, each with the name of where they are from."""
    if recipe is not None:
        # With it comes torch, which the help of a command must not wait for.
        from imbsam.studies.recipes import Recipe

        yield recipe, Recipe.read(recipe).settings
    if config is not None:
        yield config, read_yaml(config)
