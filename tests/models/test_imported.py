import importlib.util
from textwrap import dedent

import pytest
import torch
from torch import nn

from imbsam import models
from imbsam.errors import ModelError
from imbsam.inputs import ImageSpec, TableSpec
from imbsam.models.pretrained import expected_inputs

IMAGES = ImageSpec(3, 8, 8, (0.5,) * 3, (0.5,) * 3)
GREY = ImageSpec(1, 8, 8, (0.5,), (0.5,))
TABLE = TableSpec(3, (4,))

NET = """
    from torch import nn

    def net(spec, *, num_classes):
        return nn.Sequential(nn.Linear(spec.numeric + len(spec.cardinalities), 6), nn.ReLU(), nn.Linear(6, num_classes))
"""


def write(path, source):
    path.write_text(dedent(source))


def test_a_callable_is_called_with_the_spec_and_the_number_of_classes(module_folder):
    write(module_folder / "my_nets.py", NET)
    model = models.build("my_nets:net", TABLE, num_classes=5)
    assert model(torch.randn(2, 4)).shape == (2, 5)
    assert model.training


def test_a_module_within_a_package_is_found(module_folder):
    (module_folder / "my_package").mkdir()
    write(module_folder / "my_package" / "nets.py", NET)
    assert isinstance(models.build("my_package.nets:net", TABLE, num_classes=2), nn.Sequential)


def test_a_module_in_the_working_directory_is_found(tmp_path, monkeypatch):
    write(tmp_path / "nets_lying_here.py", NET)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    monkeypatch.chdir(tmp_path)
    assert isinstance(models.build("nets_lying_here:net", TABLE, num_classes=2), nn.Sequential)


def test_trying_the_model_out_leaves_running_statistics_and_random_numbers_alone(module_folder):
    write(
        module_folder / "normed.py",
        """
        from torch import nn

        def net(spec, num_classes):
            return nn.Sequential(nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, num_classes))
        """,
    )
    torch.manual_seed(0)
    model = models.build("normed:net", TABLE, num_classes=2)
    after = torch.rand(1)
    torch.manual_seed(0)
    nn.Linear(4, 2)
    assert torch.equal(after, torch.rand(1))
    assert int(model[0].num_batches_tracked) == 0


def test_a_cosine_classifier_replaces_the_last_linear_layer(module_folder):
    write(module_folder / "to_be_cosine.py", NET)
    model = models.build("to_be_cosine:net", TABLE, num_classes=5, cosine_classifier=True)
    assert isinstance(model[2], models.CosineClassifier)
    assert float(model(100 * torch.randn(20, 4)).detach().abs().max()) <= 1 + 1e-6


def test_a_model_with_its_own_cosine_classifier_keeps_it(module_folder):
    write(
        module_folder / "cosine_already.py",
        """
        from imbsam.models import CosineClassifier
        from torch import nn

        def net(spec, num_classes):
            return nn.Sequential(nn.Linear(4, num_classes), CosineClassifier(num_classes, num_classes))
        """,
    )
    model = models.build("cosine_already:net", TABLE, num_classes=3, cosine_classifier=True)
    assert isinstance(model[0], nn.Linear)


def test_a_cosine_classifier_is_refused_where_the_last_layer_is_unclear(module_folder):
    write(
        module_folder / "two_layers.py",
        """
        from torch import nn

        def net(spec, num_classes):
            return nn.Sequential(nn.Linear(4, num_classes), nn.Linear(num_classes, num_classes))
        """,
    )
    with pytest.raises(ModelError, match="not exactly one linear layer of 3 outputs"):
        models.build("two_layers:net", TABLE, num_classes=3, cosine_classifier=True)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise ValueError('no such size')", "making the model faulty:net failed: ValueError: no such size"),
        ("return 'a net'", "must be a torch.nn.Module; faulty:net returned str"),
        ("return nn.Linear(4, num_classes + 1)", r"logits \(B, 3\); .* it returned \(2, 4\)"),
        ("return nn.Linear(9, num_classes)", r"faulty:net fails on samples of shape \(4,\): RuntimeError"),
        ("return nn.LSTM(4, num_classes)", "it returned tuple"),
    ],
)
def test_a_callable_that_goes_wrong_is_named_with_the_reason(body, message, module_folder):
    write(module_folder / "faulty.py", f"from torch import nn\ndef net(spec, num_classes):\n    {body}\n")
    with pytest.raises(ModelError, match=message):
        models.build("faulty:net", TABLE, num_classes=3)


def test_a_module_that_is_missing_or_breaks_is_named(module_folder):
    with pytest.raises(ModelError, match="cannot import the module 'not_there' of the model not_there:net"):
        models.build("not_there:net", TABLE, num_classes=2)
    write(module_folder / "breaks.py", "import no_such_dependency\n")
    with pytest.raises(ModelError, match=r"'breaks' of the model breaks:net: .* 'no_such_dependency'"):
        models.build("breaks:net", TABLE, num_classes=2)


def test_an_attribute_that_is_missing_or_no_callable_is_named(module_folder):
    write(module_folder / "half.py", "size = 3\n")
    with pytest.raises(ModelError, match=r"'half' \(.*half.py\) has no 'net'"):
        models.build("half:net", TABLE, num_classes=2)
    with pytest.raises(ModelError, match=r"has no callable 'size'"):
        models.build("half:size", TABLE, num_classes=2)


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_that_is_missing_says_what_to_install(library):
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is installed here")
    with pytest.raises(ModelError, match=f"{library} cannot be imported: ModuleNotFoundError.*pip install {library}"):
        models.build(f"{library}:resnet18", IMAGES, num_classes=2)
    with pytest.raises(
        ModelError, match=f"^{library} cannot be imported: [^.]+[.] Install .*, or choose another model[.]$"
    ):
        expected_inputs(f"{library}:resnet18")


@pytest.mark.parametrize("library", ["torchvision", "timm"])
def test_a_library_built_for_another_torch_says_so(library, module_folder):
    write(module_folder / f"{library}.py", "raise RuntimeError('operator torchvision::nms does not exist')\n")
    with pytest.raises(ModelError, match=f"{library} cannot be imported: RuntimeError: operator.*fits torch 2"):
        models.build(f"{library}:resnet18", IMAGES, num_classes=2)


def test_torchvision_is_asked_for_untrained_models_of_our_classes(module_folder):
    (module_folder / "torchvision" / "models").mkdir(parents=True)
    (module_folder / "torchvision" / "__init__.py").touch()
    write(
        module_folder / "torchvision" / "models" / "__init__.py",
        """
        from torch import nn

        def get_model(name, weights="DEFAULT", num_classes=1000):
            assert (name, weights) == ("resnet50", None)
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, num_classes))
        """,
    )
    model = models.build("torchvision:resnet50", IMAGES, num_classes=4, cosine_classifier=True)
    assert isinstance(model[2], models.CosineClassifier)
    with pytest.raises(ModelError, match="takes RGB images, but these have 1 channel"):
        models.build("torchvision:resnet50", GREY, num_classes=4)
    with pytest.raises(ModelError, match="making the model torchvision:resnet0 failed: AssertionError"):
        models.build("torchvision:resnet0", IMAGES, num_classes=4)


def test_timm_is_asked_for_untrained_models_of_our_classes_and_channels(module_folder):
    write(
        module_folder / "timm.py",
        """
        from torch import nn

        def create_model(name, pretrained=True, num_classes=1000, in_chans=3):
            assert (name, pretrained) == ("convnext_atto", False)
            return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(in_chans, num_classes))
        """,
    )
    assert models.build("timm:convnext_atto", GREY, num_classes=4)(torch.randn(2, 1, 8, 8)).shape == (2, 4)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "timm:resnet18"])
def test_image_libraries_refuse_a_table(name):
    with pytest.raises(ModelError, match=f"{name} takes images, but these data are a table"):
        models.build(name, TABLE, num_classes=2)
