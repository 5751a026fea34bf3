"""What a command has imported when its first step begins, and when it only answers."""

import subprocess
import sys

import pytest

# With torch come its own: SymPy, and NumPy.
NOT_BEFORE_THE_FIRST_STEP = {
    "jinja2",
    "joblib",
    "matplotlib",
    "mlflow",
    "optuna",
    "pandas",
    "pyarrow",
    "scipy",
    "sklearn",
    "tensorboard",
}

UNTIL_THE_FIRST_STEP = """
import os, sys
from imbsam.cli import main
from imbsam.optim import SharpnessAware

def passes(self, targets):
    print(*sorted({name.partition(".")[0] for name in sys.modules}), flush=True)
    os._exit(0)

SharpnessAware.passes = passes
main(sys.argv[1:])
"""


def run(program: str, *words: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
    return ran.stdout.split()


@pytest.mark.parametrize("method", ["sgd", "imbsam"])
def test_training_imports_nothing_before_its_first_step_that_comes_later(tmp_path, method):
    loaded = run(UNTIL_THE_FIRST_STEP, "train", "digits", "--method", method, "--out", str(tmp_path / "run"))
    assert "torch" in loaded
    assert not NOT_BEFORE_THE_FIRST_STEP & set(loaded)


@pytest.mark.parametrize(("words", "most"), [(["--version"], 200), (["--help"], 350), (["train", "--help"], 500)])
def test_an_answer_imports_few_modules(words, most):
    program = "import sys; from imbsam.cli import main\ntry:\n  main(sys.argv[1:])\nfinally:\n  print(len(sys.modules))"
    assert int(run(program, *words)[-1]) < most
