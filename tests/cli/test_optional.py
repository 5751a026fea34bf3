import pytest

from imbsam.cli.commands import COMMANDS, parse


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_what_an_option_may_be_and_the_place_of_each_argument(imbsam, command):
    text = imbsam(*command.split(), "--help").out
    assert "None}" not in text
    assert " STR" not in text.splitlines()[0].partition("[--")[0]


def test_the_word_none_is_none():
    assert parse(["train", "digits", "--rho", "None"]).options.method.rho is None
    assert parse(["train", "digits", "--rho", "0.5"]).options.method.rho == 0.5
    assert parse(["train", "None"]).source is None
