import pytest
import torch

from imbsam.config import Options
from imbsam.errors import OptionError, PriorsError, PriorsWarning
from imbsam.inputs import ImageSpec, TableSpec
from imbsam.priors import ClassPriors
from imbsam.training.defaults import kind_of, resolved, tail_classes

CLASSES = ("ant", "bee", "cow", "dog")
PRIORS = ClassPriors.from_counts([500, 80, 30, 7])


def image(side: int) -> ImageSpec:
    return ImageSpec(3, side, side, (0.5,) * 3, (0.2,) * 3)


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        (TableSpec(3, ()), "table"),
        (image(15), "tiny"),
        (image(16), "image"),
        (image(96), "image"),
        (image(97), "large"),
        (ImageSpec(1, 8, 40, (0.5,), (0.2,)), "image"),
    ],
)
def test_kind_of_data_goes_by_the_longer_side(spec, kind):
    assert kind_of(spec) == kind


@pytest.mark.parametrize(
    ("source", "spec", "expected"),
    [
        ("digits", image(8), {"model": "mlp", "epochs": 100, "batch_size": 32, "rho": 0.2, "imbalance": 50.0}),
        ("photos", image(32), {"model": "resnet20", "epochs": 52, "batch_size": 32, "rho": 0.05, "augment": "crop"}),
        ("photos", image(224), {"model": "resnet18", "augment": "imagenet", "imbalance": None, "rare": "last"}),
        ("a.csv", TableSpec(3, ()), {"model": "mlp", "epochs": 60, "augment": "none", "rho": 0.05, "lr": 0.1}),
    ],
)
def test_open_options_are_filled_by_the_kind_of_data(source, spec, expected):
    flat = resolved(Options(), source, spec, PRIORS).flat()
    assert {name: flat[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("spec", "values", "sampler"),
    [
        (image(32), {}, "repeated"),
        (image(224), {"method": "sgd"}, "repeated"),
        (image(32), {"augment": "none"}, "shuffle"),
        (image(32), {"finetune": True}, "shuffle"),
        (image(32), {"sampler": "balanced"}, "balanced"),
        (image(8), {}, "shuffle"),
        (TableSpec(3, ()), {}, "shuffle"),
    ],
)
def test_rare_images_are_repeated_where_augmentation_makes_others_of_them(spec, values, sampler):
    assert resolved(Options().updated(values), "photos", spec, PRIORS).data.sampler == sampler


@pytest.mark.parametrize(
    ("spec", "values", "average"),
    [
        (image(32), {}, "ema"),
        (image(224), {"method": "sgd"}, "ema"),
        (image(32), {"average": "none"}, "none"),
        (image(32), {"finetune": True}, "none"),
        (image(8), {}, "none"),
        (image(8), {"average": "ema"}, "ema"),
        (TableSpec(3, ()), {}, "none"),
    ],
)
def test_weights_are_averaged_where_images_are_learned_from_scratch(spec, values, average):
    assert resolved(Options().updated(values), "photos", spec, PRIORS).training.average == average


@pytest.mark.parametrize(
    ("rows", "values", "epochs"),
    [(2000, {}, 30), (1067, {}, 30), (1066, {}, 31), (300, {}, 107), (20, {}, 200), (300, {"epochs": 5}, 5)],
)
def test_few_images_are_seen_more_often(rows, values, epochs):
    priors = ClassPriors.from_counts([rows - 7, 7])
    for side in (32, 224):
        assert resolved(Options().updated(values), "photos", image(side), priors).training.epochs == epochs
    assert resolved(Options().updated({"finetune": True}), "photos", image(32), priors).training.epochs == 10


@pytest.mark.parametrize(
    ("side", "rows", "values", "size"),
    [
        (32, 12_800, {}, 128),
        (32, 12_799, {}, 64),
        (32, 6_399, {}, 32),
        (32, 100, {}, 32),
        (32, 16_000, {"epochs": 12}, 64),
        (224, 3_200, {"epochs": 59}, 32),
        (224, 1_000_000, {"epochs": 1}, 128),
        (224, 10_300, {"finetune": True}, 128),
        (224, 3_000, {"finetune": True}, 32),
        (32, 100, {"batch_size": 256}, 256),
    ],
)
def test_few_images_are_taken_in_smaller_batches(side, rows, values, size):
    priors = ClassPriors.from_counts([rows - 7, 7])
    assert resolved(Options().updated(values), "photos", image(side), priors).training.batch_size == size


@pytest.mark.parametrize(
    ("method", "side", "share"),
    [("auto", 32, 2 / 3), ("imbsam", 224, 2 / 3), ("imbsam", 8, 0.0), ("sam", 32, 0.0), ("sgd", 32, 0.0)],
)
def test_the_tail_of_images_is_flattened_late_in_training(method, side, share):
    assert resolved(Options().updated({"method": method}), "photos", image(side), PRIORS).method.sharp_from == share
    chosen = resolved(Options().updated({"method": method, "sharp_from": 0.25}), "photos", image(side), PRIORS)
    assert chosen.method.sharp_from == 0.25
    # Whoever says when it begins waits for nothing else.
    assert chosen.method.sharp_recall is None


@pytest.mark.parametrize(
    ("method", "side", "recall"),
    [("auto", 32, 0.8), ("imbsam", 224, 0.8), ("imbsam", 8, None), ("sam", 32, None), ("sgd", 32, None)],
)
def test_the_tail_of_images_is_flattened_once_it_is_learned(method, side, recall):
    assert resolved(Options().updated({"method": method}), "photos", image(side), PRIORS).method.sharp_recall == recall
    chosen = Options().updated({"method": method, "sharp_recall": 0.5})
    assert resolved(chosen, "photos", image(side), PRIORS).method.sharp_recall == 0.5


def test_what_the_user_chose_is_kept():
    chosen = {"model": "resnet32", "epochs": 3, "batch_size": 7, "rho": 0.0, "lr": 0.5, "warmup": 0.0, "imbalance": 1.0}
    flat = resolved(Options().updated(chosen), "digits", image(8), PRIORS).flat()
    assert {name: flat[name] for name in chosen} == chosen


@pytest.mark.parametrize(
    ("method", "base", "lr"),
    [
        ("sgd", "sgd", 0.1),
        ("adamw", "sgd", 0.001),
        ("imbsam", "adamw", 0.001),
        ("sam", "sgd", 0.1),
        ("sgd", "adamw", 0.1),
        ("muon", "sgd", 0.001),
        ("imbsam", "muon", 0.001),
    ],
)
def test_learning_rate_goes_by_the_base_optimizer(method, base, lr):
    assert resolved(Options().updated({"method": method, "base": base}), "digits", image(8), PRIORS).training.lr == lr


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 0.0), (9, 0.0), (30, 2.0), (100, 5.0), (300, 5.0)])
def test_warm_up_is_a_twentieth_of_the_epochs_at_most_five(epochs, warmup):
    assert resolved(Options().updated({"epochs": epochs}), "digits", image(8), PRIORS).training.warmup == warmup


def test_the_loss_is_logit_adjustment_unless_a_class_has_no_training_sample():
    assert resolved(Options(), "digits", image(8), PRIORS).loss.loss == "logit-adjustment"
    lacking = ClassPriors.from_counts([500, 0, 30, 7])
    assert resolved(Options(), "digits", image(8), lacking).loss.loss == "cross-entropy"
    chosen = Options().updated({"loss": "focal"})
    assert resolved(chosen, "digits", image(8), lacking).loss.loss == "focal"


def test_the_usual_method_is_a_blend_for_tables_and_imbsam_for_images():
    assert resolved(Options(), "a.csv", TableSpec(3, ()), PRIORS).method.method == "blend"
    assert resolved(Options(), "digits", image(8), PRIORS).method.method == "imbsam"
    for asked in ({"loss": "focal"}, {"model": "m:net"}, {"weights": "w.pt"}, {"method_options": ["tail-weight=2"]}):
        assert resolved(Options().updated(asked), "a.csv", TableSpec(3, ()), PRIORS).method.method == "imbsam"
    assert resolved(Options().updated({"method": "sam"}), "a.csv", TableSpec(3, ()), PRIORS).method.method == "sam"


def test_a_folder_called_digits_is_not_made_long_tailed(tmp_path, monkeypatch):
    (tmp_path / "digits").mkdir()
    monkeypatch.chdir(tmp_path)
    flat = resolved(Options(), "digits", image(8), PRIORS).flat()
    assert (flat["imbalance"], flat["rare"]) == (None, "last")


def test_nothing_is_left_open():
    flat = resolved(Options(), "digits", image(8), PRIORS).flat()
    open_options = {name for name, value in flat.items() if value in (None, "auto")}
    # These stay as the user has them: they name things that a run may do without, or the machine.
    optional = {"target", "image_size", "fit", "weights", "reweight_from", "clip_norm", "threads", "device", "tail"}
    optional |= {"separator", "decimal", "encoding", "repeat_threshold", "anneal_from", "sharp_recall"}
    # What the optimizer chooses by the model's layers.
    assert open_options == {*optional, "context_rows", "tune"}


@pytest.mark.parametrize(
    ("rule", "tail"),
    [
        ("fewer-than=31", "cow dog"),
        ("rarest-classes=0.25", "dog"),
        ("rarest-samples=0.19", "bee cow dog"),
        ("classes=dog,bee", "bee dog"),
        ("auto", "dog"),
    ],
)
def test_tail_rules_mark_their_classes(rule, tail):
    mask = tail_classes(rule, PRIORS, CLASSES)
    assert [name for name, marked in zip(CLASSES, mask.tolist(), strict=True) if marked] == tail.split()


@pytest.mark.parametrize("counts", [[500, 400, 300], [9, 8, 7]])
def test_auto_falls_back_on_the_rarest_third(counts):
    mask = tail_classes("auto", ClassPriors.from_counts(counts), ("a", "b", "c"))
    assert torch.equal(mask, torch.tensor([False, False, True]))


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("some", "not a tail rule"),
        ("fewer-than", "'' is not a number"),
        ("fewer-than=many", "'many' is not a number"),
        ("rarest-classes=x", "'x' is not a number"),
        ("classes=dog,fox", "no class 'fox'. The classes are ant, bee, cow, dog"),
        ("classes=", "no class ''"),
    ],
)
def test_a_rule_that_cannot_be_read_is_quoted(rule, told):
    with pytest.raises(OptionError, match="--tail") as caught:
        tail_classes(rule, PRIORS, CLASSES)
    assert f"--tail {rule}" in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("rule", ["fewer-than=0", "rarest-classes=0", "rarest-classes=1", "rarest-samples=nan"])
def test_a_value_out_of_range_is_refused(rule):
    with pytest.raises(PriorsError):
        tail_classes(rule, PRIORS, CLASSES)


def test_a_rule_that_marks_nothing_warns():
    with pytest.warns(PriorsWarning, match="marks no class"):
        tail_classes("fewer-than=2", PRIORS, CLASSES)
