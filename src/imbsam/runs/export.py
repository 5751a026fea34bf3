"""Export of a trained run to one file that does not need this package: ONNX, or torch.export's own format."""

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn

from imbsam import data
from imbsam.data.columns import UNSEEN, Columns, codes_of
from imbsam.errors import OptionError, RunError
from imbsam.inputs import ImageSpec, TableSpec
from imbsam.runs.trained import Trained
from imbsam.storage.files import write_atomically, write_json
from imbsam.storage.outputs import check_writable

FORMATS = (".onnx", ".pt2")
OUTPUTS = ("logits", "probabilities", "class")

TOLERANCE = 1e-4
"""Largest allowed difference of a probability between the file and the run's model, on the rows of the check."""

CHECKED_ROWS = 3
"""Number of rows of the check; the example has 2, so that another number shows that the batch size is free."""


class Deployed(nn.Module):
    """Model of a run from raw samples to probabilities and a class: preprocessing, network, calibration, decision.

    Images are uint8 ``(B, channels, height, width)`` of the size trained on. Table rows are float64
    ``(B, columns)``: the numeric columns as in the table (dates in days since 1970, NaN where missing), then the code
    of each categorical column. Outputs are logits and probabilities, float32, each ``(B, C)``, and the index of the
    predicted class, int64 ``(B,)``.

    Args:
        trained: The run; its model is put in eval mode, on the CPU.
    """

    def __init__(self, trained: Trained) -> None:
        super().__init__()
        self.network = trained.model.cpu().eval()
        self.inputs = TableColumns(Columns.of(trained.preprocess)) if isinstance(trained.spec, TableSpec) else None
        self.normalise = data.evaluation_transform(trained.spec)
        posterior = trained.posterior
        self.scale = posterior.scale * posterior.calibration.evidence
        shift = posterior.evidence(torch.zeros(1, len(trained.classes)))[0]
        self.told = nn.Buffer((shift + posterior.told).float())
        self.weights = nn.Buffer((shift + posterior.weights).float())

    def forward(self, samples: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute logits, probabilities and classes."""
        inputs = self.normalise(samples, None) if self.inputs is None else self.inputs(samples)
        evidence = self.network(inputs).float() * self.scale
        logits = evidence + self.told
        return logits, torch.softmax(logits, dim=1), (evidence + self.weights).argmax(dim=1)


class TableColumns(nn.Module):
    """Encoding of raw rows for the network, like :func:`imbsam.data.columns.encoded`: filled, standardised, marked.

    Args:
        columns: Columns of the run.
    """

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.numeric = len(columns.numeric)
        statistics = [(column["median"], column["mean"], column["std"]) for column in columns.numeric]
        table = torch.tensor(statistics, dtype=torch.float64).view(self.numeric, 3)
        # Copies: buffers that share memory make torch.export.save warn.
        self.median, self.mean, self.std = (nn.Buffer(values.clone()) for values in table.unbind(dim=1))
        marked = [place for place, column in enumerate(columns.numeric) if column["indicator"]]
        self.marked = nn.Buffer(torch.tensor(marked, dtype=torch.long))

    def forward(self, rows: Tensor) -> Tensor:
        """Encode rows as float32 ``(B, features)``: numbers, indicators of missing values, codes."""
        numbers, codes = rows[:, : self.numeric], rows[:, self.numeric :]
        missing = torch.isnan(numbers)
        standardised = torch.where(missing, self.median, numbers) / self.std - self.mean / self.std
        return torch.cat([standardised, missing[:, self.marked].to(rows.dtype), codes], dim=1).float()


def export(trained: Trained, out: Path) -> float:
    """Write a run's model to ``out``, and a description of its inputs and outputs to :func:`about`.

    The file is read back and run before it is kept.

    Args:
        trained: The run.
        out: Path that ends in ``.onnx``, for onnxruntime and others, or ``.pt2``, for :func:`torch.export.load`.

    Returns:
        Largest difference of a probability between the file and the run's model.

    Raises:
        OptionError: If the path has another suffix, or a package that the format needs is not installed.
        RunError: If the model cannot be exported, or the file gives other probabilities.
    """
    check(out)
    module = Deployed(trained).eval()
    rows = sample(trained, CHECKED_ROWS)
    with torch.no_grad():
        expected = module(rows)[1]
    write, run = (_onnx, _run_onnx) if out.suffix == ".onnx" else (_pt2, _run_pt2)
    content = write(module, rows[:2])
    difference = float((run(content, rows) - expected).abs().max())
    if not difference <= TOLERANCE:
        raise RunError(
            f"the exported model's probabilities differ from the run's by {difference:.2g}, more than {TOLERANCE:g}; "
            "nothing was written."
        )
    write_json(about(out), description(trained))
    write_atomically(out, content)
    return difference


def check(out: Path) -> None:
    """Check that a file of this format can be made here.

    Raises:
        OptionError: If the suffix is another, or a package that the format needs is not installed.
        RunError: If the file cannot be written.
    """
    if out.suffix not in FORMATS:
        raise OptionError(f"--out {out}: the suffix must be {' or '.join(FORMATS)}.")
    missing = [name for name in ("onnx", "onnxruntime", "onnxscript") if find_spec(name) is None]
    if out.suffix == ".onnx" and missing:
        raise OptionError(f"ONNX needs {' and '.join(missing)}: pip install 'imbsam[onnx]'. Or export to .pt2.")
    for path in (out, about(out)):
        check_writable(path)


def about(out: Path) -> Path:
    """Return the path of the description of an exported model: the model's whole name with ``.json`` added.

    A run's folder has its own ``data.json``, which ``data.onnx`` must not replace.
    """
    return out.with_name(f"{out.name}.json")


def sample(trained: Trained, count: int) -> Tensor:
    """Draw random raw samples of the kind that the exported model takes.

    Args:
        trained: The run.
        count: Number of samples B.

    Returns:
        Images, uint8 ``(B, channels, height, width)``, or rows, float64 ``(B, columns)``, with a missing value.
    """
    generator = torch.Generator().manual_seed(0)
    spec = trained.spec
    if isinstance(spec, ImageSpec):
        shape = (count, spec.channels, spec.height, spec.width)
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    columns = TableColumns(Columns.of(trained.preprocess))
    noise = torch.randn(count, columns.numeric, dtype=torch.float64, generator=generator)
    numbers = columns.mean + columns.std * noise
    numbers[0, columns.marked] = torch.nan
    codes = [torch.randint(codes, (count, 1), generator=generator).double() for codes in spec.cardinalities]
    return torch.cat([numbers, *codes], dim=1)


def description(trained: Trained) -> dict[str, object]:
    """Describe inputs and outputs of the exported model, as plain JSON values.

    Args:
        trained: The run.

    Returns:
        Names of classes in the order of the outputs; shape, dtype and meaning of the input.
    """
    spec = trained.spec
    posterior = trained.posterior
    found: dict[str, object] = {"outputs": list(OUTPUTS), "classes": list(trained.classes)}
    found |= {
        "training_counts": trained.priors.counts.tolist(),
        "class_prior_of_probabilities": posterior.told.exp().tolist(),
        "weights_of_decision": (posterior.weights - posterior.told).exp().tolist(),
        "calibration": asdict(posterior.calibration),
    }
    if isinstance(spec, ImageSpec):
        shape = ["batch", spec.channels, spec.height, spec.width]
        return found | {"input": {"name": "samples", "dtype": "uint8", "shape": shape, "values": "pixels, 0 to 255"}}
    held = Columns.of(trained.preprocess)
    said = {"date": "date, in days since 1970-01-01", "duration": "duration, in days"}
    kinds = {kind.name: said.get(kind.kind, "number") for kind in held.schema.columns}
    columns: list[dict[str, object]] = [
        {"name": column["name"], "kind": kinds[column["name"]]} for column in held.numeric
    ]
    for category in held.categorical:
        codes, missing = codes_of(category)
        columns.append(
            {"name": category["name"], "kind": "category", "codes": codes, "unseen": UNSEEN, "missing": missing}
        )
    shape = ["batch", len(columns)]
    return found | {
        "input": {"name": "samples", "dtype": "float64", "shape": shape, "missing number": "NaN", "columns": columns}
    }


def _program(module: Deployed, example: Tensor) -> torch.export.ExportedProgram:
    try:
        return torch.export.export(module, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # torch.export has no error of its own: whatever a model's code does may fail it.
        raise RunError(f"torch.export cannot trace this model: {str(error).splitlines()[0]}") from error


def _pt2(module: Deployed, example: Tensor) -> bytes:
    content = io.BytesIO()
    torch.export.save(_program(module, example), content)
    return content.getvalue()


def _onnx(module: Deployed, example: Tensor) -> bytes:
    traced = _program(module, example)
    with _quiet():
        program = torch.onnx.export(
            traced,
            input_names=["samples"],
            output_names=list(OUTPUTS),
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return cast(bytes, program.model_proto.SerializeToString())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the ONNX exporter's warnings on its own deprecated calls and on packages, which no user can change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _run_onnx(content: bytes, rows: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["probabilities"], {"samples": rows.numpy()})[0])


def _run_pt2(content: bytes, rows: Tensor) -> Tensor:
    module = torch.export.load(io.BytesIO(content)).module()
    with torch.no_grad():
        return cast(Tensor, module(rows)[1])
