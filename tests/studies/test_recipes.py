"""Recipes as data: what was published, what the corrected variant changes, and what the documentation says of both."""

import re
from pathlib import Path

import pytest

from imbsam.config import Options
from imbsam.errors import OptionError
from imbsam.studies.compare import Variant, plan_runs
from imbsam.studies.recipes import RECIPES, Recipe

PAGE = (Path(__file__).parents[2] / "docs/reproducing.md").read_text(encoding="utf-8")
NAMES = sorted({name.partition(".")[0] for name in RECIPES})
TABLE = re.search(r"<!-- recipes -->\n(.*)<!-- /recipes -->", PAGE, flags=re.DOTALL).group(1)

# As far as they are public, from the authors' code.
IMBSAM = {"rho": 0.05, "tail": "fewer-than=20", "schedule": "cosine", "warmup": 0, "batch_statistics": "batch"}
PUBLISHED = {
    "cifar100-lt": {
        **{"model": "resnet34", "imbalance": 100, "subset": "first", "loss": "cross-entropy", "seed": 9826},
        **{"epochs": 200, "batch_size": 64, "lr": 0.01, "weight_decay": 1e-3, "validation_fraction": 0},
    },
    "imagenet-lt": {
        **{"model": "resnet50", "loss": "logit-adjustment", "loss_options": ["tau=1"], "image_size": 224},
        **{"epochs": 200, "batch_size": 256, "lr": 0.1, "weight_decay": 5e-4},
    },
    "inaturalist-2018": {
        **{"model": "resnet50", "loss": "logit-adjustment", "loss_options": ["tau=1"], "image_size": 224},
        **{"epochs": 200, "batch_size": 512, "lr": 0.2, "weight_decay": 2e-4, "validation_is_test": True},
    },
}


OF_COMPARE = ("methods", "seeds", "jobs")


def options_of(recipe):
    settings = Recipe.read(recipe).settings
    return Options().updated({name: value for name, value in settings.items() if name not in OF_COMPARE})


def test_every_recipe_has_both_variants_and_the_published_one_is_the_usual():
    assert sorted(RECIPES) == sorted(f"{name}.{variant}" for name in NAMES for variant in ("published", "corrected"))
    assert [Recipe.read(name).name for name in NAMES] == [f"{name}.published" for name in NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_the_published_variant_has_the_published_values_and_keeps_the_last_epoch(name):
    flat = options_of(name).flat()
    expected = {**IMBSAM, **PUBLISHED[name], "select": "last", "momentum": 0.9}
    assert {option: flat[option] for option in expected} == expected
    assert Recipe.read(name).settings["methods"] == ["sgd", "sam", "imbsam:tail-weight=2"]


@pytest.mark.parametrize("name", NAMES)
def test_the_corrected_variant_changes_how_methods_are_judged_and_nothing_else(name):
    published, corrected = (Recipe.read(f"{name}.{variant}").settings for variant in ("published", "corrected"))
    one, other = options_of(name).flat(), options_of(f"{name}.corrected").flat()
    judged = {"select", "validation_fraction", "batch_statistics", "subset", "seed"}
    assert {"select", "batch_statistics"} <= {option for option in one if one[option] != other[option]} <= judged
    assert other["select"] == "best"
    assert corrected["methods"] == ["sgd", "sam", "imbsam"]
    assert corrected["seeds"] > published["seeds"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_has_every_option_that_the_variants_differ_in(name):
    one, other = options_of(name).flat(), options_of(f"{name}.corrected").flat()
    for option in one:
        if one[option] != other[option] and option != "seed":
            row = next(line for line in TABLE.splitlines() if option in line)
            assert str(one[option]).removesuffix(".0") in row
            assert str(other[option]) in row
    assert re.search(rf"imbsam reproduce {name}[ .]", PAGE)


@pytest.mark.parametrize("name", RECIPES)
def test_every_method_of_a_recipe_can_be_planned(name):
    recipe = Recipe.read(name)
    labels = [*recipe.settings["methods"], *recipe.head.others]
    runs = plan_runs(Path("runs"), options_of(name), [Variant.parse(label) for label in labels], [0])
    assert [run.options.method.method for run in runs] == [label.partition(":")[0] for label in labels]


@pytest.mark.parametrize("name", [name for name in RECIPES if "cifar" not in name])
def test_what_is_not_published_is_said(name):
    assert any(sentence.startswith("NOT PUBLISHED") for sentence in Recipe.read(name).head.origin)


def test_a_name_takes_the_recipes_options_and_a_label_stands_for_itself():
    recipe = Recipe.read("imagenet-lt")
    named = recipe.labels(["focal-sam", "imbsam:rho=0.1", "asam"])
    assert named == ["focal-sam:rho=0.1,gamma=0.8,strength=0.8", "imbsam:rho=0.1", "asam"]


def test_of_two_labels_of_a_method_the_name_takes_the_first(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("methods: [sgd, sam:rho=0.1, sam:rho=0.2]\n")
    assert Recipe.read(str(path)).labels(["sam", "sam:rho=0.2"]) == ["sam:rho=0.1", "sam:rho=0.2"]


def test_an_unknown_recipe_is_quoted():
    with pytest.raises(OptionError, match="there is no recipe 'places-lt'; there are cifar100-lt"):
        Recipe.read("places-lt")


def test_without_a_layout_a_source_is_left_to_the_reader(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("epochs: 1\n")
    assert Recipe.read(str(path)).source("anything") == "anything"
