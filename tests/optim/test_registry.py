"""Methods, ascents and bases by name."""

import inspect
import re

import pytest
import torch

import imbsam.optim
from cases import BATCHES, HEAD_AND_TAIL, MLP, TAIL
from imbsam import ClassPriors
from imbsam.errors import OptionError
from imbsam.optim import (
    ASCENTS,
    CCSAM,
    ESAM,
    GNM,
    GSAM,
    LESAM,
    METHODS,
    MSAM,
    SAM,
    SAMA,
    SSESAM,
    Adaptive,
    DetSAM,
    FocalSAM,
    FriendlySAM,
    FrobSAM,
    Gradient,
    ImbSAM,
    LookSAM,
    Plain,
    SAMPa,
    SharpnessAware,
    TailSAMA,
    TargetBins,
    TraceSAM,
    UniversalSAM,
    VaSSO,
    WeightedSAM,
    create,
    list_methods,
    options_of,
)
from imbsam.optim.bases import BASES
from imbsam.optim.weighted_sam import class_balanced, inverse_counts
from optim.family import COUNTS, PRIORS, made
from optim.loops import contents, identical, sgd, take_step

OFFICIAL: dict[str, dict[str, object]] = {
    "sam": {"rho": 0.05},
    "asam": {"rho": 0.5, "eta": 0.01, "scope": "weights"},
    "gsam": {"alpha": 0.4},
    "friendly-sam": {"rho": 0.05, "sigma": 1.0, "decay": 0.9},
    "vasso": {"rho": 0.05, "theta": 0.9},
    "msam": {"rho": 0.3},
    "gnm": {"rho": 0.05, "scale": 0.1},
    "le-sam": {"rho": 0.3, "sigma": 0.35},
    "sampa": {"rho": 0.1, "share": 0.2},
    "looksam": {"rho": 0.1, "alpha": 0.7, "per_tensor": False},
    "esam": {"rho": 0.05, "beta": 0.6, "gamma": 0.5},
    "trace-sam": {"rho": 0.01, "samples": 1, "strength": 1.0, "sampler": "sphere"},
    "frob-sam": {"rho": 0.005, "samples": 2, "strength": 0.005},
    "det-sam": {"rho": 1.0, "samples": 1, "strength": 1.0, "half_width": 0.01},
    "imbsam": {"rho": 0.05, "tail_weight": 1.0},
    "cc-sam": {"rho": 1e-6, "flat": 0.5, "per_tensor": True},
    "focal-sam": {"rho": 0.2, "gamma": 1.0, "strength": 0.5},
    "sse-sam": {"rho": 0.1, "head_rho": 0.05, "switch": None},
}
"""Defaults of the official code, or of its script where its class has none."""


def methods_of_the_package() -> set[type]:
    public = vars(imbsam.optim).values()
    return {c for c in public if inspect.isclass(c) and issubclass(c, SharpnessAware)}


def test_every_method_of_the_package_is_registered() -> None:
    """UniversalSAM takes functions, so it has no name on the command line."""
    registered = {method.kind for method in METHODS.values()}
    assert methods_of_the_package() - registered == {SharpnessAware, UniversalSAM}


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_what_it_does_its_cost_and_its_source(name: str) -> None:
    method = METHODS[name]
    assert list_methods()[name] == method.does
    assert "\n" not in method.does
    assert len(method.does) <= 100
    assert "\n" not in method.take
    assert 10 <= len(method.take) <= 80
    assert method.link.startswith("https://")
    assert re.search(r"\d{4}", method.source) or name == "plain"
    assert method.cost


def test_methods_are_grouped_by_whose_loss_they_make_flat_and_by_their_passes() -> None:
    groups: dict[tuple[str, str], list[str]] = {}
    for name, method in METHODS.items():
        groups.setdefault((method.family, method.passes), []).append(name)
    assert groups[("plain", "one pass")] == ["plain"]
    assert groups[("all-classes", "one pass")] == ["msam", "gnm"]
    assert groups[("all-classes", "one pass and some rows again")] == ["looksam"]
    assert groups[("class-aware", "one pass and some rows again")] == ["imbsam", "tail-sam-a"]
    assert {"sam", "esam", "trace-sam"} <= set(groups[("all-classes", "two passes or more")])
    assert {"cc-sam", "focal-sam", "sse-sam", "sam-a"} <= set(groups[("class-aware", "two passes or more")])
    assert len(groups) == 6


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_its_formula_in_its_docstring_or_its_ascents(name: str) -> None:
    text = METHODS[name].kind.__doc__
    if "as its ascent" in text:
        text += type(made(name, MLP.model()).ascent).__doc__
    if name == "esam":
        text += imbsam.optim.Stochastic.__doc__
    if issubclass(METHODS[name].kind, UniversalSAM):
        text += UniversalSAM.__doc__
    assert re.search(r"``[eg] = |``g_p - ", text)


ENGINE = {
    "rho": 0.05,
    "model": None,
    "batch_statistics": "context",
    "context_rows": None,
    "row_multiple": 1,
    "rows": "needed",
    "check_rows": True,
    "ascent": None,
    "nonfinite": "raise",
    "climb": "together",
    "sharp_from": 0,
    "perturb": "all",
    "radii": None,
}
DEFAULTS = {
    "plain": {},
    "sam": {"rho": 0.05},
    "asam": {"rho": 0.5, "eta": 0.01, "scope": "weights"},
    "gsam": {"rho": 0.05, "alpha": 0.4},
    "friendly-sam": {"rho": 0.05, "sigma": 1.0, "decay": 0.9},
    "vasso": {"rho": 0.05, "theta": 0.9},
    "msam": {"rho": 0.3},
    "gnm": {"rho": 0.05, "scale": 0.1, "halve_every": None},
    "le-sam": {"rho": 0.3, "sigma": 0.35, "anneal_from": None, "anneal_to": None},
    "sampa": {"rho": 0.1, "share": 0.2},
    "looksam": {"rho": 0.1, "interval": 5, "alpha": 0.7, "per_tensor": False},
    "esam": {"rho": 0.05, "beta": 0.6, "gamma": 0.5},
    "trace-sam": {"rho": 0.01, "samples": 1, "strength": 1.0, "sampler": "sphere"},
    "frob-sam": {"rho": 0.005, "samples": 2, "strength": 0.005},
    "det-sam": {"rho": 1.0, "samples": 1, "strength": 1.0, "half_width": 0.01},
    "imbsam": {"rho": 0.05, "tail_weight": 1.0},
    "cc-sam": {"rho": 1e-6, "flat": 0.5, "per_tensor": True, "classifier": None},
    "focal-sam": {"rho": 0.2, "gamma": 1.0, "strength": 0.5},
    "sse-sam": {"rho": 0.1, "head_rho": 0.05, "switch": None},
    "sam-a": {"rho": 0.05},
    "tail-sam-a": {"rho": 0.05},
    "sam-drw": {"rho": 0.05, "start": 0},
    "balanced-sam": {"rho": 0.05, "start": 0},
}
OF_ASCENTS = {
    "gradient": {"damping": 0.0},
    "adaptive": {"eta": 0.01, "scope": "weights", "damping": 0.0},
    "friendly": {"sigma": 1.0, "decay": 0.9, "damping": 0.0},
    "momentum": {},
    "random": {"sampler": "sphere", "half_width": 1.0},
    "reuse": {"refresh": 0, "decay": 0.0, "damping": 0.0},
    "rise": {"rise": 0.01, "anneal_from": None, "anneal_to": None},
    "stochastic": {"beta": 1.0},
    "vasso": {"theta": 0.9, "damping": 0.0},
}


def defaults_of(callable_: object) -> dict[str, object]:
    parameters = inspect.signature(callable_).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not inspect.Parameter.empty}


def test_who_says_nothing_gets_what_the_docstrings_say() -> None:
    assert {name: options_of(name) for name in METHODS} == DEFAULTS
    assert {name: defaults_of(make) for name, make in ASCENTS.items()} == OF_ASCENTS
    assert defaults_of(SharpnessAware) == ENGINE
    assert defaults_of(UniversalSAM) == {
        "rho": 0.01,
        "samples": 1,
        "strength": 1.0,
        "sampler": "sphere",
        "half_width": 1.0,
    }
    assert defaults_of(class_balanced) == {"beta": 0.9999}
    assert defaults_of(inverse_counts) == defaults_of(TargetBins.weights) == {"power": 0.5}
    assert defaults_of(TargetBins.from_targets) == {"bins": 20}
    of_create = defaults_of(create)
    assert (of_create["base"], of_create["lr"], of_create["momentum"]) == ("sgd", 0.1, 0.9)
    assert of_create["weight_decay"] == 0.0


@pytest.mark.parametrize("name", OFFICIAL)
def test_defaults_are_those_of_the_official_code(name: str) -> None:
    options = options_of(name)
    assert {key: options[key] for key in OFFICIAL[name]} == OFFICIAL[name]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("plain", Plain),
        ("sam", SAM),
        ("gsam", GSAM),
        ("friendly-sam", FriendlySAM),
        ("vasso", VaSSO),
        ("le-sam", LESAM),
        ("sampa", SAMPa),
        ("msam", MSAM),
        ("gnm", GNM),
        ("looksam", LookSAM),
        ("esam", ESAM),
        ("trace-sam", TraceSAM),
        ("frob-sam", FrobSAM),
        ("det-sam", DetSAM),
        ("imbsam", ImbSAM),
        ("cc-sam", CCSAM),
        ("focal-sam", FocalSAM),
        ("sse-sam", SSESAM),
        ("sam-a", SAMA),
        ("tail-sam-a", TailSAMA),
        ("sam-drw", WeightedSAM),
        ("balanced-sam", WeightedSAM),
    ],
)
def test_a_name_makes_its_class_over_a_base_made_by_name(name: str, kind: type) -> None:
    model = MLP.model()
    optimizer = create(name, model, base="adamw", lr=0.003, weight_decay=0.2, priors=PRIORS, tail=TAIL)
    assert type(optimizer) is kind
    assert isinstance(optimizer.base, torch.optim.AdamW)
    assert optimizer.param_groups[0]["lr"] == 0.003
    assert optimizer.param_groups[0]["weight_decay"] == 0.2
    assert optimizer.model is model


@pytest.mark.parametrize("base", BASES)
def test_every_base_by_name_trains(base: str) -> None:
    model = MLP.model()
    optimizer = create("sam", model, base=base, lr=0.01)
    before = contents(model)
    take_step(optimizer, model, MLP.loss, MLP.batch(HEAD_AND_TAIL))
    assert not identical(before, contents(model))


def test_a_base_by_name_leaves_frozen_parameters_out() -> None:
    model = MLP.model()
    model[0].requires_grad_(False)
    optimizer = create("sam", model)
    assert optimizer.param_groups[0]["param_names"] == ["2.weight", "2.bias"]


def test_the_command_of_the_issue_works() -> None:
    model = MLP.model()
    optimizer = create("focal-sam", model, priors=PRIORS, lr=0.1, rho=0.2)
    for batch in MLP.batches():
        take_step(optimizer, model, MLP.loss, batch)
    assert optimizer.steps == len(BATCHES)


def test_the_tail_is_by_default_the_classes_with_fewer_than_twenty_samples() -> None:
    assert create("imbsam", MLP.model(), priors=PRIORS).tail.tolist() == [n < 20 for n in COUNTS]


@pytest.mark.parametrize(
    ("name", "option", "share"),
    [
        ("sse-sam", "switch", 0.7),
        ("sam-drw", "start", 0.8),
        ("le-sam", "anneal_from", 0.8),
        ("le-sam", "anneal_to", 1),
        ("gnm", "halve_every", 59 / 70),
    ],
)
def test_a_stage_begins_at_its_share_of_the_steps(name: str, option: str, share: float) -> None:
    def held(**options: int) -> object:
        optimizer = create(name, MLP.model(), total_steps=200, priors=PRIORS, tail=TAIL, **options)
        return getattr(optimizer if hasattr(optimizer, option) else optimizer.ascent, option)

    assert held() == round(share * 200)
    other = 170 if option == "anneal_to" else 7
    assert held(**{option: other}) == other


def test_the_weights_of_the_registered_re_weightings_are_by_class_counts() -> None:
    drw = create("sam-drw", MLP.model(), priors=PRIORS).weights
    balanced = create("balanced-sam", MLP.model(), priors=PRIORS).weights
    effective = torch.tensor([(1 - 0.9999**n) / (1 - 0.9999) for n in COUNTS], dtype=torch.float64)
    torch.testing.assert_close(drw, 5 / effective / (1 / effective).sum(), atol=1e-9, rtol=0)
    torch.testing.assert_close(
        create("sam-a", MLP.model(), priors=PRIORS).weights, 97 / 5 / torch.tensor(COUNTS).double()
    )
    torch.testing.assert_close(balanced / balanced[-1], torch.tensor([n**-0.5 for n in COUNTS], dtype=torch.float64))


@pytest.mark.parametrize("ascent", ASCENTS)
@pytest.mark.parametrize(
    "name",
    [
        "sam",
        "gsam",
        "looksam",
        "imbsam",
        "cc-sam",
        "focal-sam",
        "sse-sam",
        "sam-a",
        "tail-sam-a",
        "sam-drw",
        "balanced-sam",
    ],
)
def test_a_method_takes_any_ascent_by_name(name: str, ascent: str) -> None:
    model = MLP.model()
    if METHODS[name].kind.keeps_ascents and ASCENTS[ascent].spares_passes:
        with pytest.raises(OptionError, match="choose an ascent by gradient"):
            create(name, model, priors=PRIORS, tail=TAIL, ascent=ascent)
        return
    optimizer = create(name, model, priors=PRIORS, tail=TAIL, ascent=ascent, lr=0.05)
    assert type(optimizer.ascent) is ASCENTS[ascent]
    for batch in MLP.batches()[:3]:
        take_step(optimizer, model, MLP.loss, batch)
    assert all(bool(t.isfinite().all()) for t in contents(model))


def test_an_ascent_takes_its_options_by_name_or_as_an_instance() -> None:
    model = MLP.model()
    by_name = create("sam", model, ascent="adaptive", ascent_options={"eta": 0.2, "scope": "all"})
    as_instance = create("sam", model, ascent=Adaptive(0.2, scope="all"))
    assert repr(by_name.ascent) == repr(as_instance.ascent) == "Adaptive(eta=0.2, scope='all', damping=0.0)"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: create("imb-sam", m), r"there is no method 'imb-sam'; there are plain, sam, asam, gsam, .*imbsam"),
        (lambda m: options_of("nosuch"), r"there is no method 'nosuch'; there are plain, sam"),
        (
            lambda m: create("sam", m, ascent="friendy"),
            r"there is no ascent 'friendy'; there are gradient, adaptive, friendly, momentum, .*vasso",
        ),
        (
            lambda m: create("sam", m, ascent="friendly", ascent_options={"beta": 1.0}),
            r"the ascent friendly has no option 'beta'; its options are sigma, decay, damping",
        ),
        (
            lambda m: create("sam", m, ascent_options={"damping": 0.1}),
            "ascent_options need an ascent by name: gradient",
        ),
        (
            lambda m: create("sam", m, ascent=Gradient(), ascent_options={"damping": 0.1}),
            "ascent_options need an ascent by name",
        ),
        (lambda m: create("asam", m, ascent="gradient"), "asam has its own ascent; choose sam or imbsam"),
        (lambda m: create("friendly-sam", m, ascent=Gradient()), "friendly-sam has its own ascent"),
        (lambda m: create("plain", m, rho=0.1), "plain has no option 'rho'; its options are"),
        (lambda m: create("focal-sam", m), r"focal-sam needs class priors: give priors=ClassPriors.from_targets"),
        (lambda m: create("imbsam", m), r"imbsam needs class priors: give priors="),
        (
            lambda m: create("imbsam", m, priors=PRIORS, tail=TAIL[:3]),
            "tail marks 3 classes, and the priors have 5",
        ),
        (lambda m: create("imbsam", m, tail=[3, 4]), r"tail must mark the tail classes.*; got \[3, 4\]"),
        (
            lambda m: create("imbsam", m, tail=torch.tensor([[0, 1]])),
            r"tail must mark the tail classes.*; got torch\.int64 of shape \(1, 2\)",
        ),
        (
            lambda m: create("sam", m, base="sdg"),
            "there is no base optimizer 'sdg'; there are sgd, adamw, adam, rmsprop, muon",
        ),
        (lambda m: create("sam", m, base=None), "base must be an optimizer instance"),
        (lambda m: create("frob-sam", m, samples=1), "samples must be a whole number, at least 2; got 1"),
        (lambda m: create("sse-sam", m, priors=PRIORS, head_rho=-1.0), "head_rho must be finite and at least 0"),
        (
            lambda m: create("sam", m, nonfinite="ignore"),
            "nonfinite must be 'raise', 'skip' or 'unchecked'; got 'ignore'",
        ),
        (lambda m: create("sam", m, batch_statistics="none"), "batch_statistics must be 'batch' or 'context'"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(call: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        call(MLP.model())


def test_a_method_without_classes_takes_priors_and_a_tail_that_it_does_not_need() -> None:
    """A comparison passes the same arguments to every method."""
    model, twin = MLP.model(), MLP.model()
    one = create("sam", model, base=sgd(model.parameters()), priors=ClassPriors.from_counts([3, 2]), tail=TAIL)
    other = SAM(sgd(twin.parameters()), model=twin)
    for batch in MLP.batches():
        take_step(one, model, MLP.loss, batch)
        take_step(other, twin, MLP.loss, batch)
    assert identical(contents(model), contents(twin))


@pytest.mark.parametrize(("base", "momentum"), [("sgd", 0.7), ("rmsprop", 0.7), ("adamw", None), ("adam", None)])
def test_a_base_by_name_gets_the_rates_that_it_has(base: str, momentum: float | None) -> None:
    optimizer = create("sam", MLP.model(), base=base, lr=0.3, momentum=0.7, weight_decay=0.02)
    (group,) = optimizer.param_groups
    assert (group["lr"], group["weight_decay"], group.get("momentum")) == (0.3, 0.02, momentum)
