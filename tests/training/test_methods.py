import pytest
import torch
from torch import nn

from imbsam.config import MethodOptions, Options
from imbsam.errors import OptionError
from imbsam.optim import ASCENTS, METHODS, SAM, ImbSAM, Plain
from imbsam.priors import ClassPriors
from imbsam.training.methods import NAMES, PLAIN, base_of, make_optimizer, own_options, rho_of, with_own_options

PRIORS = ClassPriors.from_counts([100, 50, 5])


def make(**chosen):
    return make_optimizer(
        MethodOptions(**{"rho": 0.1, **chosen}),
        nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)),
        priors=PRIORS,
        tail=PRIORS.tail(fewer_than=20),
        lr=0.2,
        momentum=0.8,
        weight_decay=0.01,
        total_steps=100,
    )


def test_the_names_are_the_base_optimizers_and_every_registered_method():
    assert set(NAMES) == {*PLAIN, *METHODS} - {"plain"}


@pytest.mark.parametrize(
    ("method", "base", "wrapper", "inner"),
    [
        ("sgd", "sgd", Plain, torch.optim.SGD),
        ("sgd", "adamw", Plain, torch.optim.SGD),
        ("adamw", "sgd", Plain, torch.optim.AdamW),
        ("sam", "sgd", SAM, torch.optim.SGD),
        ("sam", "adamw", SAM, torch.optim.AdamW),
        ("imbsam", "adamw", ImbSAM, torch.optim.AdamW),
    ],
)
def test_a_method_goes_around_its_base_optimizer(method, base, wrapper, inner):
    optimizer = make(method=method, base=base)
    assert (type(optimizer), type(optimizer.base)) == (wrapper, inner)
    assert base_of(MethodOptions(method=method, base=base)) == inner.__name__.lower()
    assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["weight_decay"]) == (0.2, 0.01)


@pytest.mark.parametrize("chosen", [{"method": "muon"}, {"method": "sam", "base": "muon"}])
def test_muon_goes_beside_adamw(chosen):
    optimizer = make(**chosen)
    assert [type(base) for base in optimizer.base.optimizers] == [torch.optim.Muon, torch.optim.AdamW]
    assert base_of(MethodOptions(**chosen)) == "muon"
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.2, 0.01)] * 2


@pytest.mark.parametrize("name", NAMES)
def test_every_own_option_is_taken_with_its_default(name):
    defaults = own_options(name)
    pairs = tuple(f"{option}={value}" for option, value in defaults.items() if value is not None)
    optimizer = make(method=name, method_options=pairs)
    for option, value in defaults.items():
        if value is not None and hasattr(optimizer, option):
            assert getattr(optimizer, option) == value


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PLAIN])
def test_every_method_gets_the_neighbourhood_size(name):
    assert make(method=name, rho=0.3).param_groups[0]["rho"] == 0.3


@pytest.mark.parametrize(
    ("name", "rho"),
    [("sgd", 0.0), ("adamw", 0.0), ("muon", 0.0), ("sam", 0.2), ("imbsam", 0.2), ("asam", 0.5), ("cc-sam", 1e-6)],
)
def test_without_a_rho_the_data_decide_unless_it_measures_something_else(name, rho):
    assert rho_of(MethodOptions(method=name), 0.2) == rho


def test_options_reach_the_method_and_the_ascent():
    optimizer = make(
        method_options=("tail-weight=2",),
        ascent="adaptive",
        ascent_options=("damping=0.3", "scope=all"),
        batch_statistics="batch",
        context_rows=3,
    )
    assert isinstance(optimizer, ImbSAM)
    assert optimizer.tail_weight == 2
    assert (optimizer.ascent.damping, optimizer.ascent.scope) == (0.3, "all")
    assert (optimizer.batch_statistics, optimizer.context_rows) == ("batch", 3)


@pytest.mark.parametrize(
    ("told", "chosen"),
    [
        ("there is no method 'foo'; there are sgd, adamw, muon, sam", {"method": "foo"}),
        ("there is no method 'plain'", {"method": "plain"}),
        ("there is no ascent 'foo'", {"ascent": "foo"}),
        ("--method-options tail_weight: give NAME=VALUE", {"method_options": ("tail_weight",)}),
        ("there is no option 'alpha'; there are: tail_weight", {"method_options": ("alpha=1",)}),
        ("there is no option 'lr'", {"method_options": ("lr=1",)}),
        ("there is no option 'alpha'; there are: none", {"method": "sgd", "method_options": ("alpha=1",)}),
        ("--method-options tail_weight=big: ", {"method_options": ("tail_weight=big",)}),
        ("--method-options tail_weight=: ", {"method_options": ("tail_weight=",)}),
        ("tail_weight must be finite", {"method_options": ("tail_weight=nan",)}),
        ("--method-options interval=1.5: ", {"method": "looksam", "method_options": ("interval=1.5",)}),
        ("--method-options per_tensor=x: ", {"method": "looksam", "method_options": ("per_tensor=x",)}),
        ("--method-options switch=soon: ", {"method": "sse-sam", "method_options": ("switch=soon",)}),
        ("--ascent-options eta=[: ", {"ascent": "adaptive", "ascent_options": ("eta=[",)}),
        ("--ascent-options need an --ascent", {"ascent_options": ("damping=1",)}),
        ("sgd is plain: it takes no --ascent", {"method": "sgd", "ascent": "adaptive"}),
        ("asam has its own ascent", {"method": "asam", "ascent": "friendly"}),
        ("sgd is plain: it takes no --perturb", {"method": "sgd", "perturb": ("norms",)}),
        ("perturb='norms' finds no normalisation layer", {"perturb": ("norms",)}),
        ("perturb='head.*' matches no parameter of the optimizer", {"perturb": ("head.*",)}),
        ("--anneal-from belongs to the ascent rise: choose --ascent rise", {"anneal_from": 0.9}),
        ("--anneal-from belongs to the ascent rise", {"anneal_from": 0.9, "ascent": "friendly"}),
        ("--anneal-from belongs to the ascent rise", {"anneal_from": 0.9, "method": "sgd"}),
    ],
)
def test_what_cannot_be_is_told(told, chosen):
    with pytest.raises(OptionError) as caught:
        make(**chosen)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "steps"),
    [
        ({"ascent": "rise"}, (None, None)),
        ({"ascent": "rise", "anneal_from": 0.9}, (90, 100)),
        ({"ascent": "rise", "anneal_from": 0.9, "ascent_options": ("anneal-from=50",)}, (50, 100)),
        ({"method": "sam-drw", "ascent": "rise", "anneal_from": 0.0}, (0, 100)),
        ({"method": "le-sam"}, (80, 100)),
        ({"method": "le-sam", "anneal_from": 0.25}, (25, 100)),
        ({"method": "le-sam", "anneal_from": 1.0}, (100, 100)),
    ],
)
def test_the_rise_falls_from_a_share_of_the_steps_on(chosen, steps):
    ascent = make(**chosen).ascent
    assert (ascent.anneal_from, ascent.anneal_to) == steps


def test_the_parameters_to_perturb_reach_the_method():
    assert make(perturb=("0.*", "1.bias")).perturb == ("0.*", "1.bias")
    assert make().perturb == ("all",)
    options = with_own_options(Options(), {"method": "sam", "perturb": "norms"})
    assert options.method.perturb == ("norms",)


def test_own_options_may_stand_among_the_general_ones():
    options = with_own_options(Options(), {"method": "gsam", "rho": 0.1, "alpha": 0.7, "lr": 0.3})
    assert (options.method.method, options.method.rho, options.training.lr) == ("gsam", 0.1, 0.3)
    assert options.method.method_options == ("alpha=0.7",)
    assert make(method="gsam", method_options=options.method.method_options).alpha == 0.7


def test_the_options_of_an_ascent_may_stand_there_too():
    options = with_own_options(Options(), {"ascent": "friendly", "sigma": 0.5, "tail_weight": 2})
    assert options.method.ascent_options == ("sigma=0.5",)
    assert options.method.method_options == ("tail_weight=2",)


@pytest.mark.parametrize("values", [{"method": "sam", "alpha": 1}, {"method": "sgd", "tail_weight": 2}, {"rh": 1}])
def test_options_of_another_method_are_unknown(values):
    with pytest.raises(OptionError, match="there is no option"):
        with_own_options(Options(), values)


@pytest.mark.parametrize("name", ASCENTS)
def test_every_ascent_goes_with_imbsam(name):
    assert type(make(ascent=name).ascent) is ASCENTS[name]
