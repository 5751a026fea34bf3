"""Tables for notebooks: well formed, escaped, and with the numbers in them."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from imbsam.notebook.tables import NOTHING, Share, facts, folded, table


def parsed(html: str) -> ET.Element:
    return ET.fromstring(f"<div>{html}</div>")


def texts(html: str) -> list[list[str]]:
    return [["".join(cell.itertext()) for cell in row] for row in parsed(html).iter("tr")]


def test_a_table_has_its_caption_headings_and_numbers():
    html = table("Two rows", ["name", "count", "share", "loss"], [["a", 1234, Share(0.725), 0.123456]])
    assert parsed(html).findtext("table/caption") == "Two rows"
    assert texts(html) == [["name", "count", "share", "loss"], ["a", "1,234", "72.5\u00a0%", "0.1235"]]


def test_headings_say_what_they_head():
    scopes = [cell.get("scope") for cell in parsed(table("", ["a", "b"], [["x", 1], ["y", 2]])).iter("th")]
    assert scopes == ["col", "col", "row", "row"]


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", "a & b", '"><img src=x onerror=alert(1)>'])
def test_every_text_is_escaped(hostile):
    html = table(hostile, [hostile], [[hostile]]) + facts(hostile, [(hostile, hostile)]) + folded(hostile, "")
    assert hostile not in html
    tree = parsed(html)
    assert {element.tag for element in tree.iter()}.isdisjoint({"script", "img"})
    assert [caption.text for caption in tree.iter("caption")] == [hostile, hostile]
    assert tree.findtext("details/summary") == hostile
    assert texts(html) == [[hostile], [hostile], [hostile, hostile]]


@pytest.mark.parametrize("nothing", [None, math.nan, Share(None), Share(math.nan)])
def test_what_was_not_measured_is_a_dash_without_a_bar(nothing):
    html = facts("", [("recall", nothing)])
    assert texts(html) == [["recall", NOTHING]]
    assert "gradient" not in html


@pytest.mark.parametrize(("share", "end"), [(0.0, "0.0%"), (0.5, "50.0%"), (1.0, "100.0%")])
def test_the_bar_of_a_share_is_as_long_as_the_share(share, end):
    assert f"0.3) {end}, transparent {end})" in facts("", [("recall", Share(share))])


def test_numbers_stand_right_and_texts_left():
    html = table("", ["name", "count", "group"], [["a", 1, "few"], ["b", 2, "many"]])
    assert re.findall(r"text-align: (\w+)", html) == ["left", "right", "left"] * 3


def test_every_colour_lets_a_light_or_dark_page_through():
    html = table("caption", ["name", "share"], [["a", Share(0.5)]])
    alphas = [float(alpha) for alpha in re.findall(r"rgba\(\d+, \d+, \d+, ([\d.]+)\)", html)]
    assert alphas
    assert max(alphas) < 0.5
    assert set(re.findall(r"color: (\w+)", html)) == {"inherit"}
    assert "#" not in html
