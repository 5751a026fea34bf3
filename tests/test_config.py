import dataclasses
import json
from pathlib import Path

import pytest
import yaml

from imbsam.config import Options, checked, read_yaml, to_yaml
from imbsam.errors import OptionError

FIELDS = [
    (group.name, option)
    for group in dataclasses.fields(Options)
    for option in dataclasses.fields(group.default_factory)
]
NAMES = [option.name for _, option in FIELDS]


def test_no_two_options_share_a_name():
    assert len(set(NAMES)) == len(NAMES)


def test_all_options_are_one_flat_mapping_of_plain_values():
    flat = Options().flat()
    assert list(flat) == NAMES
    assert json.loads(json.dumps(flat)) == flat


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rho": 0.3, "weights": Path("a/b.pt"), "hidden": (3, 4), "ignore": ("id",)},
        {"imbalance": 100.0, "reweight_from": 0.8, "loss_options": ["tau=1"], "seed": 7, "channels_last": False},
    ],
)
def test_options_come_back_from_yaml_as_they_were(tmp_path, values):
    options = Options().updated(values)
    (tmp_path / "o.yaml").write_text(to_yaml(options.flat()))
    assert Options().updated(read_yaml(tmp_path / "o.yaml")) == options


def test_updating_replaces_some_options_and_keeps_the_others():
    options = Options().updated({"rho": 0.3, "context-rows": 2}).updated({"lr": 1})
    assert {name: value for name, value in options.flat().items() if value != Options().flat()[name]} == {
        "rho": 0.3,
        "context_rows": 2,
        "lr": 1.0,
    }


def test_a_single_value_stands_for_a_list_of_one():
    options = Options().updated({"hidden": 64, "ignore": "id", "loss_options": "tau=1"})
    assert (options.model.hidden, options.data.ignore, options.loss.loss_options) == ((64,), ("id",), ("tau=1",))


def test_an_option_that_a_run_does_not_know_yet_had_its_default():
    options = Options().updated({"rho": 0.3})
    held = {name: value for name, value in options.flat().items() if name != "subset"}
    assert options.differing(held) == []
    assert options.updated({"subset": "first"}).differing(held) == ["subset"]
    assert Options().differing(held) == ["rho"]


def test_a_run_that_holds_no_options_differs_in_all_but_those_left_open():
    assert "method" in Options().differing({})


def test_an_empty_list_of_hidden_layers_is_a_linear_model():
    assert Options().updated({"hidden": []}).model.hidden == ()


def test_an_unknown_option_is_named_with_the_known_ones():
    with pytest.raises(
        OptionError, match=r"there is no option rh\. The options are anneal_from, ascent, .* width, workers\.$"
    ):
        Options().updated({"rh": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("rho", value) for value in (-0.1, float("nan"), float("inf"), "much", [0.1])],
        *[("lr", value) for value in (0, -1, float("inf"))],
        *[("epochs", value) for value in (0, -1, 1.5, "x")],
        *[("seed", value) for value in (-1, 2**63, 0.5)],
        *[("validation_fraction", value) for value in (1.0, -0.1)],
        *[("imbalance", value) for value in (0.5, float("inf"))],
        *[(name, [1.5]) for name in ("class_prior", "at_least", "cost")],
        ("class_prior", []),
        *[("reweight_from", value) for value in (-0.1, 1.1)],
        *[(name, "foo") for name in ("base", "schedule", "profile", "rare", "sampler", "norm", "select")],
        *[(name, "foo") for name in ("precision", "batch_statistics", "augment", "skip_bad", "channels_last")],
        *[(name, 0) for name in ("batch_size", "threads", "image_size", "context_rows", "width")],
        ("hidden", [64, 0]),
        ("hidden", ["wide"]),
        ("workers", -1),
        ("momentum", 1.0),
        ("method", None),
    ],
)
def test_a_value_out_of_range_is_named_as_on_the_command_line(name, value):
    with pytest.raises(OptionError) as caught:
        Options().updated({name: value})
    assert str(caught.value).startswith(f"--{name.replace('_', '-')}: ")
    assert "got " in str(caught.value)


def test_every_fault_is_told_at_once():
    with pytest.raises(OptionError) as caught:
        Options().updated({"rho": -1, "epochs": 0, "loss": 3})
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["--rho", "--loss", "--epochs"]


def test_other_dataclasses_are_checked_too():
    assert checked(Options, {"training": {"epochs": "3"}}).training.epochs == 3
    with pytest.raises(OptionError, match="--depth"):
        checked(Options, {"training": {"depth": 3}})


def test_an_empty_file_changes_nothing(tmp_path):
    (tmp_path / "o.yaml").write_text("# nothing yet\n")
    assert read_yaml(tmp_path / "o.yaml") == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "cannot read options from .*o.yaml: .*No such file"),
        (b"rho: [", "cannot read options from .*o.yaml"),
        (b"\xff\xff", "cannot read options from .*o.yaml"),
        (b"- a\n- b", "must contain a single mapping of options, such as `rho: 0.1`; got list"),
        (b"3", "got int"),
        (b"1: 2", "must contain a single mapping"),
    ],
)
def test_a_file_that_holds_no_options_is_named(tmp_path, content, told):
    if content is not None:
        (tmp_path / "o.yaml").write_bytes(content)
    with pytest.raises(OptionError, match=told):
        read_yaml(tmp_path / "o.yaml")


def test_yaml_runs_no_code(tmp_path):
    (tmp_path / "o.yaml").write_text(f"rho: !!python/object/apply:os.mkdir ['{tmp_path / 'owned'}']")
    with pytest.raises(OptionError, match="cannot read options"):
        read_yaml(tmp_path / "o.yaml")
    assert not (tmp_path / "owned").exists()


def test_names_that_are_not_ascii_stay_readable():
    assert yaml.safe_load(to_yaml({"target": "größe"})) == {"target": "größe"}
    assert "größe" in to_yaml({"target": "größe"})
