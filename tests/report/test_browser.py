"""The report in a real browser: what it says when it is used, how it reads without sight, in print and on a phone."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

pytestmark = pytest.mark.slow

DESKTOP = {"width": 1100, "height": 900}
PHONE = {"width": 390, "height": 800}


@pytest.fixture
def visit(browser):
    """Open a page and fail if it writes to the console, asks for anything else, or opens a dialog."""
    complaints, pages = [], []

    def open_(path, **options) -> Page:
        page = browser.new_page(**{"viewport": DESKTOP, **options})
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
        page.goto(f"file://{path}")
        return page

    yield open_
    for page in pages:
        page.close()
    assert complaints == []


def column(page: Page, caption: str, number: int) -> list[str]:
    """The texts of a column of the table with this caption."""
    table = page.locator("table", has=page.locator("caption", has_text=caption))
    return table.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_a_mark_says_its_value_when_it_is_pointed_at(visit, digits_report):
    page = visit(digits_report)
    page.locator("#groups-few-2").locator("[data-tip]").hover()
    assert "imbsam, few-shot recall:" in page.locator("#tip").inner_text()
    page.mouse.move(0, 0)
    assert page.locator("#tip").is_hidden()


def test_points_of_a_line_without_markers_appear_when_they_are_pointed_at(visit, digits_report):
    page = visit(digits_report)
    mark = page.locator("#curves-0-1 [data-tip]").nth(3)
    assert mark.evaluate("mark => getComputedStyle(mark).fillOpacity") == "0"
    mark.hover(force=True)
    assert page.locator("#tip").inner_text().startswith("sam, epoch 4, balanced accuracy (%): ")
    assert mark.evaluate("mark => getComputedStyle(mark).fillOpacity") == "1"


@pytest.mark.parametrize(
    ("report", "mark", "words"),
    [
        ("sharpness_report", "#line-tail-1 [data-tip] >> nth=0", "imbsam, tail, at -1: mean loss 1.57"),
        ("fit_report", "#fit-scores-b10 [data-tip]", "other rows, score"),
    ],
)
def test_figures_of_other_reports_say_their_values_too(visit, request, report, mark, words):
    page = visit(request.getfixturevalue(report))
    page.locator(mark).hover(force=True)
    assert words in page.locator("#tip").inner_text()


def test_arrow_keys_go_from_mark_to_mark_and_escape_leaves(visit, digits_report):
    page = visit(digits_report)
    figure = page.locator("figure .scroll").first
    figure.focus()
    page.keyboard.press("ArrowRight")
    first = page.locator("#tip").inner_text()
    page.keyboard.press("ArrowRight")
    assert first.startswith("sgd, many-shot recall")
    assert page.locator("#tip").inner_text().startswith("sam, many-shot recall")
    page.keyboard.press("Escape")
    assert page.locator("#tip").is_hidden()


def test_classes_sort_by_count_and_by_gain(visit, examples_report):
    page = visit(examples_report)
    gains = column(page, "Recall of each class", 8)
    by_count = column(page, "Recall of each class", 2)
    assert by_count == sorted(by_count, key=int, reverse=True)
    page.get_by_role("button", name="imbsam over sgd (points)").click()
    numbers = [float(text.replace("−", "-")) for text in column(page, "Recall of each class", 8)]
    assert numbers == sorted(numbers, reverse=True)
    assert sorted(column(page, "Recall of each class", 8)) == sorted(gains)
    page.get_by_role("button", name="imbsam over sgd (points)").press("Enter")
    assert [float(text.replace("−", "-")) for text in column(page, "Recall of each class", 8)] == sorted(numbers)


def test_one_class_after_the_other_is_shown(visit, examples_report):
    page = visit(examples_report)
    caption = page.locator("#taken caption")
    assert caption.inner_text().startswith("class 9: what its samples were taken for, over 2 seeds")
    page.get_by_role("button", name="more frequent").click()
    assert caption.inner_text().startswith("class 8:")
    page.get_by_label("One class").select_option(label="class 0 (200 training samples, many-shot)")
    assert caption.inner_text().startswith("class 0:")
    assert page.locator("#taken tbody th").first.inner_text() == "class 0, rightly"
    page.get_by_role("button", name="rarer").click()
    assert caption.inner_text().startswith("class 1:")


def test_images_of_confusions_are_shown(visit, examples_report):
    page = visit(examples_report)
    images = page.locator(".examples img")
    assert images.count() == 4
    for image in images.all():
        assert image.evaluate("image => image.complete && image.naturalWidth === 8")
        assert "taken for it with probability 0.75" in image.get_attribute("alt")


def test_hostile_names_never_run(visit, hostile_report, hostile_names):
    page = visit(hostile_report)
    assert page.locator("body b, body i, body img").count() == 0
    for index in range(len(hostile_names)):
        page.get_by_label("One class").select_option(index=index)
    page.locator("[data-tip]").first.hover(force=True)
    assert page.locator("script").count() == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("report", ["digits_report", "examples_report", "sharpness_report", "fit_report"])
def test_no_rule_of_accessibility_is_broken(visit, request, report, scheme):
    page = visit(request.getfixturevalue(report), color_scheme=scheme)
    broken = Axe().run(page).response["violations"]
    assert [(rule["id"], [node["html"][:120] for node in rule["nodes"]][:3]) for rule in broken] == []


def test_on_a_phone_the_page_scrolls_down_only(visit, examples_report):
    page = visit(examples_report, viewport=PHONE, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    page.locator("#groups-few-0 [data-tip]").tap()
    box = page.locator("#tip").bounding_box()
    assert box["x"] >= 0
    assert box["x"] + box["width"] <= PHONE["width"]


def test_it_prints_to_a_pdf_of_a_few_pages(visit, examples_report):
    content = visit(examples_report).pdf(format="A4")
    assert content.startswith(b"%PDF")
    assert 2 <= content.count(b"/Type /Page\n") <= 12


def test_without_scripts_everything_but_the_play_is_there(visit, examples_report):
    page = visit(examples_report, java_script_enabled=False)
    assert page.locator("figure svg").count() == 6
    assert page.locator("#one").is_hidden()
    assert page.locator("table").first.is_visible()
