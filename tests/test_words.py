"""The words of documentation, help, messages and docstrings are the field's terms, in plain English."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import imbsam
from glossary import ARGUMENT_OPENINGS, INSTEAD, idioms, opens_badly, prose, visible
from imbsam.cli import first_steps, main, usage
from imbsam.cli.commands import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = Path(imbsam.__file__).parent
SOURCES = sorted(PACKAGE.rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
ENTRY = {"Args:": ARGUMENT_OPENINGS, "Attributes:": ARGUMENT_OPENINGS}


def docstrings(source: Path) -> Iterator[tuple[str, str]]:
    """Name and docstring of a module, and of its classes and functions."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            text = ast.get_docstring(node)
            if text is not None:
                yield getattr(node, "name", "the module"), text


def entries(docstring: str) -> Iterator[str]:
    """The first words on each argument and attribute."""
    inside = False
    for line in docstring.splitlines():
        if line and not line.startswith(" "):
            inside = line in ENTRY
        elif inside and line.startswith("    ") and not line.startswith("     "):
            yield line.partition(": ")[2]


def texts(source: Path) -> Iterator[str]:
    """Docstrings and messages: every text of a module that is more than a word."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


@pytest.mark.parametrize(
    "sentence",
    [
        "The tail is learnt by heart.",
        "A detector in the family's face.",
        "Whoever rebinds them does it to both.",
        "The run is gone on with.",
        "Train anew with --overwrite.",
        "Mend the cell.",
        "No detector is to be told from the first.",
        "Its score\nflatters it.",
        "The data are no table; it is no text.",
        "Recall of the few shot classes.",
    ],
)
def test_a_sentence_with_an_idiom_is_found(sentence):
    assert idioms(sentence)


@pytest.mark.parametrize(
    "sentence",
    [
        "There is no file.",
        "A flatter minimum.",
        "The rows are drawn anew in each epoch.",
        "Few-shot classes go on to win.",
    ],
)
def test_a_plain_sentence_is_left_alone(sentence):
    assert idioms(sentence) == []


@pytest.mark.parametrize("docstring", ["Of the gradient.", "What a run did.", "How many.", "As above, of o.", " "])
def test_a_docstring_that_hides_what_the_thing_does_is_found(docstring):
    assert opens_badly(docstring)
    assert not opens_badly("Compute the gradient.")
    assert not opens_badly("``W + (alpha / r) B A``, for code that reads the weight.")


def test_code_is_not_read_as_prose():
    page = "Use it.\n\n```python\nx = 'by heart'\n```\n\n`whoever` and [this](by%20heart.md).\n"
    assert idioms(page)
    assert idioms(prose(page)) == []
    assert idioms(visible("<p>plain</p><script>'by heart'</script>")) == []


def test_every_entry_says_what_to_use_instead():
    assert all(term.strip() for term in INSTEAD.values())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_documentation_uses_the_terms_of_the_field(page):
    assert idioms(prose(page.read_text(encoding="utf-8"))) == []


def test_docstrings_and_messages_use_the_terms_of_the_field():
    found = [
        f"{source.relative_to(PACKAGE)} {hit}" for source in SOURCES for text in texts(source) for hit in idioms(text)
    ]
    assert found == []


def test_docstrings_start_with_what_the_thing_does():
    found = [
        f"{source.relative_to(PACKAGE)} {name}: {text.splitlines()[0]}"
        for source in SOURCES
        for name, text in docstrings(source)
        if opens_badly(text)
    ]
    assert found == []


def test_arguments_start_with_what_they_are():
    found = [
        f"{source.relative_to(PACKAGE)} {name}: {entry}"
        for source in SOURCES
        for name, text in docstrings(source)
        for entry in entries(text)
        if entry and opens_badly(entry, ARGUMENT_OPENINGS)
    ]
    assert found == []


@pytest.mark.parametrize("words", [*([*name.split(), "--help"] for name in COMMANDS), ["methods"]], ids=" ".join)
def test_help_uses_the_terms_of_the_field(words, capsys):
    with pytest.raises(SystemExit):
        main(words)
    shown = capsys.readouterr().out
    assert shown
    assert idioms(shown.replace("│", " ")) == []


def test_the_first_help_uses_the_terms_of_the_field():
    assert idioms(first_steps() + usage()) == []
