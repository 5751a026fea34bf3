import pytest
import torch

from imbsam import data, models
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec
from imbsam.training import setup
from imbsam.training.finetuning import check_finetuning, class_means, start_head

SPEC = ImageSpec(3, 8, 8, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
FULL = torch.autocast("cpu", dtype=torch.bfloat16, enabled=False)


def samples(count=30, classes=4):
    draw = torch.Generator().manual_seed(0)
    values = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=draw)
    targets = torch.arange(count) % (classes - 1)
    return data.TensorSamples(values, targets, [str(n) for n in range(count)])


def test_the_head_starts_at_the_means_of_normalised_features():
    model = models.build("models.tiny_vit:vit", SPEC, num_classes=4, finetune=models.FineTune("last"))
    train, random = samples(), model.head.weight.detach().clone()
    start_head(model, class_means(model, train, SPEC, 4, FULL))
    assert model.training
    seen = []
    model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].detach().double()))
    pixels = train.values.double() / 255
    mean, std = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (SPEC.mean, SPEC.std))
    model.eval()(((pixels - mean) / std).float())
    for c in range(3):
        own = seen[0][train.targets == c]
        direction = (own / own.norm(dim=1, keepdim=True)).mean(dim=0)
        torch.testing.assert_close(model.head.weight[c].double(), direction / direction.norm(), rtol=0, atol=1e-5)
    # No sample: it stays as it was drawn.
    assert torch.equal(model.head.weight[3], random[3])


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"finetune": True}, "--model auto has none: give --weights"),
        ({"finetune": True, "model": "resnet20"}, "--model resnet20 has none: give --weights"),
        ({"tune": "lora"}, "add --finetune"),
        ({"lora_rank": 4}, "add --finetune"),
        ({"finetune": True, "model": "a:b", "tune": "last", "lora_rank": 4}, "--tune last has none"),
        ({"finetune": True, "model": "a:b", "method": "forest"}, "--method forest is for tables"),
    ],
)
def test_options_that_do_not_go_together_are_refused(values, told, options):
    with pytest.raises(OptionError, match=told):
        check_finetuning(options(**values))


def test_tables_are_refused(parts_csv, options):
    values = {"finetune": True, "model": "models.tiny_vit:vit", "target": "kind"}
    with pytest.raises(OptionError, match="is for images"):
        setup.load_problem(str(parts_csv), options(**values))


def test_defaults_are_those_of_the_paper_and_of_the_model(pets, options):
    values = {"finetune": True, "model": "models.tiny_vit:vit_of_photographs", "epochs": None}
    problem = setup.load_problem(str(pets), options(**values))
    used = problem.options
    assert (used.training.epochs, used.training.lr, used.training.batch_size) == (10, 0.01, 32)
    assert used.data.image_size == 12
    assert problem.dataset.spec == ImageSpec(3, 12, 12, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    assert data.spec_of(problem.dataset.preprocess) == problem.dataset.spec


def test_what_was_asked_for_is_kept(pets, options):
    values = {"finetune": True, "model": "models.tiny_vit:vit_of_photographs", "epochs": 3, "lr": 0.2}
    problem = setup.load_problem(str(pets), options(image_size=8, batch_size=16, **values))
    training = problem.options.training
    assert (training.epochs, training.lr, training.batch_size) == (3, 0.2, 16)
    assert problem.dataset.spec.height == 8
