import math
import re
from dataclasses import replace

import pytest

from imbsam.report import SharpnessStudy, findings, group_table, notes, write_sharpness
from imbsam.report.sharpness_runs import losses_of
from made_sharpness import MEASURED
from made_sharpness import made_sharpness as made


def words(page):
    return " ".join(re.sub(r"<style>.*?</style>|<[^>]+>", " ", page.read_text(), flags=re.DOTALL).split())


def test_the_page_has_the_answer_a_row_for_each_group_and_method_and_three_figures(tmp_path):
    page = write_sharpness(tmp_path, [made(), made("imbsam", height=0.25)], command="imbsam sharpness x y")
    text = words(page)
    assert "largest eigenvalue of the tail: imbsam 1 against 4 for sgd (one seed)" in text
    assert "imbsam sharpness x y" in text
    assert page.read_text().count("<svg") == 3
    assert "<i>c</i>" not in page.read_text()
    assert sorted(p.name for p in (tmp_path / "figures").iterdir()) == ["density.png", "line.png", "plane.png"]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    pages = [write_sharpness(tmp_path / name, [made(measures=["line"])]).read_bytes() for name in ("a", "b")]
    assert pages[0] == pages[1]


def test_groups_of_the_same_classes_share_their_rows():
    table = group_table(SharpnessStudy([made(), made("imbsam", height=0.25)]))
    assert [row[0].text for row in table.rows[::2]] == ["overall", "many, head", "few, tail"]
    assert [cell.text for cell in table.rows[1][1:]] == ["imbsam", "0.1", "2", "1", "-0.25", "2.25", "0.125", "0.0625"]


def test_over_seeds_the_median_the_range_and_how_many_agree_are_told():
    heights = {"sgd": (1.0, 2.0, 8.0), "imbsam": (0.5, 4.0, 1.0)}
    study = SharpnessStudy([made(m, s, height=h) for m, each in heights.items() for s, h in enumerate(each)])
    assert findings(study)[0] == (
        "largest eigenvalue of the tail: imbsam 4 against 8 for sgd (medians; lower in 2 of 3 paired seeds)"
    )
    assert group_table(study).rows[0][4].text == "8 (4 to 32)"
    assert group_table(study, brief=True).rows[0][4].text == "8"


def test_one_run_alone_is_told_beside_its_head():
    assert findings(SharpnessStudy([made()]))[0] == "largest eigenvalue of the tail: 4, of the head: 4"


@pytest.mark.parametrize("measures", [[name] for name in MEASURED])
def test_each_measure_alone_gives_a_page(tmp_path, measures):
    page = write_sharpness(tmp_path, [made(measures=measures), made("sam", measures=measures)])
    assert page.read_text().count("<svg") == (0 if measures[0] in ("trace", "sam") else 1)


def test_losses_of_a_group_are_weighed_by_rows_and_infinite_where_one_is():
    run = made()
    found = losses_of(run, [0, 1], [[1.0, 2.0, None], [3.0, 6.0, None]])
    assert found.tolist() == pytest.approx([(120 + 2 * 12) / 132, (3 * 120 + 6 * 12) / 132])
    assert losses_of(run, [1, 2], [[1.0, 2.0, None]]).tolist() == [math.inf]
    assert losses_of(replace(run, drawn=(32, 12, 0)), [1, 2], [[1.0, 2.0, None]]).tolist() == [2.0]


def test_what_limits_the_numbers_is_noted():
    rough = made("imbsam", drawn=[32, 12, 0], loss="ldam")
    spectra = rough.measured.spectrum.found
    spectra["tail"] = replace(spectra["tail"], converged=False)
    told = notes(SharpnessStudy([made(), rough]))
    assert ("no rows of 1 classes in the train data: <i>c</i>", "imbsam-seed0") in told
    assert ("extreme eigenvalues that need more Lanczos steps: tail within 5 %", "imbsam-seed0") in told
    assert any("different losses (cross-entropy, ldam)" in text for text, _ in told)
    assert notes(SharpnessStudy([made()])) == []


def test_a_run_whose_every_eigenvalue_is_zero_is_drawn(tmp_path):
    assert write_sharpness(tmp_path, [made(height=0.0)]).exists()
