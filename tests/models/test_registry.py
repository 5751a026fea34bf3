import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.errors import ModelError, OptionError
from imbsam.inputs import ImageSpec, TableSpec

RGB = ImageSpec(3, 32, 32, (0.5,) * 3, (0.5,) * 3)
DIGITS = ImageSpec(1, 8, 8, (0.3,), (0.4,))
TABLE = TableSpec(3, (4, 11))
OURS = [name for name in models.MODELS if ":" not in name]


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize("name", OURS)
def test_images_give_logits_and_the_last_layer_is_the_classifier(name, cosine):
    model = models.build(name, DIGITS, num_classes=7, cosine_classifier=cosine)
    assert model(torch.randn(4, 1, 8, 8)).shape == (4, 7)
    assert type(model.classifier) is (models.CosineClassifier if cosine else nn.Linear)
    assert model.training


@pytest.mark.parametrize("name", OURS)
def test_every_parameter_gets_a_gradient(name):
    model = models.build(name, DIGITS, num_classes=3)
    model(torch.randn(4, 1, 8, 8)).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.parameters())


@pytest.mark.parametrize("name", OURS)
def test_the_same_seed_makes_the_same_weights(name):
    def weights(seed):
        torch.manual_seed(seed)
        return nn.utils.parameters_to_vector(models.build(name, DIGITS, num_classes=3).parameters())

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize("name", ["resnet20", "resnet34"])
def test_a_resnet_refuses_a_table(name):
    with pytest.raises(ModelError, match=f"{name} takes images, but these data are a table: choose mlp"):
        models.build(name, TABLE, num_classes=2)


@pytest.mark.parametrize("name", ["resnet1001", "", "no-colon", ":callable", "module:"])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(ModelError, match=r"choose one of resnet20, .*, mlp, torchvision:NAME"):
        models.build(name, RGB, num_classes=2)


@pytest.mark.parametrize(
    ("name", "option", "value"),
    [
        ("resnet20", "hidden", (64,)),
        ("mlp", "width", 0.5),
        ("mlp", "norm", "group"),
        ("module:callable", "width", 2.0),
        ("module:callable", "hidden", ()),
    ],
)
def test_an_option_of_another_model_is_refused_not_ignored(name, option, value):
    with pytest.raises(OptionError, match=f"{name} has no option {option}"):
        models.build(name, DIGITS, num_classes=2, **{option: value})


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet20", {"width": 0.0}, "width must be a number above 0; got 0.0"),
        ("resnet20", {"width": float("nan")}, "width must be a number above 0"),
        ("resnet18", {"norm": "layer"}, "norm must be 'batch' or 'group'; got 'layer'"),
        ("mlp", {"hidden": (32, 0)}, r"hidden must be numbers of units of at least 1; got \(32, 0\)"),
    ],
)
def test_an_option_out_of_range_is_named(name, options, message):
    with pytest.raises(OptionError, match=message):
        models.build(name, DIGITS, num_classes=2, **options)


def test_a_model_without_classes_is_refused():
    with pytest.raises(ModelError, match="num_classes=0"):
        models.build("mlp", TABLE, num_classes=0)
