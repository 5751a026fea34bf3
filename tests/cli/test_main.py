import os
import subprocess
import sys
from importlib.metadata import version

import pytest

from imbsam.cli.commands import COMMANDS

HEAVY = {"torch", "numpy", "pandas", "sklearn", "matplotlib", "pyarrow", "PIL", "joblib", "scipy"}


def test_help_lists_every_command_with_its_first_line(imbsam):
    for words in (["--help"], ["-h"], ["help"]):
        ran = imbsam(*words)
        assert (ran.code, ran.err) == (0, "")
        for name, kind in COMMANDS.items():
            assert f"{name} " in ran.out
            assert kind.summary() in ran.out


def test_without_a_command_the_three_usual_ones_are_shown_and_the_code_says_so(imbsam):
    ran = imbsam()
    shown = [line.split()[1:3] for line in ran.out.splitlines() if line.startswith("  imbsam ")]
    assert ran.code == 2
    assert shown == [["compare", "photos/"], ["train", "table.csv"], ["anomaly", "fit"]]
    assert len(ran.out.splitlines()) <= 12


@pytest.mark.parametrize(("words", "code"), [(("anomaly",), 2), (("anomaly", "--help"), 0), (("anomaly", "-h"), 0)])
def test_anomaly_alone_lists_its_commands(imbsam, words, code):
    ran = imbsam(*words)
    own = [name for name in COMMANDS if name.startswith("anomaly ")]
    assert ran.code == code
    assert [" ".join(line.split()[:2]) for line in ran.out.splitlines() if line.startswith("  ")] == own


@pytest.mark.parametrize("word", ["--version", "-V"])
def test_the_version_is_told(imbsam, word):
    ran = imbsam(word)
    assert (ran.code, ran.out) == (0, f"imbsam {version('imbsam')}\n")


def test_an_unknown_command_is_quoted(fails):
    assert fails("tran", "digits").startswith("there is no command 'tran'.")


@pytest.mark.parametrize("words", [[], ["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(words):
    program = (
        "import sys\n"
        "from imbsam.cli import main\n"
        "try:\n"
        f"    main({words!r})\n"
        "finally:\n"
        "    sys.stderr.write('imported: ' + ' '.join({name.partition('.')[0] for name in sys.modules}))\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    imported = set(ran.stderr.partition("imported: ")[2].split())
    assert "imbsam" in imported
    assert not imported & HEAVY


def test_the_package_runs_as_a_module():
    ran = subprocess.run([sys.executable, "-m", "imbsam", "--version"], capture_output=True, text=True, check=True)
    assert ran.stdout == f"imbsam {version('imbsam')}\n"


@pytest.mark.parametrize("words", [["methods"], ["train", "--help"]])
def test_a_reader_that_goes_away_is_no_error(words):
    read, write = os.pipe()
    os.close(read)
    ran = subprocess.run(
        [sys.executable, "-m", "imbsam", *words], stdout=write, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")
