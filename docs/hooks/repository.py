"""Pages of files beside ``docs``: examples, scripts that draw, read-me files of the benchmarks, the changelog."""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from notebooks import page_of

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SHOWN = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "benchmarks/PROTOCOL.md",
    "benchmarks/*/README.md",
    "benchmarks/*/results/*.md",
    "examples/*.py",
    "examples/*.ipynb",
    # What drew the pictures of the gallery.
    "benchmarks/evidence.py",
    "benchmarks/*/collect.py",
    "benchmarks/*/figure*.py",
    "benchmarks/sharpness/cifar10_lt.sh",
    "docs/images/*.py",
    "src/imbsam/report/figures.py",
    "src/imbsam/report/landscapes.py",
)
LANGUAGES = {".py": "python", ".sh": "bash"}
FIGURES = ("benchmarks/results/*.png", "benchmarks/*/results/*.png")

LINK = re.compile(r"(\]\()([^)#:\s]+)((?:#[^)]*)?\))")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file shown."""
    for path in sorted(path for pattern in SHOWN for path in ROOT.glob(pattern)):
        text = path.read_text(encoding="utf-8")
        if path.suffix in LANGUAGES:
            fence = f"````{LANGUAGES[path.suffix]}\n{text}````\n"
            text = f"---\nsearch:\n  exclude: true\n---\n# {path.relative_to(ROOT).as_posix()}\n\n{fence}"
        if path.suffix == ".ipynb":
            text = page_of(path)
        files.append(File.generated(config, place_in_site(path), content=text))
    for path in (path for pattern in FIGURES for path in ROOT.glob(pattern)):
        files.append(File.generated(config, place_in_site(path), content=path.read_bytes()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links that hold in the repository into links that hold in the site."""
    here = PurePosixPath(page.file.src_uri)
    places = (DOCS / here, ROOT / here, ROOT / here.with_suffix(".ipynb"))
    source = next((path for path in places if path.exists()), None)
    if source is None:
        return markdown

    def in_site(link: re.Match[str]) -> str:
        target = (source.parent / link[2]).resolve()
        if not target.is_file():
            return link[0]
        return link[1] + os.path.relpath(place_in_site(target), here.parent) + link[3]

    return LINK.sub(in_site, markdown)


def place_in_site(path: Path) -> str:
    """Where a file of the repository lies among the pages, with ``/`` between folders."""
    inside = path.relative_to(DOCS if path.is_relative_to(DOCS) else ROOT)
    return (inside.with_suffix(".md") if path.suffix in (*LANGUAGES, ".ipynb") else inside).as_posix()
