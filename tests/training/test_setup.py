import pytest
import torch

from imbsam.config import Options
from imbsam.errors import DataError, OptionError, PriorsWarning
from imbsam.losses import Deferred
from imbsam.optim import ImbSAM
from imbsam.training import setup
from imbsam.training.criterion import loss_values


@pytest.fixture
def problem(options):
    def make(source="digits", **values):
        return setup.load_problem(source, options(**values))

    return make


@pytest.mark.parametrize("name", ["toaster", "cuda:99", "meta", ""])
def test_a_device_that_cannot_be_used_is_named(name):
    with pytest.raises(OptionError, match=f"--device {name}"):
        setup.device_of(name)


def test_auto_is_a_device_that_can_compute():
    assert torch.ones(2, device=setup.device_of("auto")).sum() == 2
    assert setup.device_of("cpu") == torch.device("cpu")


def test_the_options_of_a_run_reach_its_optimizer(problem):
    chosen = {"rho": 0.7, "lr": 0.3, "momentum": 0.5, "weight_decay": 0.01}
    loaded = problem(tail="classes=3,7", method_options="tail-weight=2", **chosen)
    optimizer = setup.build_optimizer(loaded, setup.build_model(loaded), total_steps=10)
    (group,) = optimizer.param_groups
    assert {name: group[name] for name in chosen} == chosen
    assert isinstance(optimizer, ImbSAM)
    assert optimizer.tail_weight == 2
    assert optimizer.tail.nonzero().flatten().tolist() == [3, 7]


def test_random_weights_depend_on_the_seed_alone(problem):
    models = []
    for noise, seed in ((1, 0), (2, 0), (3, 1)):
        loaded = problem(seed=seed)
        torch.manual_seed(noise)
        models.append(setup.build_model(loaded).state_dict())
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
    assert not torch.equal(models[0]["classifier.weight"], models[2]["classifier.weight"])


def test_images_get_their_channels_last_where_it_helps(problem, pets):
    assert setup.channels_last(problem(str(pets)))
    assert not setup.channels_last(problem(str(pets), channels_last=False))
    assert not setup.channels_last(problem("digits"))


@pytest.mark.parametrize(("share", "start"), [(0.0, 0), (0.8, 160), (1.0, 200)])
def test_deferred_weights_start_at_their_share_of_the_epochs(problem, share, start):
    criterion = setup.build_criterion(problem(reweight_from=share, epochs=200))
    assert isinstance(criterion, Deferred)
    assert criterion.start == start


def test_loss_parameters_are_numbers_by_name(options):
    assert loss_values(options(loss_options=["max-margin=0.3", "scale=1e1"])) == {
        "max_margin": 0.3,
        "scale": 10,
    }
    with pytest.raises(OptionError, match="--loss-options scale: give NAME=NUMBER"):
        loss_values(options(loss_options=["scale"]))


def test_digits_are_long_tailed_unless_asked_otherwise(problem):
    assert problem().options.data.imbalance == 50.0
    balanced = problem(imbalance=1.0)
    assert balanced.priors.imbalance_factor < 1.1


def test_data_that_are_others_are_refused(problem):
    loaded = problem()
    classes, counts = list(loaded.dataset.classes), loaded.priors.counts.tolist()
    loaded.check_same_data(classes, counts)
    for other in (([*classes[1:], "x"], counts), (classes, [*counts[1:], 1]), ([], [])):
        with pytest.raises(DataError, match="digits has changed since the run was started"):
            loaded.check_same_data(*other)


def test_a_tail_rule_that_marks_nothing_warns_and_is_noted(problem):
    with pytest.warns(PriorsWarning, match="marks no class"):
        loaded = problem(tail="fewer-than=1")
    assert any("marks no class" in note for note in loaded.dataset.notes)


def test_groups_follow_the_data_where_the_customary_bounds_say_nothing_and_a_note_says_so(pets):
    found = setup.load_problem(str(pets), Options())
    (note,) = [note for note in found.dataset.notes if "shot group" in note]
    assert len(set(found.groups)) > 1
    assert f"below {found.options.training.few_below:,}, is few-shot" in note
    # The options of a run that is resumed are filled in.
    again = setup.load_problem(str(pets), found.options)
    assert (again.groups, again.dataset.notes) == (found.groups, found.dataset.notes)
    bounded = setup.load_problem(str(pets), Options().updated({"few_below": 20}))
    assert set(bounded.groups) == {"few"}
    assert not [note for note in bounded.dataset.notes if "shot group" in note]
