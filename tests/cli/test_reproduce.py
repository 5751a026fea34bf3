"""Recipes of papers: tried on data of the true layout, and really made when they are shrunk."""

import dataclasses
import io
import json
from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import yaml

from imbsam.cli.actions import compare_methods
from imbsam.cli.answer import Answer
from imbsam.cli.commands import Compare, Reproduce, parse
from imbsam.cli.reproduce import Planned, duration, with_recipe
from imbsam.data.layouts import LAYOUTS
from imbsam.errors import DataError
from imbsam.runs import cost
from imbsam.runs.folder import RunFolder
from imbsam.studies.recipes import RECIPES, VARIANTS, Recipe, recipe_named
from recipe_data import MAKERS, class_counts

# Of lists the true classes, parts and names, but fewer images: a hundred thousand lines take seconds to read.
FEWER = {
    "cifar100-lt": {},
    "imagenet-lt": {
        "samples": {"train": 12_000, "validation": 1_000, "test": 2_000},
        "largest": 60,
    },
    "inaturalist-2018": {"samples": {"train": 32_000, "validation": 24_426}, "largest": 40},
}
SHRUNK = {
    "cifar100-lt": (
        {"samples": {"train": 600, "test": 50}, "classes": 10, "largest": 60, "smallest": 60},
        {"width": 0.0625, "batch_size": 32, "imbalance": 10},
    ),
    "imagenet-lt": (
        {"samples": {"train": 80, "validation": 20, "test": 40}, "classes": 10, "largest": 30, "smallest": 3},
        {"width": 0.0625, "batch_size": 16, "image_size": 32},
    ),
    "inaturalist-2018": (
        {"samples": {"train": 80, "validation": 30}, "classes": 10, "largest": 30, "smallest": 2},
        {"width": 0.0625, "batch_size": 16, "image_size": 32},
    ),
}
PARAMETERS = {"cifar100-lt": 21_328_292, "imagenet-lt": 25_557_032, "inaturalist-2018": 40_190_990}


def corrected_counts(name: str) -> tuple[list[int], int, int]:
    """Training images of each class in the corrected variant, validation and test images."""
    if name == "cifar100-lt":
        return [int(450 * 0.01 ** (label / 99)) for label in range(100)], 5_000, 10_000
    counts = class_counts(smaller(recipe_named(name, "corrected"), FEWER[name]).layout)
    if name == "imagenet-lt":
        return counts, 1_000, 2_000
    held = [0 if count < 3 else max(1, round(count * 0.1)) for count in counts]
    return [count - out for count, out in zip(counts, held, strict=True)], sum(held), 24_426


def smaller(recipe: Recipe, layout: Mapping[str, object], **options: object) -> Recipe:
    changed = dataclasses.replace(recipe.layout, **layout)
    return dataclasses.replace(recipe, layout=changed, options=recipe.options.updated({"threads": 1, **options}))


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("recipes")
    return {
        name: MAKERS[name](root / name, smaller(recipe_named(name, "published"), FEWER[name]).layout)
        for name in RECIPES
    }


@pytest.fixture(scope="module")
def tried(folders, tmp_path_factory) -> Callable[[str, str], tuple[dict, str]]:
    """Try a recipe on its data, in an empty folder, and give what was found out and what was printed."""

    @cache
    def run(name: str, variant: str) -> tuple[dict, str]:
        place = tmp_path_factory.mktemp("empty")
        methods = ("sgd", "sam", "imbsam") if (name, variant) == ("cifar100-lt", "published") else ("imbsam",)
        command = Reproduce(name, str(folders[name]), variant, methods, device="cpu", out=Path("out"))
        planned = Planned.of(command, smaller(recipe_named(name, variant), FEWER[name]))
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as shown:
            patch.chdir(place)
            # Eight thousand classes make each step that is counted a slow one.
            patch.setattr(cost, "STEPS", 20)
            answer = planned.tried(1000.0)
            answer.show()
        assert list(place.iterdir()) == []
        return answer.content, shown.getvalue()

    return run


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_dry_run_makes_a_step_of_the_real_model_and_writes_nothing(tried, name, variant):
    found, shown = tried(name, variant)
    forecast = found["forecasts"]["imbsam:tail-weight=2" if variant == "published" else "imbsam"]
    assert found["parameters"] == PARAMETERS[name]
    assert 0 < forecast["loss"] < 30
    assert 1 < forecast["ratio"] < 8 / 3 + 1e-9
    for sentence in (*found["differs"], *found["origin"]):
        assert sentence in shown
    size = "3 x 32 x 32" if name == "cifar100-lt" else "3 x 224 x 224"
    assert f"on 4 images of {size}" in shown
    assert "1,000 plain training images a second (as given)" in shown


@pytest.mark.parametrize("name", RECIPES)
def test_the_corrected_variant_trains_on_what_is_left_of_each_class(tried, name):
    found, shown = tried(name, "corrected")
    counts, validation, test = corrected_counts(name)
    assert found["counts"] == counts
    assert f"{validation:,} validation and {test:,} test images" in shown


def test_the_prediction_is_steps_times_cost_and_what_is_kept(tried):
    found, _ = tried("cifar100-lt", "published")
    plain, sam, imbsam = (found["forecasts"][label] for label in ("sgd", "sam", "imbsam:tail-weight=2"))
    assert found["counts"] == [int(500 * 0.01 ** (label / 99)) for label in range(100)]
    assert plain["steps"] == 200 * 170
    assert plain["seconds"] == pytest.approx((200 * 10_847 + 10_000 / 3) / 1000)
    assert sam["seconds"] == pytest.approx((2 * 200 * 10_847 + 10_000 / 3) / 1000)
    assert found["seconds"] == pytest.approx(sum(each["seconds"] for each in (plain, sam, imbsam)))
    weights = 4 * PARAMETERS["cifar100-lt"]
    assert sam["memory"] - plain["memory"] == 2 * weights
    # Each convolution keeps its input and each normalisation its own: about two maps for every convolution's output.
    maps = 4 * (7 * 64 * 32**2 + 9 * 128 * 16**2 + 13 * 256 * 8**2 + 7 * 512 * 4**2)
    assert (plain["memory"] - 3 * weights) / 64 == pytest.approx(2 * maps, rel=0.1)


def test_the_configuration_that_is_printed_is_read_back_by_compare(tried, tmp_path):
    _, shown = tried("cifar100-lt", "published")
    printed = shown.partition("--config FILE`:")[2].partition("model: resnet34, ")[0]
    (tmp_path / "c.yaml").write_text(printed)
    read = parse(["compare", "somewhere", "--config", str(tmp_path / "c.yaml")])
    assert isinstance(read, Compare)
    assert read.methods == ("sgd", "sam", "imbsam:tail-weight=2")
    assert (read.seeds, read.options.training.seed) == (1, 9826)
    expected = smaller(recipe_named("cifar100-lt", "published"), {}, device="cpu")
    assert read.options == expected.options


def test_without_a_speed_this_machines_is_measured_and_said_so(tmp_path, capsys):
    layout, options = SHRUNK["cifar100-lt"]
    recipe = smaller(recipe_named("cifar100-lt", "corrected"), layout, **options)
    data = MAKERS["cifar100-lt"](tmp_path, recipe.layout)
    answer = Planned.of(Reproduce("cifar100-lt", str(data), device="cpu"), recipe).tried(None)
    assert answer.content["samples_per_second"] > 0
    answer.show()
    shown = capsys.readouterr().out
    assert "measured here on 4 images at a time; give --samples-per-second of the machine that will train" in shown
    assert "all 15 runs" in shown


def test_the_numbers_of_the_true_lists_are_those_of_the_recipe(imbsam, tmp_path):
    place = MAKERS["imagenet-lt"](tmp_path / "data", LAYOUTS["imagenet-lt"])
    words = ["reproduce", "imagenet-lt", "--data", place, "--dry-run", "--json", "--device", "cpu"]
    ran = imbsam(*words, "--methods", "sgd", "--samples-per-second", 500)
    assert (ran.code, ran.err) == (0, "")
    found = json.loads(ran.out)
    assert (len(found["counts"]), sum(found["counts"])) == (1000, 115_846)
    assert (max(found["counts"]), min(found["counts"])) == (1280, 5)
    assert found["forecasts"]["sgd"]["steps"] == 200 * 453
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", RECIPES)
def test_a_shrunk_recipe_is_trained_by_compare_and_goes_on_where_it_was(tmp_path, capsys, name, variant):
    layout, options = SHRUNK[name]
    recipe = smaller(recipe_named(name, variant), layout, epochs=1, track=["none"], **options)
    data = MAKERS[name](tmp_path / "data", recipe.layout)
    out = tmp_path / "out"
    command = Reproduce(name, str(data), variant, ("sgd", "imbsam"), seeds=1, out=out, device="cpu", quiet=True)

    def made() -> Answer:
        planned = Planned.of(command, recipe)
        answer = with_recipe(planned, compare_methods(planned.comparison(), ["reproduce", name]))
        assert isinstance(answer, Answer)
        return answer

    answer = made()
    assert answer.code == 0
    seed = recipe.options.training.seed
    label = recipe.labels(["imbsam"])[0]
    result = RunFolder(out / "runs" / f"{label.replace(':', '-')}-seed{seed}").read_result()
    parts = recipe.layout.samples
    assert result.test.samples == (parts["test"] if "test" in parts else parts["validation"])
    assert (result.validation is None) is (variant == "published" and name != "imagenet-lt")
    assert result.config["model"] == recipe.options.model.model
    assert result.config["method_options"] == (["tail_weight=2"] if variant == "published" else [])
    assert yaml.safe_load((out / "recipe.yaml").read_text())["differs"] == list(recipe.written.differs)
    capsys.readouterr()
    answer.show()
    assert recipe.written.differs[0] in capsys.readouterr().out
    finished = result.finished
    made()
    assert RunFolder(out / "runs" / f"{label.replace(':', '-')}-seed{seed}").read_result().finished == finished


def test_times_are_told_in_the_unit_that_suits():
    assert [duration(s) for s in (59, 600, 7200, 86400, 200_000)] == [
        "59 seconds",
        "10.0 minutes",
        "2.0 hours",
        "24.0 hours",
        "2.3 days",
    ]


WRONG = {
    "reproduce cifar10-lt": "there is no recipe 'cifar10-lt'; there are cifar100-lt, imagenet-lt, inaturalist-2018.",
    "reproduce imagenet-lt": "name the data: imbsam reproduce imagenet-lt --data FOLDER. Needed are the lists",
    "reproduce imagenet-lt --data nowhere": "'nowhere': there is no such file or folder. Needed are the lists",
    "reproduce imagenet-lt --data .": "has no list *train*.txt, *val*.txt, *test*.txt. Needed are the lists",
    "reproduce inaturalist-2018 --data .@nowhere": "'nowhere': there is no such file or folder.",
    "reproduce cifar100-lt --data .": "holds no CIFAR python archive (the files train, test and meta). Needed is",
    "reproduce cifar100-lt --data . --seeds 0": "--seeds must be at least 1; got 0.",
    "reproduce cifar100-lt --data . --methods foo": "there is no method 'foo'",
    "reproduce cifar100-lt --data . --methods sgd sgd": "--methods needs different methods",
    "reproduce cifar100-lt --data . --methods imbsam:rh=1": "--methods imbsam:rh=1: there is no option rh",
    "reproduce cifar100-lt --data . --dry-run --samples-per-second 0": "--samples-per-second must be a number above 0",
    "reproduce cifar100-lt --data . --samples-per-second 9": "--samples-per-second is for the prediction of --dry-run",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_reproduced_is_told_with_the_way_out(fails, tmp_path, words):
    assert WRONG[words] in fails(*words.split())
    assert list(tmp_path.iterdir()) == []


def test_lists_of_other_numbers_are_refused_with_every_difference(fails, tmp_path):
    layout = dataclasses.replace(
        LAYOUTS["inaturalist-2018"], samples={"train": 90, "validation": 20}, classes=10, largest=20, smallest=3
    )
    MAKERS["inaturalist-2018"](tmp_path / "data", layout)
    told = fails("reproduce", "inaturalist-2018", "--data", "data", "--dry-run")
    for difference in (
        "10 classes, not 8,142",
        "90 train images, not 437,513",
        "20 validation images, not 24,426",
        "20 training images in the largest class, not 1,000",
        "3 training images in the smallest class, not 2",
        "https://github.com/visipedia/inat_comp",
    ):
        assert difference in told


def test_a_missing_list_and_a_missing_image_are_named(tmp_path):
    recipe = smaller(recipe_named("imagenet-lt", "published"), SHRUNK["imagenet-lt"][0])
    data = MAKERS["imagenet-lt"](tmp_path, recipe.layout)
    gone = data / "val" / "n01440764" / "ILSVRC2012_val_1.JPEG"
    gone.unlink()
    command = Reproduce("imagenet-lt", str(data), device="cpu")
    with pytest.raises(
        Exception, match=r"1 of the test images .* first .*ILSVRC2012_val_1\.JPEG\. .*--data LISTS@IMAGES"
    ):
        Planned.of(command, recipe)
    (data / "ImageNet_LT_test.txt").unlink()
    with pytest.raises(DataError, match=r"has no list \*test\*\.txt\. Needed are"):
        Planned.of(command, recipe)


def test_lists_and_images_may_lie_apart(tmp_path):
    recipe = smaller(recipe_named("imagenet-lt", "published"), SHRUNK["imagenet-lt"][0])
    data = MAKERS["imagenet-lt"](tmp_path / "images", recipe.layout)
    (tmp_path / "lists").mkdir()
    for path in data.glob("*.txt"):
        path.rename(tmp_path / "lists" / path.name)
    # Kaggle's folder of ImageNet holds tables, which are none of the recipe's business.
    (data / "LOC_val_solution.csv").write_text("ImageId,PredictionString\na,b\n")
    planned = Planned.of(Reproduce("imagenet-lt", f"{tmp_path / 'lists'}@{data}", device="cpu"), recipe)
    assert planned.source == f"{tmp_path / 'lists'}@{data}"
