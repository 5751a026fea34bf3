"""Mutants of ``imbsam.optim``, made by mutmut and drawn at random, and the tests that notice them.

python tests/reliability/mutants.py [COUNT [SEED [JOBS]]]  tries so many (300, 0, 2) on the tests of the file that
    has the edit and those of passes and engine, then what is left on all tests of imbsam.optim; needs mutmut 3.8.
python tests/reliability/mutants.py again FILE  tries those that FILE, the output of the above, lists as left.

mutmut draws no sample, and a change of its own to every call breaks the tests that look at the caller. So the edited
function's code is put in the place of the imported one, in a fork of a process that has collected all tests.
"""

import difflib
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = Path("src/imbsam/optim")
TESTS = Path("tests/optim")
ENGINE = ("test_step.py", "test_passes.py", "test_sharpness_aware.py")
SLOW = ("test_peers.py", "test_memory.py", "test_contract.py")
OF_RANKS = ("test_ranks.py", "test_family_ranks.py", "test_poisoned_ranks.py")
"""Deadlines in them pass on a busy machine, which is no kill: they are tried on their own file's mutants alone."""
OPTIONS = ("-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")
FEW, REST, ALL = slice(2), slice(2, None), slice(None)
"""Stages of the tests."""
SECONDS = 900
"""Of the processor. A mutant whose tests take longer hangs: it counts as noticed."""


@dataclass(frozen=True)
class Mutant:
    """One edit of one file.

    Args:
        path: Of the file, in the tree.
        number: Among the file's mutants, in mutmut's order.
        code: Of the file with the edit.
    """

    path: Path
    number: int
    code: str

    @property
    def name(self) -> str:
        return f"{self.path.stem}:{self.number}"

    def edit(self) -> str:
        """The lines that differ."""
        lines = difflib.unified_diff((ROOT / self.path).read_text().splitlines(), self.code.splitlines(), n=1)
        return "\n".join(list(lines)[2:])


def key(mutant: Mutant) -> tuple[str, int]:
    """Its file and its number there."""
    return mutant.path.stem, mutant.number


def mutants(wanted: Sequence[tuple[str, int]] | None = None) -> list[Mutant]:
    """Every mutant that mutmut makes of the functions of ``imbsam.optim``, or those of the names given.

    Only those that were drawn are written out: until then the code is empty.
    """
    from libcst import FunctionDef
    from mutmut.mutation.file_mutation import create_mutations

    found = []
    for path in sorted(SOURCES.glob("*.py")):
        module, mutations, _, _ = create_mutations(str(path), path.read_text())
        inside = [each for each in mutations if isinstance(each.contained_by_top_level_function, FunctionDef)]
        for number, each in enumerate(inside):
            if wanted is None:
                found.append(Mutant(path, number, ""))
            elif (path.stem, number) in wanted:
                found.append(Mutant(path, number, module.deep_replace(each.original_node, each.mutated_node).code))
    return found if wanted is None else sorted(found, key=lambda each: wanted.index(key(each)))


def tests_of(path: Path) -> list[list[str]]:
    """Test files in the order they are tried: of the file itself, of the engine, all others of ``imbsam.optim``."""
    every = sorted(each.name for each in (ROOT / TESTS).glob("test_*.py"))
    own = [name for name in every if name.removeprefix("test_").startswith(path.stem.removeprefix("_"))]
    engine = [name for name in ENGINE if name not in own]
    others = [name for name in every if name not in (*own, *engine, *SLOW, *OF_RANKS)]
    slow = [name for name in SLOW if name not in own]
    return [[str(TESTS / name) for name in names] for names in (own, engine, others, slow) if names]


def outcome(mutant: Mutant, place: Path, stages: slice) -> str:
    """``"killed"``, ``"timed out"`` or ``"left"``, of the tests of these stages."""
    child = os.fork()
    if child == 0:
        _be_pytest(mutant, place / mutant.name.replace(":", "-"), tests_of(mutant.path)[stages])
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code in (4, 5):
        raise RuntimeError(f"{mutant.name}: pytest found no test to run")
    if code == -signal.SIGXCPU:
        return "timed out"
    return "killed" if code else "left"


def _be_pytest(mutant: Mutant, tree: Path, stages: Sequence[Sequence[str]]) -> NoReturn:
    code = 1
    try:
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 5))
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, 1)
        os.dup2(nothing, 2)
        _put_in_place(mutant)
        if mutant.path.stem == "_ranks":  # Its tests start processes, which import the package themselves.
            shutil.copytree(ROOT / "src", tree / "src")
            (tree / mutant.path).write_text(mutant.code)
            sys.path.insert(0, str(tree / "src"))
        for files in stages:
            code = int(pytest.main([*OPTIONS, *files]))
            if code:
                break
    finally:
        os._exit(code)


def _put_in_place(mutant: Mutant) -> None:
    """Give every function of the imported module the code and the defaults it has in the mutant."""
    module = sys.modules[f"imbsam.optim.{mutant.path.stem}"]
    edited = types.ModuleType(module.__name__)
    edited.__dict__.update(__file__=module.__file__, __package__=module.__package__)
    exec(compile(mutant.code, str(module.__file__), "exec"), edited.__dict__)
    twins = dict(_functions(edited))
    for name, function in _functions(module):
        twin = twins[name]
        function.__code__, function.__defaults__, function.__kwdefaults__ = (
            twin.__code__,
            twin.__defaults__,
            twin.__kwdefaults__,
        )


def _functions(module: types.ModuleType) -> Iterator[tuple[str, types.FunctionType]]:
    """The functions that are written in a module, and those in its classes, by qualified name."""
    own = [held for held in vars(module).values() if getattr(held, "__module__", None) == module.__name__]
    inside = [each for held in own if isinstance(held, type) for each in vars(held).values()]
    for held in (*own, *inside):
        function = getattr(held, "__func__", held)
        if isinstance(function, types.FunctionType) and function.__code__.co_filename == module.__file__:
            yield function.__qualname__, function


def interval(killed: int, count: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share."""
    z = 1.959964
    share, spread = killed / count, z * z / count
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return (middle - half) / (1 + spread), (middle + half) / (1 + spread)


def tried(chosen: Sequence[tuple[str, int]], jobs: int, stages: slice) -> dict[str, str]:
    """What became of each, by name; those that are left are printed with their edit."""
    results: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(jobs) as pool:
        found = mutants(chosen)
        for mutant, result in zip(found, pool.map(lambda each: outcome(each, Path(place), stages), found), strict=True):
            results[mutant.name] = result
            print(f"{len(results)} of {len(found)}", end="\r", file=sys.stderr, flush=True)
            if result != "killed":
                print(f"--- {mutant.name} {result}\n{mutant.edit()}", flush=True)
    return results


def main(words: Sequence[str]) -> None:
    os.chdir(ROOT)
    os.environ.update(OMP_NUM_THREADS="1", HYPOTHESIS_STORAGE_DIRECTORY=tempfile.mkdtemp())
    sys.path.insert(0, str(ROOT / "src"))
    assert pytest.main(["--collect-only", "-qq", *OPTIONS[3:], str(TESTS)]) == 0
    if words[:1] == ["again"]:
        lines = Path(words[1]).read_text().rpartition("of these,")[2].splitlines()
        listed = [line.split()[1] for line in lines if line.startswith("--- ")]
        chosen = [(name.partition(":")[0], int(name.partition(":")[2])) for name in listed]
        print(json.dumps(Counter(tried(chosen, 2, ALL).values())))
        return
    count, seed, jobs = (int(word) for word in [*words, *("300", "0", "2")[len(words) :]])
    every = mutants()
    drawn = random.Random(seed).sample(every, min(count, len(every)))
    with tempfile.TemporaryDirectory() as place:
        untouched = Mutant(drawn[0].path, -1, (ROOT / drawn[0].path).read_text())
        assert outcome(untouched, Path(place), ALL) == "left", "the tests fail without an edit"
    results = tried([key(each) for each in drawn], jobs, FEW)
    print("of these, after the other tests of imbsam.optim:")
    unnoticed = [key(each) for each in drawn if results[each.name] == "left"]
    results |= tried(unnoticed, jobs, REST)
    left = sum(result == "left" for result in results.values())
    low, high = interval(len(results) - left, len(results))
    files = len({each.path for each in drawn})
    print(
        f"{len(results) - left} of {len(results)} mutants killed, {(1 - left / len(results)):.1%} (95 % interval "
        f"{low:.1%} to {high:.1%}); drawn with seed {seed} from {len(every)} of {files} files: "
        f"{dict(Counter(results.values()))}"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
