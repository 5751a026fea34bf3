"""Paths of a run: a folder named after its data by default, and never among the data."""

import glob
import re
from pathlib import Path

from imbsam.errors import OptionError
from imbsam.storage.outputs import check_folder, check_writable, end_of
from imbsam.storage.texts import readable

RUNS = Path("runs")
"""Folder that contains the folders of runs."""

REPORT_FILES = ("report.html", "figures/figure.png")
RUN_FILES = (
    *("config.yaml", "data.json", "metrics.jsonl", "last.ckpt", "previous.ckpt", "best.safetensors", "result.json"),
    *("second-stage.json", "examples.json", "model-card.md", *REPORT_FILES),
)
LONGEST = 48
"""Largest number of letters of a source's name in a folder's name; at four bytes each they leave room for the rest."""


def called_by(source: str) -> str:
    """Return the name of a folder for some data, which any file system accepts.

    Args:
        source: Source as given by the user.
    """
    path = Path(source).resolve()
    name = path.name if path.is_dir() or not path.suffix else path.stem
    return re.sub(r"[^\w.+-]+", "-", name)[:LONGEST].strip("-") or "data"


def free(path: Path) -> Path:
    """Return the path, with a number added if something exists there: a default name never overwrites."""
    number, found = 1, path
    while found.exists():
        number += 1
        found = path.with_name(f"{path.name}-{number}")
    return found


def check_apart(out: Path, source: str) -> None:
    """Refuse an output that would replace input data, or be read with them the next time.

    Args:
        out: File to write.
        source: A file, several (``a,b`` or a pattern), or a folder.

    Raises:
        OptionError: If the output would.
    """
    for piece in {source, *source.split(",")}:
        for name in [piece, *(glob.glob(piece) if glob.has_magic(piece) else ())]:  # noqa: PTH207
            place, end = end_of(Path(name).expanduser()), end_of(out)
            if end == place or (out.exists() and place.exists() and out.samefile(place)):
                raise OptionError(f"{readable(str(out))} would replace the input data. Choose another --out.")
            if place.is_dir() and end.parent == place:
                raise OptionError(
                    f"{readable(str(out))} would be among the input data, in the folder {readable(name)!r}. "
                    "Choose another --out."
                )


def check_file(out: Path, source: str) -> None:
    """Check, before the work, that a file can be written and is not one of the data.

    Raises:
        OptionError: If the file is one of the data, or is among them.
        RunError: If the file cannot be written.
    """
    check_writable(out)
    check_apart(out, source)


def check_run(folder: Path, source: str) -> None:
    """Check that a run can be written into a folder, which is not that of the data.

    Raises:
        OptionError: If the folder is that of the data.
        RunError: If a file cannot be written.
    """
    check_folder(folder, RUN_FILES)
    check_apart(folder / "report.html", source)
