"""Sharpness of a trained run: rows of its data, the chosen measures, and the file that stores them."""

import hashlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from imbsam import data, sharpness
from imbsam.data.transforms import Transform
from imbsam.errors import DataError, OptionError
from imbsam.runs.folder import RunFolder
from imbsam.runs.sharpness_options import MeasureName, SharpnessOptions
from imbsam.runs.sharpness_record import (
    Ascents,
    Drawing,
    HessianTrace,
    Losses,
    Measured,
    Measures,
    SharpnessRecord,
    Spectrum,
)
from imbsam.runs.trained import Trained
from imbsam.storage.records import SCHEMA, read_record, write_record
from imbsam.training import setup
from imbsam.training.criterion import loss_of
from imbsam.training.defaults import DEFAULTS, kind_of
from imbsam.training.methods import check_network

TOLERANCE = 0.01
"""Residual of an eigenvalue, as a share of the largest, below which reports do not mention it."""
ROWS_IN_MEMORY = 2**30
"""Largest size in bytes of inputs kept in memory; larger inputs are read again in each pass."""
COST: Mapping[MeasureName, int] = {"spectrum": 4, "trace": 4, "sam": 4, "line": 1, "plane": 1}
"""Work for a row, a forward being 1: measured on ResNet-20, where a Hessian product through a kept graph is 3 to 4."""

F = TypeVar("F")

OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Step:
    """Piece of work whose result is stored when it is done.

    Args:
        measure: Name of the measure.
        keys: Names of the result; several if parts have the same classes.
        rows: Row passes: the number of rows times the passes over each.
        done: Whether it was done before.
        work: Function that does it and adds the result to the record.
    """

    measure: MeasureName
    keys: Sequence[str]
    rows: int
    done: bool
    work: Callable[[], None]

    @property
    def cost(self) -> int:
        """Approximate cost, in forwards of a row."""
        return self.rows * COST[self.measure]


class RunSharpness:
    """Measures of one run; finished ones are stored in ``sharpness-SPLIT.json`` in its folder.

    Args:
        path: Folder of the run.
        options: Options of the measures.
        device: Device that computes.
        model: See :meth:`Trained.open`.

    Raises:
        ImbsamError: If there is no usable run, its data have no such part, or an option is out of range.
    """

    def __init__(
        self, path: Path, options: SharpnessOptions, *, device: str = "auto", model: str | None = None
    ) -> None:
        options.check()
        trained = Trained.open(path, device=device, model=model)
        check_network(trained.options.method.method, "imbsam sharpness")
        if trained.second is not None:
            raise OptionError(
                f"imbsam sharpness measures the loss that a whole network was trained with, but {path} is a "
                f"second stage: measure the run {trained.second.of}."
            )
        if options.epoch == "last":
            trained.model.load_state_dict(RunFolder(path).read_checkpoint().measured)
        problem = setup.load_problem(trained.source, trained.options, held=trained.preprocess)
        problem.check_same_data(trained.classes, trained.priors.counts.tolist())
        samples = problem.dataset.train if options.split == "train" else problem.dataset.validation
        if samples is None:
            raise DataError(f"the run in {path} has no validation data. Measure on --split train.")
        self.options, self.path = options, path
        self.file = RunFolder(path).sharpness(options.split)
        self.rho = float(str(DEFAULTS[kind_of(trained.spec)]["rho"])) if options.rho is None else options.rho
        rows = _rows(samples, data.evaluation_transform(trained.spec), len(trained.classes), options)
        criterion = loss_of(trained.options, trained.priors).to(setup.device_of(device))
        self.surface = sharpness.LossSurface(
            trained.model,
            criterion,
            rows,
            batch_size=options.batch_size,
            dtype=torch.float64 if options.float64 else None,
        )
        named = sharpness.parts_of(trained.groups, problem.tail)
        self.groups = {name: p for name, part in named.items() if (p := [c for c in part if rows.drawn[c]])}
        if options.along != "random" and options.along not in self.groups:
            raise OptionError(
                f"--along {options.along}: {path} has no rows of this group in its {options.split} data. "
                f"It has {', '.join(self.groups)}."
            )
        self.record = self._continued(trained, problem)

    @property
    def without_rows(self) -> list[str]:
        """Names of the classes that have no row in this part of the data."""
        return [name for name, drawn in zip(self.record.classes, self.record.drawn, strict=True) if not drawn]

    def todo(self) -> list[Step]:
        """Steps that are not finished yet."""
        return [step for step in self._steps() if not step.done]

    def measure(self, on_progress: OnProgress | None = None) -> SharpnessRecord:
        """Do the remaining steps, and write the file after each.

        Args:
            on_progress: Function called with the name of the next measure, the cost of the steps done and of all steps.

        Returns:
            Content of the file.

        Raises:
            NonFiniteError: If a loss or a derivative is NaN or infinite at the weights.
            RunError: If the file cannot be written.
        """
        steps = self.todo()
        total, done = sum(step.cost for step in steps), 0
        for step in steps:
            if on_progress is not None:
                on_progress(f"{step.measure} {self._called(step.keys[0])}".strip(), done, total)
            step.work()
            write_record(self.file, self.record)
            done += step.cost
        if "trace" in self.options.measures:
            self._sum_traces()
            write_record(self.file, self.record)
        if on_progress is not None:
            on_progress("", total, total)
        return read_record(SharpnessRecord, self.file)

    def _continued(self, trained: Trained, problem: setup.Problem) -> SharpnessRecord:
        """Return the content of the file for the same rows and weights, with a place for each measure."""
        folder, chosen, rows = RunFolder(self.path), self.options, self.surface.rows
        about = SharpnessRecord(
            schema=SCHEMA,
            name=self.path.resolve().name,
            label=folder.read_result().label if folder.result.exists() else trained.options.method.method,
            seed=trained.options.training.seed,
            source=trained.source,
            loss=trained.options.loss.loss,
            split=chosen.split,
            settings=Drawing(chosen.epoch, chosen.rows, chosen.seed, chosen.float64),
            weights=hashlib.sha256(self.surface.weights.cpu().numpy().tobytes()).hexdigest(),
            parameters=len(self.surface.weights),
            classes=trained.classes,
            counts=tuple(trained.priors.counts.tolist()),
            groups=trained.groups,
            tail=tuple(problem.tail.tolist()),
            sizes=tuple(rows.sizes.tolist()),
            drawn=tuple(rows.drawn.tolist()),
            parts={name: tuple(part) for name, part in self.groups.items()},
            measured=Measures(),
        )
        measured = about.measured
        if self.file.exists():
            held = read_record(SharpnessRecord, self.file)
            if (held.settings, held.weights, held.parts) == (about.settings, about.weights, about.parts):
                measured = held.measured
        measured = Measures(
            spectrum=self._kept("spectrum", measured.spectrum),
            trace=self._kept("trace", measured.trace),
            sam=self._kept("sam", measured.sam),
            line=self._kept("line", measured.line),
            plane=self._kept("plane", measured.plane),
        )
        return replace(about, measured=measured)

    def _kept(self, measure: MeasureName, held: Measured[F]) -> Measured[F]:
        """Return what was measured before, unless its options differ now."""
        if measure not in self.options.measures or held.options == (wanted := self._options_of(measure)):
            return held
        return Measured(wanted)

    def _options_of(self, measure: MeasureName) -> Mapping[str, int | float | str]:
        o = self.options
        along: dict[str, int | float | str] = {"along": o.along, "span": o.span}
        if o.along != "random":
            along["iterations"] = o.iterations
        every: Mapping[MeasureName, Mapping[str, int | float | str]] = {
            "spectrum": {"iterations": o.iterations},
            "trace": {"probes": o.probes},
            "sam": {"rho": self.rho, "adaptive_rho": o.adaptive_rho, "steps": o.ascent_steps},
            "line": {"points": o.points, **along},
            "plane": {"points": o.plane_points, **along},
        }
        return every[measure]

    def _called(self, key: str) -> str:
        return f"class {self.record.classes[int(key)]}" if key.isdigit() else key

    def _steps(self) -> Iterator[Step]:
        makers: Mapping[MeasureName, Callable[[], Iterator[Step]]] = {
            "spectrum": self._spectra,
            "trace": self._traces,
            "sam": self._ascents,
            "line": self._lines,
            "plane": self._planes,
        }
        # Groups come first: an interrupted command has then measured what its table shows.
        for name in self.options.measures:
            yield from makers[name]()

    def _parts(self) -> Iterator[tuple[Sequence[str], Sequence[int], int]]:
        """Return names, classes and rows of each part; parts with the same classes are grouped."""
        names: dict[tuple[int, ...], list[str]] = {}
        for name, part in (*self.groups.items(), *((str(c), [c]) for c in self.surface.classes)):
            names.setdefault(tuple(part), []).append(name)
        for classes, called in names.items():
            yield called, classes, int(self.surface.rows.drawn[list(classes)].sum())

    def _spectra(self) -> Iterator[Step]:
        o, measured = self.options, self.record.measured.spectrum

        def work(part: Sequence[int]) -> Spectrum:
            extremes, density = sharpness.spectrum(
                self.surface, part, steps=o.iterations, tolerance=TOLERANCE, seed=o.seed
            )
            return Spectrum(
                extremes.largest,
                extremes.smallest,
                extremes.largest_residual,
                extremes.smallest_residual,
                extremes.converged,
                tuple(density.nodes.tolist()),
                tuple(density.weights.tolist()),
            )

        for names, part, rows in self._parts():
            yield _step("spectrum", measured, names, o.iterations * rows, partial(work, part))

    def _traces(self) -> Iterator[Step]:
        o, measured = self.options, self.record.measured.trace

        def work(index: int) -> HessianTrace:
            samples = sharpness.trace_samples(self.surface, [index], probes=o.probes, seed=o.seed)
            return replace(_trace(samples), samples=tuple(samples.tolist()))

        for index in self.surface.classes:
            rows = int(self.surface.rows.drawn[index])
            yield _step("trace", measured, [str(index)], o.probes * rows, partial(work, index))

    def _sum_traces(self) -> None:
        """Compute the traces of the groups from those of their classes."""
        found = self.record.measured.trace.found
        samples = torch.full((self.options.probes, self.surface.rows.num_classes), torch.nan, dtype=torch.float64)
        for index in self.surface.classes:
            samples[:, index] = torch.tensor(found[str(index)].samples, dtype=torch.float64)
        for name, part in self.groups.items():
            found[name] = _trace(self.surface.mean_loss(samples, part))

    def _ascents(self) -> Iterator[Step]:
        o, measured = self.options, self.record.measured.sam

        def work(part: Sequence[int]) -> Ascents:
            plain = sharpness.sam_sharpness(self.surface, part, rho=self.rho, steps=o.ascent_steps)
            adaptive = sharpness.sam_sharpness(
                self.surface, part, rho=o.adaptive_rho, steps=o.ascent_steps, adaptive=True
            )
            return Ascents(plain.rise, adaptive.rise, plain.loss, plain.gradient_norm)

        for names, part, rows in self._parts():
            yield _step("sam", measured, names, 2 * o.ascent_steps * rows, partial(work, part))

    def _lines(self) -> Iterator[Step]:
        offsets = _offsets(self.options.span, self.options.points)

        def work() -> Losses:
            return Losses(offsets, _finite(sharpness.line(self.surface, self._directions[0], offsets)))

        rows = len(offsets) * len(self.surface.rows.targets)
        yield _step("line", self.record.measured.line, ["line"], rows, work)

    def _planes(self) -> Iterator[Step]:
        offsets = _offsets(self.options.span, self.options.plane_points)

        def work(b: float) -> Losses:
            return Losses(offsets, _finite(sharpness.plane(self.surface, self._directions, offsets, [b])[0]))

        rows = len(offsets) * len(self.surface.rows.targets)
        for number, b in enumerate(offsets):
            yield _step("plane", self.record.measured.plane, [f"row {number}"], rows, partial(work, b))

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        chosen = self.options
        if chosen.along == "random":
            first, second = (sharpness.random_direction(self.surface, 2 * chosen.seed + place) for place in range(2))
            return first, second
        part = self.groups[chosen.along]
        found = sharpness.extreme_eigenvalues(
            self.surface, part, steps=chosen.iterations, vectors=True, seed=chosen.seed
        )
        assert found.vectors is not None
        return found.vectors


def _rows(samples: data.Samples, transform: Transform, classes: int, options: SharpnessOptions) -> sharpness.Rows:
    def fetch(indices: Tensor) -> Tensor:
        return transform(samples.batch(indices), None)

    rows = sharpness.Rows.draw(fetch, samples.targets, num_classes=classes, per_class=options.rows, seed=options.seed)
    one = fetch(rows.indices[:1])
    return rows.in_memory() if one.nbytes * len(rows.indices) <= ROWS_IN_MEMORY else rows


def _step(measure: MeasureName, measured: Measured[F], keys: Sequence[str], rows: int, work: Callable[[], F]) -> Step:
    """Make a step that stores its result among the measurements."""
    done = keys[0] in measured.found
    return Step(measure, keys, rows, done, lambda: measured.found.update(dict.fromkeys(keys, work())))


def _trace(samples: Tensor) -> HessianTrace:
    found = sharpness.Trace.of(samples)
    return HessianTrace(found.value, found.standard_error)


def _offsets(span: float, points: int) -> tuple[float, ...]:
    return tuple(span * (2 * place / (points - 1) - 1) for place in range(points))


def _finite(losses: Tensor) -> tuple[tuple[float | None, ...], ...]:
    """Return losses of points by classes for JSON, which has neither NaN nor infinity."""
    return tuple(tuple(value if math.isfinite(value) else None for value in row) for row in losses.tolist())
