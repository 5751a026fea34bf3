"""The command as one of several processes, which leaves its exit code: ``torchrun ... rank_command.py WORDS``."""

import os
import sys
from pathlib import Path

from imbsam.cli import main

try:
    main(sys.argv[1:])
except SystemExit as end:
    Path(f"code-{os.environ['RANK']}").write_text(str(end.code))
    raise
