"""One page a method: its section of ``methods.md`` with the cost, options and source that the registry holds."""

import re
from pathlib import Path

from docstring_parser import DocstringStyle, parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from roles import with_links

from imbsam.optim import METHODS, options_of

OVERVIEW = "methods.md"
SECTION = re.compile(r"^## (\S+)\n(.*?)(?=^#)", re.DOTALL | re.MULTILINE)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages under the overview."""
    (entry,) = (entry for entry in config.nav or [] if OVERVIEW in entry.values())
    (title,) = entry
    entry[title] = [OVERVIEW, *({name: page_of(name)} for name in METHODS)]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Make the pages."""
    text = (Path(config.docs_dir) / OVERVIEW).read_text(encoding="utf-8")
    for name, section in SECTION.findall(text):
        files.append(File.generated(config, page_of(name), content=written(name, _from_below(section))))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """In the overview a table of links takes the place of the sections; links to a section lead to its page."""
    if page.file.src_uri.startswith("methods/"):
        return markdown
    markdown = re.sub(r"\]\((?:methods\.md)?#([\w-]+)\)", _page_of_section, markdown)
    if page.file.src_uri != OVERVIEW:
        return markdown
    rows = [
        f"| [{name}]({page_of(name)}) | {method.family} | {method.does} | {method.take} | {method.cost} |"
        for name, method in METHODS.items()
    ]
    table = "\n".join(["| method | family | what it does | when to use it | cost |", "|---|---|---|---|---|", *rows])
    start = re.search(SECTION, markdown)
    assert start is not None
    return f"{markdown[: start.start()]}{table}\n\n{SECTION.sub('', markdown[start.start() :])}"


def _page_of_section(link: re.Match[str]) -> str:
    """A link to the section of a method as one to its page; any other as it is."""
    return f"]({page_of(link[1])})" if link[1] in METHODS else link[0]


def _from_below(section: str) -> str:
    """A section's links as seen from its own page, which lies one folder down."""
    section = re.sub(r"\]\(#([\w-]+)\)", lambda link: f"]({link[1]}.md)" if link[1] in METHODS else link[0], section)
    return re.sub(r"\]\((?=[\w-]+\.md[#)])(?!(?:" + "|".join(METHODS) + r")\.md)", "](../", section)


def page_of(name: str) -> str:
    """Where the page of a method lies among the pages."""
    return f"methods/{name}.md"


def written(name: str, section: str) -> str:
    """The page of a method in Markdown."""
    method = METHODS[name]
    kind = f"imbsam.optim.{method.kind.__name__}"
    given = ", priors=priors" if method.kind.class_aware else ""
    command = "sgd" if name == "plain" else name
    source = "torch.optim" if name == "plain" else method.source
    known = meanings(method.kind)
    options = [f"| `{option}` | `{default!r}` | {known[option]} |" for option, default in options_of(name).items()]
    return "\n".join(
        [
            f"# {name}\n",
            f"{method.does[0].upper()}{method.does[1:]}.\n",
            section,
            "| class | cost | source |",
            "|---|---|---|",
            f"| [`{kind}`][{kind}] | {method.cost} | [{source}]({method.link}) |\n",
            "## Use\n",
            "```python",
            *(["from imbsam import ClassPriors"] if given else []),
            "from imbsam.optim import create\n",
            *(["priors = ClassPriors.from_targets(train_targets)"] if given else []),
            f'optimizer = create("{name}", model, lr=0.1{given})',
            "```\n",
            f"On the command line: `--method {command}`;",
            f"beside others: `imbsam compare SOURCE --methods sgd {command}`.\n",
            *(["## Options\n", "| option | default | |", "|---|---|---|", *options] if options else []),
        ]
    )


def meanings(kind: type) -> dict[str, str]:
    """What each option is, from the docstrings of a class and of those it builds on."""
    ours = [base for base in reversed(kind.__mro__) if base.__module__.startswith("imbsam.")]
    return {
        argument.arg_name: with_links(" ".join((argument.description or "").split()))
        for base in ours
        for argument in parse(base.__doc__ or "", DocstringStyle.GOOGLE).params
    }
