"""The command ``imbsam``: parse, call, print. Nothing heavy is imported before a command needs it."""

import os
import sys
from collections.abc import Sequence

from imbsam.cli.commands import COMMANDS, parse
from imbsam.errors import ImbsamError
from imbsam.storage.interruption import exit_code, raised


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 1 some run of several failed, 2 bad input, 130, 141 or 143 ended by a signal.

    Args:
        arguments: By default those of the process.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(usage())
        raise SystemExit(0 if words else 2)
    if words[0] in ("-V", "--version"):
        from importlib.metadata import version

        print(f"imbsam {version('imbsam')}")
        raise SystemExit(0)
    if words[0] == "anomaly":
        words[:2] = [" ".join(words[:2])]
    try:
        if words[0] not in COMMANDS:
            raise SystemExit(_complain(f"there is no command {words[0]!r}.\n\n{usage()}"))
        with raised():
            if several_processes():
                from imbsam.cli.processes import act_together

                raise SystemExit(act_together(words))
            command = parse(words)
            from imbsam.cli.actions import act

            raise SystemExit(act(command, words))
    except ImbsamError as error:
        raise SystemExit(_complain(str(error))) from None
    except BrokenPipeError:
        # Who reads the output has seen enough; Python would complain again when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from None
    except KeyboardInterrupt as error:
        print("interrupted.", file=sys.stderr)
        raise SystemExit(exit_code(error)) from None


def several_processes() -> bool:
    """Whether torchrun started this process beside others."""
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    return all(os.environ.get(name, "").isdigit() for name in names) and int(os.environ["WORLD_SIZE"]) > 1


def usage() -> str:
    """What the command can do, a line each."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {kind.summary()}" for name, kind in COMMANDS.items()]
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
            "  imbsam compare photos/ --seeds 3        sgd, sam and imbsam on your images, with a report",
            "  imbsam train table.csv --target defect  a table",
            "  imbsam anomaly fit log.csv --labels y   a detector from a few labelled anomalies",
            "  torchrun --nproc-per-node 2 -m imbsam train photos/   one run shared by two processes",
            "",
            "imbsam COMMAND --help shows the options of a command.",
        ]
    )


def _complain(message: str) -> int:
    print(f"imbsam: {message}", file=sys.stderr)
    return 2
