"""A real file system that runs full in the middle of a training; needs the right to mount one.

python tests/reliability/full_disk.py  trains on file systems of many sizes, and goes on after each was enlarged.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from reliability import small
from reliability.kills import SMALL

WORDS = ["train", "parts.csv", *SMALL, "--method", "imbsam", "--hidden", "64", "--epochs", "4", "--out"]


def imbsam(words: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "imbsam", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        small.source(place)
        assert imbsam([*WORDS, "straight"], place).returncode == 0
        expected = small.outcome(place / "straight")
        disk = place / "disk"
        disk.mkdir()
        full = 0
        for size in range(8, 400, 12):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", disk], check=True)
            try:
                ran = imbsam([*WORDS, "disk/run"], place)
                if ran.returncode:
                    assert ran.returncode == 2, ran.stderr
                    assert "No space left on device" in ran.stderr, ran.stderr
                    assert "Traceback" not in ran.stderr, ran.stderr
                    full += 1
                    subprocess.run(["mount", "-o", "remount,size=64m", disk], check=True)
                    begun = (disk / "run/last.ckpt").exists() or (disk / "run/previous.ckpt").exists()
                    words = (
                        ["train", "--resume", "disk/run", "--quiet"] if begun else [*WORDS, "disk/run", "--overwrite"]
                    )
                    if not (disk / "run/result.json").exists():
                        again = imbsam(words, place)
                        assert again.returncode == 0, again.stderr
                shutil.copytree(disk / "run", place / f"at{size}")
            finally:
                subprocess.run(["umount", disk], check=True)
            assert small.outcome(place / f"at{size}") == expected, size
        print(f"{full} of 33 file systems ran full; each run went on to the same bytes")


if __name__ == "__main__":
    main()
