import dataclasses
import re
from itertools import pairwise
from pathlib import Path

import pytest

from imbsam.cli.commands import COMMANDS, Compare, Configured, Evaluate, Predict, Train, parse
from imbsam.config import Options
from imbsam.errors import OptionError

OPTIONS = [option.name for group in dataclasses.fields(Options) for option in dataclasses.fields(group.default_factory)]


def helps(text: str) -> dict[str, str]:
    """The help text of each option in what --help prints."""
    lines = [line.strip("│ ").rstrip() for line in text.splitlines()]
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if line.startswith(("╭", "╰", "─")) or re.fullmatch(r"(\w+ )?(options|arguments)", line):
            name = ""
        elif line.startswith("--") or line.startswith("-h"):
            words, _, rest = line.partition("  ")
            name = words.split()[0].strip(",")
            found[name] = rest.strip()
        elif name:
            found[name] = f"{found[name]} {line}".strip()
    return found


@pytest.mark.parametrize("command", ["train", "compare"])
def test_every_option_has_a_help_text_and_its_default(imbsam, command):
    found = helps(imbsam(command, "--help").out)
    for name in OPTIONS:
        text = found[f"--{name.replace('_', '-')}"]
        words, _, default = text.partition("(default:")
        assert len(words.split()) >= 2, f"--{name} has no help text"
        assert default.endswith(")"), f"--{name} shows no default"


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "doctor"])
def test_every_argument_of_a_command_has_a_help_text(imbsam, command):
    found = helps(imbsam(command, "--help").out)
    fields = [
        each
        for f in dataclasses.fields(COMMANDS[command])
        if f.name not in ("options", "source", "run", "runs", "folder", "detector", "recipe")
        for each in (dataclasses.fields(f.default_factory) if dataclasses.is_dataclass(f.default_factory) else [f])
    ]
    for field in fields:
        words = found[f"--{field.name.replace('_', '-')}"].partition("(")[0]
        assert len(words.split()) >= 2, f"--{field.name} has no help text"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_text_breaks_at_the_edge_alone(imbsam, command):
    column = len("│ --average-decay FLOAT  ")
    lines = imbsam(command, "--help").out.splitlines()
    # The name of an option is left of its text, or on a line of its own.
    texts = [(line[2:column], line[column:-1] if line[column - 2 : column] == "  " else "") for line in lines]
    for (_, text), (left, following) in pairwise(texts):
        if text.strip() and following.strip() and not left.strip():
            fits = len(text.rstrip()) + 1 + len(following.split()[0]) < len(text)
            assert not fits, f"{text.strip()} | {following.strip()}"


@pytest.mark.parametrize("command", COMMANDS)
def test_help_begins_with_the_usage_and_the_summary(imbsam, command):
    out = imbsam(command, "--help").out
    assert out.startswith(f"usage: imbsam {command} ")
    assert COMMANDS[command].summary() in " ".join(out.split())


def test_a_command_line_becomes_options():
    words = "train photos --rho 0.3 --method sam --hidden 8 4 --ignore a b --no-channels-last --out x --quiet"
    command = parse(words.split())
    assert isinstance(command, Train)
    assert (command.source, command.out, command.quiet) == ("photos", Path("x"), True)
    expected = {"rho": 0.3, "method": "sam", "hidden": [8, 4], "ignore": ["a", "b"], "channels_last": False}
    flat = command.options.flat()
    assert {name: flat[name] for name in expected} == expected
    assert {name for name in flat if flat[name] != Options().flat()[name]} == set(expected)


def test_underscores_serve_as_well_as_dashes():
    command = parse(["train", "digits", "--batch_size", "7"])
    assert isinstance(command, Train)
    assert command.options.training.batch_size == 7


def test_other_commands_take_their_arguments():
    evaluate = parse(["evaluate", "run", "photos", "--json", "--skip-bad", "--device", "cpu"])
    assert evaluate == Evaluate(run=Path("run"), source="photos", skip_bad=True, device="cpu", json=True)
    predict = parse(["predict", "run", "photos", "--all-probabilities"])
    assert predict == Predict(run=Path("run"), source="photos", out=Path("predictions.csv"), all_probabilities=True)
    compare = parse(["compare", "digits", "--methods", "sgd", "imbsam:rho=0.1,lr=2", "--seeds", "2", "--jobs", "3"])
    assert isinstance(compare, Compare)
    assert (compare.methods, compare.seeds, compare.jobs) == (("sgd", "imbsam:rho=0.1,lr=2"), 2, 3)


def test_a_file_gives_options_and_the_command_line_goes_before_it(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("rho: 0.3\ntail-rule: 1\n".replace("tail-rule: 1", "batch-size: 9") + "hidden: [5]\nlr: 0.7\n")
    for given in (["--config", str(config)], [f"--config={config}"]):
        command = parse(["train", "digits", "--lr", "0.2", *given])
        assert isinstance(command, Train)
        options = command.options
        assert (options.method.rho, options.training.batch_size, options.model.hidden) == (0.3, 9, (5,))
        assert options.training.lr == 0.2


def test_a_file_may_give_the_commands_own_arguments(tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text("source: photos\nmethods: [sgd, sam]\nseeds: 2\nepochs: 3\nout: here\n")
    command = parse(["compare", "--config", str(config), "--seeds", "4"])
    assert isinstance(command, Compare)
    assert (command.source, command.methods, command.seeds, command.out) == ("photos", ("sgd", "sam"), 4, Path("here"))
    assert command.options.training.epochs == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("rh: 1", "no option rh"),
        ("rho: -1", "--rho: "),
        ("rho: big", "--rho: "),
        ("seeds: 2", "no option seeds"),
        ("quiet: perhaps", "--quiet: "),
        ("rho: [", "cannot read options"),
        ("- rho", "a single mapping of options"),
    ],
)
def test_a_file_with_a_fault_is_named(tmp_path, content, told):
    config = tmp_path / "faulty.yaml"
    config.write_text(content)
    with pytest.raises(OptionError) as caught:
        parse(["train", "digits", "--config", str(config)])
    assert "faulty.yaml" in str(caught.value)
    assert told in str(caught.value)


def test_a_file_that_is_missing_is_named():
    with pytest.raises(OptionError, match=r"nowhere\.yaml"):
        parse(["train", "digits", "--config", "nowhere.yaml"])


@pytest.mark.parametrize(
    "words", [["--rho", "-1"], ["--rho", "nan"], ["--rho", "inf"], ["--lr", "0"], ["--seed", "-1"]]
)
def test_a_value_out_of_range_is_named(words):
    with pytest.raises(OptionError, match=f"^{words[0]}: .*got"):
        parse(["train", "digits", *words])


# That of a recipe is tested with the recipes.
@pytest.mark.parametrize(
    "name", [n for n, kind in COMMANDS.items() if issubclass(kind, Configured) and n != "reproduce"]
)
def test_every_command_that_has_a_configuration_file_reads_it(tmp_path, name):
    path = tmp_path / "options.yaml"
    path.write_text("batch_size: 7\nlr: 0.5\n")
    command = parse([name, "digits", "--config", str(path), "--lr", "0.25"])
    assert (command.options.training.batch_size, command.options.training.lr) == (7, 0.25)
