"""Real calls of the system that fail (EIO, ENOSPC) while a run is trained, one after the other; needs ``cc``.

python tests/reliability/failing_disk.py [EVERY [NAME ...]]  lets each call that writes below the run's folder fail,
once and from then on; or every so manieth of them only, by these errors (EIO ENOSPC).

A preloaded library answers for the C library: open, write, fsync, close, rename, link, mkdir. No disk is broken.
"""

import ctypes
import errno
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability import kills

LIBRARY = "IMBSAM_FAILING_DISK"
FAULTS = ("EIO", "ENOSPC")


def main(every: str, faults: Sequence[str]) -> None:
    """Start this file anew with the library preloaded."""
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "failing.so"
        source = Path(__file__).with_name("failing.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        preloaded = {**os.environ, "LD_PRELOAD": str(library), LIBRARY: str(library)}
        words = [sys.executable, __file__, place, every, *faults]
        sys.exit(subprocess.run(words, env=preloaded, check=False).returncode)


def preloaded(place: Path, every: int, faults: Sequence[str]) -> None:
    fail = ctypes.CDLL(os.environ[LIBRARY]).fail
    fail.argtypes = [ctypes.c_char_p, ctypes.c_void_p, ctypes.c_long, ctypes.c_long, ctypes.c_int]
    shared = mmap.mmap(-1, mmap.PAGESIZE)  # With the forks, too.
    counter = ctypes.c_long.from_buffer(shared)
    work = kills.train(2)

    def run(words: list[str], folder: Path, first: int, last: int, error: int) -> int | None:
        counter.value = 0
        fail(bytes(folder / "run"), ctypes.addressof(counter), first, last, error)
        try:
            return kills.run(words, folder, None)
        finally:
            fail(b"", None, 0, 0, 0)

    straight = kills.folder_with_data(place / "straight")
    assert run(work.first, straight, 0, 0, 0) == 0
    calls, expected = counter.value, work.outcome(straight)
    told = unharmed = 0
    for error in (getattr(errno, name) for name in faults):
        for first in range(1, calls + 1, every):
            for last in (first, sys.maxsize):
                folder = kills.folder_with_data(place / f"{error}-{first}-{last}")
                code, log = run(work.first, folder, first, last, error), (folder / "log.txt").read_text()
                at = f"{errno.errorcode[error]} at call {first} to {last}: {log}"
                assert "Traceback" not in log, at
                if code:
                    assert code == 2, at
                    assert os.strerror(error) in log, at
                    told += 1
                    if not (folder / "run" / "result.json").exists():
                        assert kills.run(work.again(folder), folder, None) == 0, (folder / "log.txt").read_text()
                else:
                    unharmed += 1
                assert work.outcome(folder) == expected, at
    print(f"{told + unharmed} runs with failing calls out of {calls}: {told} said so, {unharmed} needed none of them")
    print("each went on to the same bytes")


if __name__ == "__main__":
    if LIBRARY in os.environ:
        preloaded(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
    else:
        main(sys.argv[1] if len(sys.argv) > 1 else "1", sys.argv[2:] or FAULTS)
