import json
import re
from html.parser import HTMLParser

import pytest
from PIL import Image

from imbsam.errors import RunError
from imbsam.report import write_report
from imbsam.runs.folder import RunFolder
from made_records import made_epoch

VOID = {"meta", "br", "img", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, attributes and texts, and fails on a tag that is not closed where it should be."""

    def __init__(self, path):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.extend(attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data)

    @property
    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(params=["digits_report", "hostile_report"])
def page(request):
    return request.getfixturevalue(request.param)


def test_the_page_is_balanced_html(page):
    assert {"title", "h1", "table", "svg", "figcaption"} <= set(Page(page).tags)


def test_the_page_asks_nothing_of_any_network(page):
    for key, value in Page(page).attributes:
        if key in {"src", "href", "action", "data", "poster", "srcset"}:
            assert value.startswith(("#", "data:image/png;base64,")), (key, value)
    assert not re.search(r"https?://|@import|url\((?!#)", page.read_text(encoding="utf-8"))


def test_the_page_forbids_every_script_but_its_own(hostile_report):
    policy = next(v for k, v in Page(hostile_report).attributes if k == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert re.search(r"script-src 'sha256-[\w+/]{43}='", policy)


def test_hostile_names_are_shown_as_text_and_never_become_markup(hostile_report, hostile_names):
    page = Page(hostile_report)
    assert page.tags.count("script") == 2
    assert ("type", "application/json") in page.attributes
    assert not {"b", "i", "img"} & set(page.tags)
    assert not [key for key, _ in page.attributes if key.startswith("on")]
    for shown in (
        "<b>imbsam</b>&rho=$0.2$",
        "<img src=x onerror=alert(3)>",
        "{{ 7 * 7 }}",
        "<i>key</i>",
        "two lines and",
        "<script>alert(1)<… (200)",
    ):
        assert shown in page.words


def test_ids_are_unique_and_references_lead_to_them(page):
    attributes = Page(page).attributes
    ids = [value for key, value in attributes if key == "id"]
    assert len(ids) == len(set(ids))
    targets = {value[1:] for key, value in attributes if key == "href" and value.startswith("#")}
    targets |= {t for key, value in attributes if key == "clip-path" for t in re.findall(r"url\(#(.+?)\)", value)}
    assert targets
    assert targets <= set(ids)


def test_every_figure_has_words_for_those_who_do_not_see_it(digits_report):
    page = Page(digits_report)
    spoken = [v for k, v in page.attributes if k == "aria-label"]
    assert page.tags.count("svg") == 6
    assert page.tags.count("figcaption") == 6
    assert any("few-shot recall: sgd" in words for words in spoken)


def test_figures_are_valid_images_beside_the_page(page):
    paths = sorted((page.parent / "figures").iterdir())
    names = ["classes", "confusion_baseline", "confusion_leader", "curves", "gain", "groups"]
    assert [path.stem for path in paths] == names
    for path in paths:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
            image.load()


def test_the_answer_comes_first_and_carries_the_interval(digits_report):
    words = Page(digits_report).words
    answer = re.search(r"few-shot recall: imbsam .+? for sgd, \+.+? points \(95 % interval .+? over 3 seeds\)", words)
    assert answer
    assert answer.start() < words.index("Scores")


def test_the_page_names_the_command_the_versions_and_the_differing_options(digits_report):
    words = Page(digits_report).words
    assert "imbsam compare digits --methods sgd,sam,imbsam" in words
    assert "torch 2.13.0" in words
    assert "Options that differ between methods" in words


def test_writing_again_gives_the_same_bytes_and_leaves_nothing_else(run, tmp_path):
    page = write_report(run(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert write_report(tmp_path) == page == tmp_path / "report.html"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert not [path for path in before if path.name.startswith(".")]


def test_an_error_leaves_the_earlier_report_as_it_was(run, tmp_path):
    page = write_report(run(tmp_path, epochs=2))
    before = page.read_bytes()
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(RunError):
        write_report(tmp_path)
    assert page.read_bytes() == before


def test_a_single_run_lists_its_classes_and_compares_nothing(run, tmp_path):
    page = Page(write_report(run(tmp_path, notes=["3 rows were skipped"])))
    assert "imbsam-seed0: 3 rows were skipped" in page.words
    assert "Recall of each class on the test set in percent, over 1 seed" in page.words
    assert "Difference to" not in page.words
    assert "epochs 12, best 10" in page.words


def test_runs_that_did_not_finish_are_named(comparison, tmp_path):
    comparison(tmp_path, methods=("sgd", "imbsam"), seeds=2)
    (tmp_path / "runs/imbsam-seed1/result.json").unlink()
    (tmp_path / "runs/sgd-seed1/metrics.jsonl").unlink()
    words = Page(write_report(tmp_path)).words
    assert "runs/imbsam-seed1: did not finish" in words
    assert "sgd-seed1: no metrics.jsonl" in words
    assert "(one seed, so no interval)" in words


def test_a_baseline_without_a_finished_run_still_gives_a_report(comparison, tmp_path):
    comparison(tmp_path, methods=("sgd", "imbsam"), seeds=1)
    (tmp_path / "runs/sgd-seed0/result.json").unlink()
    assert "no difference to report" in Page(write_report(tmp_path)).words


def test_without_test_set_and_few_shot_classes_the_validation_set_is_reported(run, tmp_path):
    page = Page(write_report(run(tmp_path, test=None, counts=[400, 300, 50])))
    assert "scores of the validation set" in page.words
    assert "balanced accuracy" in page.words
    assert "few-shot recall (%)" not in page.words


def test_a_run_that_was_never_evaluated_still_gives_a_report(run, tmp_path):
    run(tmp_path, test=None, validation=None, best_epoch=None)
    folder = RunFolder(tmp_path)
    folder.keep_metrics(0)
    for epoch in (1, 2):
        folder.append_metrics(made_epoch(epoch, train_loss=float("nan")))
    page = Page(write_report(tmp_path))
    assert "no evaluated run" in page.words
    assert "svg" not in page.tags


def test_a_class_without_training_samples_and_one_without_test_samples_are_drawn(run, tmp_path):
    run(tmp_path, counts=[200, 50, 3, 0])
    result = json.loads((tmp_path / "result.json").read_text())
    result["test"]["per_class"][3] = None
    result["test"]["confusion"][3] = [0, 0, 0, 0]
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert Page(write_report(tmp_path)).tags.count("svg") == 4


def test_a_hundred_classes_and_twelve_methods_stay_small(comparison, tmp_path):
    counts = [round(500 * 0.955**c) for c in range(100)]
    methods = ("sgd", *(f"imbsam:rho={r / 20}" for r in range(11)))
    page = write_report(comparison(tmp_path, methods=methods, seeds=1, counts=counts, epochs=3))
    assert page.stat().st_size < 1_500_000
    assert "12 methods on digits" in Page(page).words


def test_a_note_on_every_method_of_some_seeds_names_the_seeds(comparison, tmp_path):
    folder = comparison(tmp_path, methods=["sgd", "imbsam"], seeds=3)
    for path in folder.glob("runs/*/result.json"):
        content = json.loads(path.read_text())
        content["notes"] = ["few samples stay"] if content["seed"] < 2 else []
        content["notes"] += ["on one run"] if content["name"] == "sgd-seed2" else []
        path.write_text(json.dumps(content))
    text = Page(write_report(folder)).words
    assert "seeds 0, 1: few samples stay" in text
    assert "sgd-seed2: on one run" in text
