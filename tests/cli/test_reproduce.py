"""Recipes of papers: tried on data of the true layout, and really made when they are shrunk."""

import io
import json
from collections.abc import Callable, Iterable
from contextlib import redirect_stdout
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from imbsam.cli.answer import Answer
from imbsam.cli.commands import Compare, parse
from imbsam.cli.compare import compare_methods
from imbsam.data.layouts import LAYOUTS
from imbsam.runs import cost
from imbsam.runs.folder import RunFolder
from imbsam.studies.recipes import RECIPES, Recipe
from recipe_data import MAKERS, class_counts

NAMES = sorted({name.partition(".")[0] for name in RECIPES})

# Of lists the true classes, parts and names, but fewer images: a hundred thousand lines take seconds to read.
FEWER = {
    "cifar100-lt": {},
    "imagenet-lt": {"samples": {"train": 12_000, "validation": 1_000, "test": 2_000}, "largest": 60},
    "inaturalist-2018": {"samples": {"train": 32_000, "validation": 24_426}, "largest": 40},
}
SHRUNK = {
    "cifar100-lt": (
        {"samples": {"train": 600, "test": 50}, "classes": 10, "largest": 60, "smallest": 60},
        ("--batch-size", "32", "--imbalance", "10"),
    ),
    "imagenet-lt": (
        {"samples": {"train": 80, "validation": 20, "test": 40}, "classes": 10, "largest": 30, "smallest": 3},
        ("--batch-size", "16", "--image-size", "32"),
    ),
    "inaturalist-2018": (
        {"samples": {"train": 80, "validation": 30}, "classes": 10, "largest": 30, "smallest": 2},
        ("--batch-size", "16", "--image-size", "32"),
    ),
}
PARAMETERS = {"cifar100-lt": 21_328_292, "imagenet-lt": 25_557_032, "inaturalist-2018": 40_190_990}
HERE = ("--threads", "1", "--device", "cpu")


def layout_of(name, **changes):
    return replace(LAYOUTS[Recipe.read(name).head.layout], **changes)


def but_the_first_slow(recipes: Iterable[str]) -> list[object]:
    first, *others = recipes
    return [first, *(pytest.param(each, marks=pytest.mark.slow) for each in others)]


@pytest.fixture
def shrink(monkeypatch, tmp_path) -> Callable[[str], Path]:
    """Let a recipe ask for few images and classes, and make them."""

    def made(name: str) -> Path:
        layout = layout_of(name, **SHRUNK[name][0])
        monkeypatch.setitem(LAYOUTS, Recipe.read(name).head.layout, layout)
        return MAKERS[name](tmp_path / "data", layout)

    return made


@pytest.fixture(scope="module")
def tried(tmp_path_factory) -> Callable[[str], tuple[dict, str]]:
    """Try a recipe on its data, in an empty folder, and give what was found out and what was printed."""
    root = tmp_path_factory.mktemp("recipes")

    @cache
    def data(name: str) -> Path:
        return MAKERS[name](root / name, layout_of(name, **FEWER[name]))

    @cache
    def run(recipe: str) -> tuple[dict, str]:
        name, place = recipe.partition(".")[0], tmp_path_factory.mktemp("empty")
        methods = () if recipe == "cifar100-lt.published" else ("--methods", "imbsam")
        words = ["reproduce", recipe, "--data", str(data(name)), "--dry-run", "--samples-per-second", "1000"]
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as shown:
            patch.chdir(place)
            patch.setitem(LAYOUTS, Recipe.read(name).head.layout, layout_of(name, **FEWER[name]))
            # Eight thousand classes make each step that is counted a slow one.
            patch.setattr(cost, "STEPS", 20)
            answer = compare_methods(parse([*words, *methods, *HERE]), words)
            answer.show()
        assert list(place.iterdir()) == []
        return answer.content, shown.getvalue()

    return run


@pytest.mark.parametrize("recipe", but_the_first_slow(RECIPES))
def test_a_dry_run_makes_a_step_of_the_real_model_and_says_where_every_value_is_from(tried, recipe):
    found, shown = tried(recipe)
    name = recipe.partition(".")[0]
    forecast = found["forecasts"]["imbsam:tail-weight=2" if recipe.endswith("published") else "imbsam"]
    assert forecast["network"]["parameters"] == PARAMETERS[name]
    assert forecast["network"]["shape"] == ((3, 32, 32) if name == "cifar100-lt" else (3, 224, 224))
    assert 0 < forecast["loss"] < 30
    assert 1 < forecast["ratio"] < 8 / 3 + 1e-9
    for sentence in (*found["differs"], *found["origin"]):
        assert sentence in shown
    assert "1,000 plain training rows a second (as given)" in shown


def test_the_corrected_cifar_holds_out_before_the_long_tail_is_made(tried):
    found, _ = tried("cifar100-lt.corrected")
    assert found["counts"] == tuple(int(450 * 0.01 ** (label / 99)) for label in range(100))
    assert (found["validation"], found["test"]) == (5_000, 10_000)


def test_the_corrected_imagenet_trains_on_its_list(tried):
    found, _ = tried("imagenet-lt.corrected")
    assert list(found["counts"]) == class_counts(layout_of("imagenet-lt", **FEWER["imagenet-lt"]))
    assert (found["validation"], found["test"]) == (1_000, 2_000)


def test_the_corrected_inaturalist_holds_a_tenth_of_the_larger_classes_out(tried):
    found, _ = tried("inaturalist-2018.corrected")
    counts = class_counts(layout_of("inaturalist-2018", **FEWER["inaturalist-2018"]))
    held = [0 if count < 3 else max(1, round(count * 0.1)) for count in counts]
    assert list(found["counts"]) == [count - out for count, out in zip(counts, held, strict=True)]
    assert (found["validation"], found["test"]) == (sum(held), 24_426)


def test_the_prediction_is_steps_times_cost_and_what_is_kept(tried):
    found, _ = tried("cifar100-lt.published")
    plain, sam, imbsam = (found["forecasts"][label] for label in ("sgd", "sam", "imbsam:tail-weight=2"))
    assert plain["steps"] == 200 * 170
    assert plain["seconds"] == pytest.approx((200 * 10_847 + 10_000 / 3) / 1000)
    assert sam["seconds"] == pytest.approx((2 * 200 * 10_847 + 10_000 / 3) / 1000)
    assert found["seconds"] == pytest.approx(sum(each["seconds"] for each in (plain, sam, imbsam)))
    weights = 4 * PARAMETERS["cifar100-lt"]
    assert sam["memory"] - plain["memory"] == 2 * weights
    # Each convolution keeps its input and each normalisation its own: about two maps for every convolution's output.
    maps = 4 * (7 * 64 * 32**2 + 9 * 128 * 16**2 + 13 * 256 * 8**2 + 7 * 512 * 4**2)
    assert (plain["memory"] - 3 * weights) / 64 == pytest.approx(2 * maps, rel=0.1)


@pytest.mark.slow
def test_the_numbers_of_the_true_lists_are_those_of_the_recipe(imbsam, tmp_path):
    place = MAKERS["imagenet-lt"](tmp_path / "data", LAYOUTS["imagenet-lt"])
    words = ["compare", place, "--recipe", "imagenet-lt", "--dry-run", "--json", "--device", "cpu"]
    ran = imbsam(*words, "--methods", "sgd", "--samples-per-second", 500)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert (len(found["counts"]), sum(found["counts"])) == (1000, 115_846)
    assert (max(found["counts"]), min(found["counts"])) == (1280, 5)
    assert found["forecasts"]["sgd"]["steps"] == 200 * 453
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def made(recipe: str, data: Path, *words: str) -> Answer:
    """Make the runs of a shrunk recipe."""
    name = recipe.partition(".")[0]
    typed = ["reproduce", recipe, "--data", str(data), "--methods", "sgd", "imbsam", "--seeds", "1", "--out", "out"]
    small = ("--epochs", "1", "--width", "0.0625", "--track", "none", "--quiet", *SHRUNK[name][1], *HERE)
    answer = compare_methods(parse([*typed, *small, *words]), typed)
    assert isinstance(answer, Answer)
    assert answer.code == 0
    return answer


TRAINED = {
    # Test images, whether validation data were held out, and the tail's weight.
    "cifar100-lt.published": (50, False, ["tail_weight=2"]),
    "cifar100-lt.corrected": (50, True, []),
    "imagenet-lt.published": (40, True, ["tail_weight=2"]),
    "imagenet-lt.corrected": (40, True, []),
    "inaturalist-2018.published": (30, False, ["tail_weight=2"]),
    "inaturalist-2018.corrected": (30, True, []),
}


@pytest.mark.parametrize("recipe", but_the_first_slow(TRAINED))
def test_a_shrunk_recipe_is_trained_by_compare(tmp_path, monkeypatch, capsys, shrink, recipe):
    monkeypatch.chdir(tmp_path)
    held = Recipe.read(recipe)
    answer = made(recipe, shrink(recipe.partition(".")[0]))
    (run,) = (tmp_path / "out" / "runs").glob("imbsam*")
    result = RunFolder(run).read_result()
    tested, validated, own = TRAINED[recipe]
    assert (result.test.samples, result.validation is not None) == (tested, validated)
    assert result.config["model"] == held.settings["model"]
    assert result.config["method_options"] == own
    assert (tmp_path / "out" / "recipe.yaml").read_text() == held.text
    capsys.readouterr()
    answer.show()
    assert held.head.differs[0] in capsys.readouterr().out


@pytest.mark.slow
def test_a_recipe_goes_on_where_it_was(tmp_path, monkeypatch, shrink):
    monkeypatch.chdir(tmp_path)
    data = shrink("inaturalist-2018")
    made("inaturalist-2018", data)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out" / "runs").rglob("*.json")}
    made("inaturalist-2018", data)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_reproduce_is_short_for_compare_with_the_recipe():
    long = parse(["compare", "here", "--recipe", "imagenet-lt.corrected", "--methods", "sgd", "--lr", "0.3"])
    short = parse(["reproduce", "imagenet-lt.corrected", "--data", "here", "--methods", "sgd", "--lr", "0.3"])
    assert vars(short) == vars(long)


def test_the_command_line_goes_before_a_file_and_the_file_before_the_recipe(tmp_path):
    (tmp_path / "mine.yaml").write_text("lr: 0.5\nbatch-size: 7\nseeds: 2\n")
    words = ["compare", "here", "--recipe", "cifar100-lt", "--config", str(tmp_path / "mine.yaml"), "--lr", "0.25"]
    command = parse(words)
    assert isinstance(command, Compare)
    assert command.methods == ("sgd", "sam", "imbsam:tail-weight=2")
    assert (command.seeds, command.options.training.seed) == (2, 9826)
    assert (command.options.training.lr, command.options.training.batch_size) == (0.25, 7)
    assert command.options.model.model == "resnet34"


def test_a_recipe_of_ones_own_is_a_configuration_with_a_head(imbsam, tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "about: digits as I like them\n"
        "others: [sam:rho=0.1]\n"
        "methods: [sgd, imbsam:rho=0.3]\nseeds: 1\njobs: 1\nepochs: 1\nthreads: 1\ntrack: none\n"
    )
    ran = imbsam("compare", "digits", "--recipe", "mine.yaml", "--methods", "imbsam", "sam", "--json", "--quiet")
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert found["labels"] == ["imbsam:rho=0.3", "sam:rho=0.1"]
    assert (found["recipe"], found["about"]) == ("mine", "digits as I like them")
    assert (tmp_path / "runs/mine/recipe.yaml").read_text() == (tmp_path / "mine.yaml").read_text()


WRONG = {
    "reproduce cifar10-lt": "there is no recipe 'cifar10-lt'; there are cifar100-lt.corrected, cifar100-lt.published,",
    "reproduce imagenet-lt": "name the data: imbsam reproduce imagenet-lt --data SOURCE. Needed are the lists",
    "compare --recipe imagenet-lt": "name the data: imbsam compare SOURCE --recipe imagenet-lt. Needed are the lists",
    "reproduce imagenet-lt --data nowhere": "'nowhere': there is no such file or folder. Needed are the lists",
    "compare nowhere --recipe imagenet-lt": "'nowhere': there is no such file or folder. Needed are the lists",
    "reproduce cifar100-lt --data . --seeds 0": "--seeds must be at least 1; got 0.",
    "reproduce cifar100-lt --data . --methods foo": "there is no method 'foo'",
    "reproduce cifar100-lt --data . --methods sgd sgd": "--methods needs different methods",
    "reproduce cifar100-lt --data . --methods imbsam:rh=1": "--methods imbsam:rh=1: there is no option rh",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_reproduced_is_told_with_the_way_out(fails, tmp_path, words):
    assert WRONG[words] in fails(*words.split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("about: [1]", "mine.yaml: --about: input should be a valid string"),
        ("layout: places", "mine.yaml: there is no layout 'places'; there are cifar-100, imagenet-lt"),
        ("rh: 1", "mine.yaml: there is no option rh"),
        ("epochs: 0", "mine.yaml: --epochs: input should be greater"),
    ],
)
def test_a_fault_in_a_recipe_names_the_file(fails, tmp_path, content, told):
    (tmp_path / "mine.yaml").write_text(content)
    assert told in fails("compare", "digits", "--recipe", "mine.yaml")
