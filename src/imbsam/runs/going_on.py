"""Resuming a run: its source and options are those that it was started with."""

from pathlib import Path

from imbsam.config import WITHOUT_EFFECT, Options
from imbsam.errors import OptionError, RunError
from imbsam.runs.folder import RunFolder
from imbsam.runs.trained import check_named


def begun(path: Path, asked: Options) -> tuple[RunFolder, str, Options]:
    """Return the run to resume.

    Args:
        path: Folder of the run.
        asked: Options that the user gives now; only those that do not change the result may differ from the defaults.

    Returns:
        The folder, the source, and the options of the run with those given now.

    Raises:
        OptionError: If an option that changes the result is given.
        RunError: If there is no run, or it is finished.
    """
    folder = RunFolder(path)
    source, options = folder.read_config()
    usual = Options().flat()
    given = {name: value for name, value in asked.flat().items() if value != usual[name]}
    check_named(folder, options.model.model, asked.model.model)
    if asked.model.model == options.model.model:
        given.pop("model", None)
    if set(given) - set(WITHOUT_EFFECT):
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in WITHOUT_EFFECT)
        raise OptionError(
            f"--resume uses the options of the run; only {flags} may be changed. For a new run choose another --out."
        )
    if folder.result.exists():
        raise RunError(f"the run in {path} is finished. Its report: imbsam report {path}")
    return folder, source, options.updated(given)
