"""The site builds without a warning, and every link inside it leads somewhere."""

import dataclasses
import os
import subprocess
import sys
from functools import cached_property
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import Browser

from imbsam.cli.commands import COMMANDS
from imbsam.optim import METHODS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


class Html(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("href", "src") and value is not None:
                self.links.append(value)
            if name in ("id", "name") and value is not None:
                self.places.add(value)


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def pages(self) -> dict[Path, Html]:
        # The page for a wrong address links from the root of a server.
        return {path: Html(path) for path in sorted(self.folder.rglob("*.html")) if path.name != "404.html"}

    def leads_somewhere(self, page: Html, link: str) -> bool:
        address = urlsplit(link)
        if address.scheme:
            return True
        target = (page.path.parent / unquote(address.path)).resolve() if address.path else page.path
        if not address.fragment or target.suffix != ".html":
            return target.is_file()
        return target in self.pages and unquote(address.fragment) in self.pages[target].places


POSITIONAL = ("source", "run", "runs", "folder", "detector", "recipe")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    folder = tmp_path_factory.mktemp("site").resolve()
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return Site(folder)


def test_every_link_inside_the_site_leads_somewhere(site: Site) -> None:
    followed = [(page, link) for page in site.pages.values() for link in page.links]
    assert len(followed) > 1000
    assert not [(str(page.path), link) for page, link in followed if not site.leads_somewhere(page, link)]


def test_nothing_is_fetched_from_elsewhere(site: Site) -> None:
    text = (site.folder / "index.html").read_text(encoding="utf-8")
    fetched = [line for line in text.split("<") if line.startswith(("script src=", "link rel=stylesheet", "img"))]
    assert fetched
    assert not [line for line in fetched if "//" in line]


def test_no_page_read_from_a_folder_asks_the_net_or_is_wider_than_a_phone(site: Site, browser: Browser) -> None:
    complaints: list[str] = []
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    shown = [path for path in site.pages if path.parent in (site.folder, site.folder / "tutorials")]
    assert len(shown) > 20
    for path in shown:
        page.goto(path.as_uri())
        if page.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            complaints.append(f"{path} is too wide")
    page.close()
    assert complaints == []


def test_the_search_works_on_pages_read_from_a_folder(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto((site.folder / "methods/imbsam.html").as_uri())
    page.locator("html.js").wait_for(state="attached")
    page.locator("input.md-search__input").focus()
    page.locator(".md-search-result__meta", has_text="Type to start searching").wait_for(state="attached")
    page.locator("input.md-search__input").press_sequentially("Lanczos")
    page.locator(".md-search-result__link", has_text="Lanczos").first.wait_for(state="attached")
    page.close()


def test_each_method_has_a_page_with_its_cost_and_source(site: Site) -> None:
    for name, method in METHODS.items():
        page = (site.folder / f"methods/{name}.html").read_text(encoding="utf-8")
        assert f"<td>{method.cost}</td>" in page, name
        assert method.link in page, name


def test_no_role_of_a_docstring_is_left_as_it_was_written(site: Site) -> None:
    for page in site.pages.values():
        assert ":class:" not in page.path.read_text(encoding="utf-8"), page.path


def test_the_page_of_the_command_has_every_option_of_every_command(site: Site) -> None:
    text = (site.folder / "reference/command.html").read_text(encoding="utf-8")
    sections = text.split('<h2 id="imbsam-')
    assert len(sections) == len(COMMANDS) + 1
    for section, kind in zip(sections[1:], COMMANDS.values(), strict=True):
        # Positional arguments have no name there; the groups of a run's options are other tests'.
        groups = [f for f in dataclasses.fields(kind) if f.name not in (*POSITIONAL, "options")]
        for group in groups:
            made = group.default_factory
            for option in dataclasses.fields(made) if dataclasses.is_dataclass(made) else [group]:
                assert f"--{option.name.replace('_', '-')}" in section, (kind.__name__, option.name)
    assert "\x1b" not in text
