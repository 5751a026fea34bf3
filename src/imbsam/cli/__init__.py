"""The command ``imbsam``: parse, call, print. Nothing slow is imported before a command needs it."""

import os
import re
import sys
from collections.abc import Sequence

from imbsam.cli.terminal import OutputLostError, begin_in_utf8, end_output, prepare
from imbsam.errors import ImbsamError
from imbsam.storage.imports import large_import
from imbsam.storage.interruption import exit_code, raised


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit.

    The exit code is 0 on success, 1 if some of several runs failed, 2 if the input cannot be used or the machine fails
    (memory, disk), and 130, 141 or 143 if a signal ended the command.

    Args:
        arguments: Arguments of the command line; by default those of the process.
    """
    if arguments is None:
        begin_in_utf8()
    prepare()
    try:
        try:
            raise SystemExit(_carried_out(list(sys.argv[1:] if arguments is None else arguments)))
        finally:
            sys.stdout.flush()
    except ImbsamError as error:
        raise SystemExit(_complain(str(error))) from None
    except BrokenPipeError:
        end_output()
        raise SystemExit(141) from None
    except OutputLostError as error:
        end_output()
        raise SystemExit(
            _complain(f"cannot write to standard output: {error}. Files written before are complete.")
        ) from None
    except KeyboardInterrupt as error:
        print("interrupted.", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None
    except Exception as error:
        from imbsam.cli.failures import sentence

        said = sentence(error)
        if said is None:
            raise
        raise SystemExit(_complain(said)) from None


def _carried_out(words: list[str]) -> int:
    """Run the command in the arguments, and return the exit code."""
    if not words:
        print(first_steps())
        return 2
    if words[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"imbsam {version('imbsam')}")
        return 0
    from imbsam.cli.commands import COMMANDS, parse

    if words[0] == "anomaly":
        if words[1:2] in ([], ["-h"], ["--help"]):
            print("usage: imbsam anomaly COMMAND ...\n", *_listed("anomaly "), sep="\n")
            return 0 if words[1:] else 2
        words[:2] = [" ".join(words[:2])]
    if words[0] not in COMMANDS:
        return _complain(f"there is no command {words[0]!r}.\n\n{usage()}")
    with raised():
        if several_processes():
            from imbsam.cli.processes import act_together

            return act_together(words)
        command = parse(words)
        with large_import("torch"):
            from imbsam.cli.actions import act
        return act(command, words)


def several_processes() -> bool:
    """Return whether torchrun started this process beside others."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    return all(os.environ.get(name, "").isdigit() for name in names) and int(os.environ["WORLD_SIZE"]) > 1


def first_steps() -> str:
    """Return the three usual commands, for a command line without any."""
    return "\n".join(
        [
            "Sharpness-aware training for data where some classes are rare.",
            "",
            "A folder of images: compare SGD, SAM and ImbSAM, with a report",
            "  imbsam compare photos/",
            "A table: train a classifier and report its scores on the rare classes",
            "  imbsam train table.csv --target COLUMN",
            "Anomalies: fit a detector with a few labelled anomalies",
            "  imbsam anomaly fit table.csv --labels COLUMN",
            "",
            "Without data of your own: imbsam train digits. All commands: imbsam --help.",
        ]
    )


def usage() -> str:
    """Return the help on all commands, a line each."""
    lines = _listed()
    return "\n".join(
        [
            "usage: imbsam COMMAND ...",
            "",
            "Sharpness-aware training for data where some classes are rare.",
            "",
            *lines,
            "",
            "SOURCE is `digits` (bundled), an image folder, a CSV or Parquet table (--target COLUMN), Parquet images",
            "as on Hugging Face, a CIFAR-10/100 archive, or a folder with ImageNet-LT style lists.",
            "",
            "  imbsam train digits                     a first run, in seconds",
            "  imbsam compare photos/ --seeds 3        SGD, SAM and ImbSAM on your images, with a report",
            "  imbsam train table.csv --target defect  a classifier for a table",
            "  imbsam anomaly fit log.csv --labels y   an anomaly detector from a few labelled anomalies",
            "  torchrun --nproc-per-node 2 -m imbsam train photos/   one run shared by two processes",
            "",
            "imbsam COMMAND --help shows the options of a command.",
        ]
    )


def _listed(prefix: str = "") -> list[str]:
    from imbsam.cli.commands import COMMANDS

    chosen = {name: kind for name, kind in COMMANDS.items() if name.startswith(prefix)}
    width = max(map(len, chosen))
    return [f"  {name:<{width}}  {kind.summary()}" for name, kind in chosen.items()]


def _complain(message: str) -> int:
    # Python quotes a byte that is no text in a way of its own; everywhere else it is \xdf.
    print("imbsam:", re.sub(r"\\udc([89a-f][0-9a-f])", r"\\x\1", message), file=sys.stderr)
    return 2
