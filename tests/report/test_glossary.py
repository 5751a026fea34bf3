"""Reports and model cards use the terms of the field."""

import pytest

from glossary import idioms, prose, visible


@pytest.mark.parametrize("name", ["digits_report", "examples_report", "fit_report", "sharpness_report"])
def test_a_report_uses_the_terms_of_the_field(name, request):
    page = request.getfixturevalue(name).read_text(encoding="utf-8")
    shown = visible(page)
    assert len(shown.split()) > 100
    assert idioms(shown) == []


def test_a_model_card_uses_the_terms_of_the_field(digits_report):
    cards = [path.read_text(encoding="utf-8") for path in digits_report.parent.rglob("model-card.md")]
    assert cards
    assert [hit for card in cards for hit in idioms(prose(card))] == []
