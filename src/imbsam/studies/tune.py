"""Search of options on validation data: trials proposed by Optuna, each an ordinary run per seed, none of them lost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import yaml

from imbsam.config import Objective, Options, to_yaml
from imbsam.errors import OptionError, RunError
from imbsam.optim import METHODS
from imbsam.runs.folder import RunFolder
from imbsam.runs.tracking import Store, chosen, together
from imbsam.storage.files import alone, write_atomically, write_json
from imbsam.storage.records import SCHEMA
from imbsam.studies.compare import PlannedRun, make_runs, state_of
from imbsam.studies.workers import Workers
from imbsam.training.methods import PLAIN, check_network, checked_name, with_own_options

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

STUDY = "imbsam"
PLACE = "folder"
"""Key of a trial's folder in the study, by which trials of other folders are told apart."""
ERRORS = "errors"
"""Key of the errors of failed trials in the study, by number."""


@dataclass(frozen=True)
class Range:
    """Range in which an option is searched.

    Args:
        name: Name of the option.
        values: Lowest and highest number, or the choices.
        kind: ``"log"`` or ``"linear"`` for ranges of floats, or ``"choice"``.
    """

    name: str
    values: tuple[object, ...]
    kind: Literal["log", "linear", "choice"]

    @classmethod
    def parse(cls, text: str) -> "Range":
        """Read ``NAME``, ``NAME=LOW:HIGH`` or ``NAME=A|B|C``.

        A range that spans a factor of ten is searched logarithmically.

        Raises:
            OptionError: If it cannot be read.
        """
        name, equals, rest = text.partition("=")
        name = name.replace("-", "_")
        if not equals:
            if name not in USUAL:
                usual = ", ".join(USUAL).replace("_", "-")
                raise OptionError(f"--search {text}: say where, as {text}=0.1:10 or {text}=a|b. Known: {usual}.")
            return cls.parse(f"{name}={USUAL[name]}")
        if "|" in rest:
            choices = tuple(map(_choice, rest.split("|")))
            if len(set(map(repr, choices))) < len(choices):
                raise OptionError(f"--search {text}: a choice occurs twice.")
            return cls(name, choices, "choice")
        low, colon, high = rest.partition(":")
        try:
            least, most = float(low), float(high)
        except ValueError:
            colon = ""
        if not colon or not math.isfinite(most - least) or least >= most:
            raise OptionError(
                f"--search {text}: give LOW:HIGH or A|B|C, such as rho=0.02:0.5 or tail=fewer-than=20|auto."
            )
        return cls(name, (least, most), "log" if least > 0 and most >= 10 * least else "linear")

    def distribution(self) -> "BaseDistribution":
        """Distribution from which Optuna draws."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        if self.kind == "choice":
            return CategoricalDistribution(self.values)
        low, high = cast(tuple[float, float], self.values)
        return FloatDistribution(low, high, log=self.kind == "log")


def _choice(text: str) -> object:
    """Return a value from the user's text; plain YAML would read 1e-6 as a word."""
    value: object = yaml.safe_load(text)
    if isinstance(value, str):
        with suppress(ValueError):
            return float(value)
    return value


USUAL: Mapping[str, str] = {
    "lr": "0.01:0.3",
    "weight_decay": "1e-5:1e-2",
    "rho": "0.02:0.5",
    "tail": "auto|rarest-classes=0.2|rarest-classes=0.4|rarest-classes=0.6",
}
"""Default ranges of the options."""


def usual_search(options: Options) -> tuple[Range, ...]:
    """Return the default search: learning rate, weight decay, rho and tail, as far as a method has them."""
    name = checked_name(options.method.method)
    check_network(name, "imbsam tune, by default")
    names = ["lr", "weight_decay"]
    if name not in PLAIN:
        names += ["rho", *(["tail"] if METHODS[name].kind.class_aware else [])]
    return tuple(Range.parse(each) for each in names)


@dataclass(frozen=True)
class Tried:
    """Trial of a study.

    Args:
        number: Number of the trial, from 0.
        values: Values of its options by name.
        score: Mean of the objective over its seeds; None if the trial failed.
        error: Error of a failed trial.
    """

    number: int
    values: Mapping[str, object]
    score: float | None
    error: str | None = None


@dataclass(frozen=True)
class Search:
    """Definition of a search.

    Args:
        ranges: Options and their ranges.
        trials: Number of trials of the study.
        seeds: Seeds of each trial's runs.
        objective: Score on the validation data, of the epoch that a run keeps.
        storage: Address of an Optuna storage that other machines share; by default a file in the folder.
    """

    ranges: Sequence[Range]
    trials: int = 30
    seeds: Sequence[int] = (0,)
    objective: Objective = "balanced"
    storage: str | None = None

    def __post_init__(self) -> None:
        names = [each.name for each in self.ranges]
        if not names or len(set(names)) < len(names):
            raise OptionError(f"--search needs different options, at least one; got {' '.join(names) or 'none'}.")
        if self.trials < 1:
            raise OptionError(f"--trials must be at least 1; got {self.trials}.")


def tune(
    folder: Path, source: str, options: Options, search: Search, *, workers: Workers, command: str = ""
) -> Iterator[Tried]:
    """Make trials until the study has enough, and yield how each ended.

    Proposals are made for all workers at once, each a function of the seed, its number and the trials before. A study
    with one worker repeats bit for bit, interrupted or not. A trial that was running when the process ended is resumed.
    Test data are not used.

    Args:
        folder: Folder of the study.
        source: The data.
        options: Options that are not searched.
        search: Definition of the search.
        workers: Workers that make the runs.
        command: Command that the user typed.

    Yields:
        Each trial, earlier ones first.

    Raises:
        OptionError: If Optuna is not installed, or an option to search is unknown.
        RunError: If another process uses the folder, or the folder contains another study.
    """
    try:
        import optuna
    except ImportError:
        raise OptionError("imbsam tune needs the package optuna: pip install 'imbsam[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    for each in search.ranges:
        with_own_options(options, {each.name: each.values[0]})
    track = chosen(options.training.track)
    folder = folder.resolve()
    with alone(folder):
        study = _study(folder, source, options, search)
        with together(track, folder, source, command) as store:
            held = study.get_trials(deepcopy=False)
            mine = [trial for trial in held if search.storage is None or trial.user_attrs.get(PLACE) == str(folder)]
            yield from (_told(study, trial) for trial in mine if trial.state.is_finished())
            begun = [trial for trial in mine if not trial.state.is_finished()]
            space = {each.name: each.distribution() for each in search.ranges}
            while True:
                missing = search.trials - len(study.get_trials(deepcopy=False)) + len(begun)
                batch: list[tuple[int, Mapping[str, object]]] = [(trial.number, trial.params) for trial in begun]
                begun = []
                while len(batch) < min(missing, workers.number(search.trials)):
                    batch.append(_proposed(study, space, options.training.seed, folder))
                if not batch:
                    break
                yield from _carried_out(study, folder, source, options, search, batch, workers, store)
        write_json(folder / "tune.json", _summed_up(study, source, search, command))


def best_of(tried: Sequence[Tried]) -> Tried:
    """Return the trial with the highest score.

    Raises:
        RunError: If every trial failed.
    """
    scored = [each for each in tried if each.score is not None]
    if not scored:
        reasons = next((each.error for each in tried if each.error), "there was no trial")
        raise RunError(f"every trial failed; the first: {reasons}")
    return max(scored, key=lambda each: (cast(float, each.score), -each.number))


def write_best(folder: Path, options: Options, best: Tried) -> Path:
    """Write the options of the best trial to a file for ``--config``.

    Args:
        folder: Folder of the study.
        options: Options that were not searched.
        best: The trial.

    Returns:
        Path of the file.
    """
    path = folder / "best.yaml"
    write_atomically(path, to_yaml(with_own_options(options, best.values).flat()))
    return path


def _study(folder: Path, source: str, options: Options, search: Search) -> "Study":
    import optuna
    from optuna.storages import JournalStorage

    from imbsam.studies.journal import Journal

    storage = search.storage or JournalStorage(Journal(folder / "trials.journal"))
    study = optuna.create_study(storage=storage, study_name=STUDY, direction="maximize", load_if_exists=True)
    asked = {
        "source": source,
        "options": options.deciding(),
        "objective": search.objective,
        "seeds": list(search.seeds),
        "search": {each.name: [*each.values] for each in search.ranges},
    }
    held = study.user_attrs.get("asked")
    if held is None:
        study.set_user_attr("asked", asked)
        return study
    differing = [name for name, value in asked.items() if name != "options" and held.get(name) != value]
    differing += options.differing(held.get("options", {}))
    if differing:
        raise RunError(
            f"{search.storage or folder} holds a study with another {', '.join(differing)}. Choose another --out."
        )
    return study


def _proposed(
    study: "Study", space: Mapping[str, "BaseDistribution"], seed: int, folder: Path
) -> tuple[int, Mapping[str, object]]:
    """Start a trial in a single write: a process that is killed leaves it with all its values, or not at all.

    Returns:
        Its number and its values.
    """
    import optuna
    from optuna.trial import TrialState, create_trial

    held = study.get_trials(deepcopy=False)
    # Of the number, so that a study that was interrupted goes on as it would have.
    sampler = optuna.samplers.TPESampler(seed=seed + len(held))
    beside = optuna.create_study(direction="maximize", sampler=sampler)
    beside.add_trials(trial for trial in held if trial.state != TrialState.WAITING)
    values = beside.ask(dict(space)).params
    mine = {PLACE: str(folder)}
    study.add_trial(create_trial(state=TrialState.RUNNING, params=values, distributions=dict(space), user_attrs=mine))
    numbers = [trial.number for trial in study.get_trials(deepcopy=False) if trial.user_attrs.get(PLACE) == mine[PLACE]]
    return max(numbers), values


def _carried_out(
    study: "Study",
    folder: Path,
    source: str,
    options: Options,
    search: Search,
    batch: Sequence[tuple[int, Mapping[str, object]]],
    workers: Workers,
    store: Store | None,
) -> Iterator[Tried]:
    """Make the runs of some trials, and report to the study."""
    from optuna.trial import TrialState

    runs: dict[int, list[PlannedRun]] = {}
    errors: dict[int, str] = {}
    for number, values in batch:
        try:
            runs[number] = [_planned(folder, options, number, values, seed) for seed in search.seeds]
        except OptionError as error:
            errors[number] = str(error)
    of_trial = {run.folder: number for number, planned in runs.items() for run in planned}
    todo = [run for planned in runs.values() for run in planned if state_of(run, source) != "finished"]
    for outcome in make_runs(source, todo, workers, store):
        if outcome.error:
            errors.setdefault(of_trial[outcome.run.folder], outcome.error)
    for number, values in batch:
        score = None if number in errors else _score(runs[number], search.objective)
        if score is None:
            reason = errors.get(number, f"its runs have no {search.objective} on validation data")
            study.set_user_attr(ERRORS, {**study.user_attrs.get(ERRORS, {}), str(number): reason})
            study.tell(number, state=TrialState.FAIL)
            yield Tried(number, values, None, reason)
        else:
            study.tell(number, score)
            yield Tried(number, values, score)


def _planned(folder: Path, options: Options, number: int, values: Mapping[str, object], seed: int) -> PlannedRun:
    chosen = with_own_options(options, {**values, "seed": seed})
    return PlannedRun(folder / "runs" / f"trial{number:04}-seed{seed}", f"trial{number:04}", chosen)


def _score(runs: Sequence[PlannedRun], objective: Objective) -> float | None:
    scores = []
    for run in runs:
        validation = RunFolder(run.folder).read_result().validation
        value = None if validation is None else validation.of(objective)
        if value is None:
            return None
        scores.append(value)
    return math.fsum(scores) / len(scores)


def _told(study: "Study", trial: "FrozenTrial") -> Tried:
    return Tried(trial.number, trial.params, trial.value, study.user_attrs.get(ERRORS, {}).get(str(trial.number)))


def _summed_up(study: "Study", source: str, search: Search, command: str) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "source": source,
        "command": command,
        "objective": search.objective,
        "seeds": list(search.seeds),
        "trials": [vars(_told(study, trial)) for trial in study.get_trials(deepcopy=False)],
    }
