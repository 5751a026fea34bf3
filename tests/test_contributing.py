"""What a contributor goes by: targets, workflows, pinned versions, and the ways through the code."""

import ast
import re
import tomllib
from functools import cache
from importlib.resources import files
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
TARGETS = re.findall(r"^([a-z-]+):(?! export)", MAKEFILE, flags=re.MULTILINE)
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
FORMS = [path for path in sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]
LAYERS = [
    [name.strip().removeprefix("imbsam.") for name in layer.split("|")]
    for layer in PROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
]
WAYS = re.findall(r"^### `(\w+)`\n\n(.*?)(?=^##)", PAGE, flags=re.DOTALL | re.MULTILINE)
STEP = re.compile(r"^(\d+)\. `(\S+\.py)`: `(\S+)`", flags=re.MULTILINE)


def parsed(path: Path) -> dict:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps_of(workflow: Path) -> list[dict]:
    return [step for job in parsed(workflow)["jobs"].values() for step in job["steps"]]


def pins(name: str) -> dict[str, str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {normal(line.partition("==")[0]): line.partition("==")[2] for line in lines if "==" in line}


def normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def numbers(version: str) -> list[int]:
    """A version without the zeros at its end."""
    found = [int(number) for number in version.split(".")]
    while found[-1] == 0:
        found.pop()
    return found


@cache
def functions(file: str) -> set[str]:
    """Functions of a module of the package and methods of its classes, ``Class.method``."""
    body = ast.parse(files("imbsam").joinpath(file).read_text(encoding="utf-8")).body
    methods = {
        f"{node.name}.{each.name}"
        for node in body
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.FunctionDef)
    }
    return methods | {node.name for node in body if isinstance(node, ast.FunctionDef)}


def layer_of(file: str) -> int:
    package = file.partition("/")[0].removesuffix(".py")
    return next(place for place, names in enumerate(LAYERS) if package in names)


def test_every_target_is_listed_with_what_it_does():
    listed = re.findall(r"^([a-z-]+):.*  ## \S", MAKEFILE, flags=re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, flags=re.MULTILINE)[1].split()
    assert sorted(listed) == sorted(TARGETS) == sorted(phony)


def test_a_target_that_a_page_names_exists():
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / ".pre-commit-config.yaml"):
        named = re.findall(r"(?:`|^    )make ([a-z-]+)", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
        assert named
        assert set(named) <= set(TARGETS), page


def test_every_check_runs_before_a_change_lands():
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    assert re.findall(r"^make (\S+)$", script, flags=re.MULTILINE) == ["lint", "test-all"]


def test_what_is_left_out_without_the_extras_exists():
    listed = re.search(r"^NEEDS_EXTRAS := \$\(addprefix --ignore=tests/, ([^)]*)\)$", MAKEFILE, flags=re.MULTILINE)
    paths = listed[1].replace("\\", " ").split()
    assert paths
    assert [path for path in paths if not (ROOT / "tests" / path).exists()] == []


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_targets_that_exist(workflow):
    called = re.findall(r"\bmake ([a-z-]+)", "\n".join(step.get("run", "") for step in steps_of(workflow)))
    assert called
    assert set(called) <= set(TARGETS)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_names_the_version_of_every_action_and_may_only_read(workflow):
    used = [step["uses"] for step in steps_of(workflow) if "uses" in step]
    assert used
    assert [action for action in used if not re.search(r"@(v\d+|release/v\d+|[0-9a-f]{40})$", action)] == []
    assert parsed(workflow)["permissions"] == {"contents": "read"}


def test_what_is_published_is_the_wheel_that_was_tested():
    build, publish = (parsed(ROOT / ".github/workflows/release.yml")["jobs"][name] for name in ("build", "publish"))
    assert {"run": "make test-wheel"} in build["steps"]
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert [step["uses"].partition("@")[0] for step in publish["steps"]] == [
        "actions/download-artifact",
        "pypa/gh-action-pypi-publish",
    ]


def test_the_workflow_has_every_python_from_the_oldest_on():
    pythons = parsed(ROOT / ".github/workflows/ci.yml")["jobs"]["versions"]["strategy"]["matrix"]["python"]
    assert PROJECT["project"]["requires-python"] == f">={pythons[0]}"
    assert pythons == [f"3.{minor}" for minor in range(11, 11 + len(pythons))]


def test_the_oldest_versions_are_the_lower_bounds():
    oldest = pins("constraints-oldest.txt")
    for requirement in PROJECT["project"]["dependencies"]:
        name, _, bound = requirement.partition(">=")
        assert numbers(oldest[normal(name)]) == numbers(bound), requirement


def test_every_direct_dependency_is_pinned():
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(each for extra in extras.values() for each in extra)]
    names = {normal(re.match(r"[\w.-]+", each)[0]) for each in wanted} - {"imbsam"}
    assert names <= set(pins("constraints.txt"))


def test_hooks_are_tools_that_lint_installs():
    tools = {normal(re.match(r"[\w-]+", each)[0]) for each in PROJECT["project"]["optional-dependencies"]["lint"]}
    hooks = [hook for repo in parsed(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert hooks
    assert {Path(hook["entry"].split()[0]).name for hook in hooks} <= tools


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_asks_for_something(form):
    fields = parsed(form)["body"]
    assert all({"id", "attributes"} <= set(field) for field in fields)
    assert any(field.get("validations", {}).get("required") for field in fields)


def test_contributing_shows_the_layers_as_they_are():
    table = PAGE.partition("## How the code is laid out")[2].partition("\n## ")[0]
    assert [re.findall(r"`(\w+)`", row) for row in re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)] == LAYERS


def test_rho_and_the_targets_are_followed():
    assert [name for name, _ in WAYS] == ["rho", "targets"]


@pytest.mark.parametrize(("name", "way"), WAYS, ids=[name for name, _ in WAYS])
def test_a_way_through_the_code_names_functions_that_exist_and_goes_down(name, way):
    steps = STEP.findall(way)
    assert len(steps) == len(re.findall(r"^\d+\.", way, flags=re.MULTILINE)) <= 10
    assert [f"{file}: {function}" for _, file, function in steps if function not in functions(file)] == []
    layers = [layer_of(file) for _, file, _ in steps]
    assert layers == sorted(layers)
    assert LAYERS[layers[0]] == ["cli"]
    assert LAYERS[layers[-1]] == ["optim"]
