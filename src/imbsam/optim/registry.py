"""Every method by its name, with its cost and its source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import get_type_hints

from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim.adaptive import Adaptive
from imbsam.optim.ascent import Ascent, Gradient
from imbsam.optim.bases import make_base
from imbsam.optim.cc_sam import CCSAM
from imbsam.optim.esam import ESAM, Stochastic
from imbsam.optim.focal_sam import FocalSAM
from imbsam.optim.friendly import Friendly
from imbsam.optim.gnm import GNM
from imbsam.optim.gsam import GSAM
from imbsam.optim.imbsam import ImbSAM
from imbsam.optim.looksam import LookSAM
from imbsam.optim.momentum import Momentum
from imbsam.optim.plain import Plain
from imbsam.optim.random import Random
from imbsam.optim.reuse import Reuse
from imbsam.optim.rise import Rise
from imbsam.optim.sam import ASAM, LESAM, MSAM, SAM, FriendlySAM, VaSSO
from imbsam.optim.sam_a import SAMA, TailSAMA
from imbsam.optim.sse_sam import SSESAM
from imbsam.optim.universal import DetSAM, FrobSAM, TraceSAM
from imbsam.optim.vasso import VarianceSuppressed
from imbsam.optim.weighted_sam import WeightedSAM, class_balanced, inverse_counts
from imbsam.priors import ClassPriors


@dataclass(frozen=True)
class Method:
    """One method of the family.

    Args:
        kind: The optimizer's class.
        does: What it does, in a line.
        cost: Forward-backwards of a row per step, where rows do not see each other; t is the tail's share.
        source: Paper.
        link: Paper or official code.
        classes: What a class-aware method takes after the base optimizer, made of the class priors.
        late: Options that are a number of steps, and the share of the run's steps that paper or code gives each.
        own_length: Whether rho is something else than the length of a normalised gradient step, so that a default of
            the data does not suit.
    """

    kind: type[SharpnessAware]
    does: str
    cost: str
    source: str
    link: str
    classes: Callable[[ClassPriors], object] | None = None
    late: Mapping[str, float] = field(default_factory=dict)
    own_length: bool = False


METHODS: Mapping[str, Method] = {
    "plain": Method(Plain, "the base optimizer itself, the control", "1", "-", "https://pytorch.org/docs/stable/optim"),
    "sam": Method(
        SAM, "flattens the loss of every class", "2", "Foret et al., ICLR 2021", "https://arxiv.org/abs/2010.01412"
    ),
    "asam": Method(
        ASAM,
        "SAM in a neighbourhood that follows the size of the weights",
        "2",
        "Kwon et al., ICML 2021",
        "https://github.com/SamsungLabs/ASAM",
        own_length=True,
    ),
    "gsam": Method(
        GSAM,
        "SAM that also lowers the gap to the perturbed loss",
        "2",
        "Zhuang et al., ICLR 2022",
        "https://github.com/juntang-zhuang/GSAM",
    ),
    "friendly-sam": Method(
        FriendlySAM,
        "SAM along what is particular to the batch",
        "2",
        "Li et al., CVPR 2024",
        "https://github.com/nblt/F-SAM",
    ),
    "vasso": Method(
        VaSSO,
        "SAM along a moving average of its ascent gradients",
        "2",
        "Li and Giannakis, NeurIPS 2023",
        "https://github.com/BingcongLi/VaSSO",
    ),
    "le-sam": Method(
        LESAM,
        "SAM as far as the loss rises by so much, not as far as a length",
        "2",
        "Wang et al., ICML 2026",
        "https://arxiv.org/abs/2605.10183",
        late={"anneal_from": 0.8, "anneal_to": 1.0},
        own_length=True,
    ),
    "looksam": Method(
        LookSAM,
        "SAM whose second pass is made every k steps",
        "1 + 1/k",
        "Liu et al., CVPR 2022",
        "https://arxiv.org/abs/2203.02714",
    ),
    "esam": Method(
        ESAM,
        "SAM on some weights and on the rows it hurts most",
        "4/3 + gamma",
        "Du et al., ICLR 2022",
        "https://github.com/dydjw9/Efficient_SAM",
    ),
    "msam": Method(
        MSAM,
        "SAM against the momentum, which spares the pass for the direction",
        "1",
        "Becker et al. 2024",
        "https://arxiv.org/abs/2401.12033",
        own_length=True,
    ),
    "gnm": Method(
        GNM,
        "steps at weights with noise on them",
        "1",
        "Li et al., NeurIPS 2024",
        "https://arxiv.org/abs/2410.21042",
        late={"halve_every": 59 / 70},
        own_length=True,
    ),
    "trace-sam": Method(
        TraceSAM,
        "keeps the trace of the Hessian small",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "frob-sam": Method(
        FrobSAM,
        "keeps the Frobenius norm of the Hessian small",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "det-sam": Method(
        DetSAM,
        "keeps the determinant of the Hessian small",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "imbsam": Method(
        ImbSAM,
        "flattens the loss of the tail classes only",
        "1 + t",
        "Zhou et al., ICCV 2023",
        "https://arxiv.org/abs/2308.07815",
        classes=lambda priors: priors.tail(fewer_than=20),
    ),
    "cc-sam": Method(
        CCSAM,
        "perturbs for every class, the further the rarer it is",
        "3",
        "Zhou et al., CVPR 2023",
        "https://github.com/zzpustc/CC-SAM",
        classes=lambda priors: priors,
        own_length=True,
    ),
    "focal-sam": Method(
        FocalSAM,
        "flattens more of a class's loss the rarer it is",
        "2.67",
        "Li et al., ICML 2025",
        "https://github.com/scongl/Focal-SAM",
        classes=lambda priors: priors,
    ),
    "sse-sam": Method(
        SSESAM,
        "flattens head and tail apart, late in training the tail only",
        "2, then 1 + t",
        "SSE-SAM, AAAI 2025",
        "https://github.com/Zemdalk/SSE-SAM",
        classes=lambda priors: priors.tail(fewer_than=20),
        late={"switch": 0.7},
    ),
    "sam-a": Method(
        SAMA,
        "flattens along the class-weighted loss, and learns from every row alike",
        "2",
        "Shwartz-Ziv et al., NeurIPS 2023",
        "https://arxiv.org/abs/2312.02517",
        classes=lambda priors: inverse_counts(priors.counts, power=1.0),
    ),
    "tail-sam-a": Method(
        TailSAMA,
        "every row learns where the loss of the tail classes is high",
        "1 + t",
        "this library, after Shwartz-Ziv et al., NeurIPS 2023",
        "https://arxiv.org/abs/2312.02517",
        classes=lambda priors: priors.tail(fewer_than=20),
    ),
    "sam-drw": Method(
        WeightedSAM,
        "SAM on a loss that is re-weighted late in training",
        "2",
        "Rangwani et al., NeurIPS 2022",
        "https://github.com/val-iisc/Saddle-LongTail",
        classes=class_balanced,
        late={"start": 0.8},
    ),
    "balanced-sam": Method(
        WeightedSAM,
        "SAM on a loss weighted by one over the root of the count of its class or target bin",
        "2",
        "Liu et al., ICCV 2025",
        "https://github.com/manmanjun/BSAM_for_Imbalanced_Regression",
        classes=lambda priors: inverse_counts(priors.counts),
    ),
}

ASCENTS: Mapping[str, Callable[..., Ascent]] = {
    "gradient": Gradient,
    "adaptive": Adaptive,
    "friendly": Friendly,
    "momentum": Momentum,
    "random": Random,
    "reuse": Reuse,
    "rise": Rise,
    "stochastic": Stochastic,
    "vasso": VarianceSuppressed,
}


def list_methods() -> dict[str, str]:
    """What each method does, in a line, by name."""
    return {name: method.does for name, method in METHODS.items()}


def options_of(name: str) -> dict[str, object]:
    """The options of a method and their defaults, without those that every method has.

    Args:
        name: One of :data:`METHODS`.

    Raises:
        OptionError: If the method is unknown.
    """
    parameters = signature(_known(name).kind).parameters.values()
    shared = {*get_type_hints(Common), "ascent", "radii"}
    return {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name not in shared}


def create(
    name: str,
    model: nn.Module,
    *,
    base: str | Base = "sgd",
    priors: ClassPriors | None = None,
    tail: Tensor | None = None,
    ascent: str | Ascent | None = None,
    ascent_options: Mapping[str, object] | None = None,
    total_steps: int | None = None,
    lr: float = 0.1,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    **options: object,
) -> SharpnessAware:
    """Make a method over a base optimizer, for a model.

    Args:
        name: One of :data:`METHODS`.
        model: Whose parameters that require a gradient are optimised.
        base: ``"sgd"``, ``"adamw"``, ``"adam"``, ``"rmsprop"`` or ``"muon"``; or an instance or a list of several, to
            which ``lr``, ``momentum`` and ``weight_decay`` do not apply. ``"muon"`` is Muon for the 2-D weights of
            hidden layers beside AdamW for the rest; its update is scaled to the size of AdamW's
            (``adjust_lr_fn="match_rms_adamw"``), so give the learning rate and weight decay of AdamW.
        priors: Of the training data; class-aware methods need them.
        tail: Tail classes, bool, shape ``(C,)``; by default those of ``priors`` with fewer than 20 samples.
        ascent: Another rule for the direction, a name of :data:`ASCENTS` or an instance.
        ascent_options: Options of a rule given by name.
        total_steps: Of the run; ``sse-sam`` leaves the head alone after 0.7 of them, ``sam-drw`` re-weights after 0.8,
            ``le-sam`` lets sigma fall from 0.8 of them on, ``gnm`` halves its noise after 59/70.
        lr: Learning rate.
        momentum: Of sgd, rmsprop and muon.
        weight_decay: Of the base optimizer.
        options: Of the method, see :func:`options_of`, and those of :class:`SharpnessAware`.

    Returns:
        The optimizer.

    Raises:
        OptionError: If a name or an option is unknown, out of range, or lacking.

    Example:
        >>> optimizer = create("focal-sam", model, priors=priors, lr=0.1, rho=0.2)  # doctest: +SKIP
    """
    method = _known(name)
    if isinstance(base, str):
        base = make_base(base, model, lr=lr, momentum=momentum, weight_decay=weight_decay)
    given = dict(options)
    if ascent_options and not isinstance(ascent, str):
        raise OptionError(f"ascent_options need an ascent by name: {', '.join(ASCENTS)}.")
    if ascent is not None:
        given["ascent"] = make_ascent(ascent, ascent_options or {})
    parameters = signature(method.kind).parameters
    if "ascent" in given and "ascent" not in parameters:
        raise OptionError(f"{name} has an ascent of its own; choose sam or imbsam with another one.")
    known = {p.name for p in parameters.values() if p.kind is Parameter.KEYWORD_ONLY} | set(get_type_hints(Common))
    unknown = [option for option in given if option not in known]
    if unknown:
        listed = ", ".join(sorted(known - {"radii"}))
        raise OptionError(f"{name} has no option {unknown[0]!r}; its options are {listed}.")
    arguments = _class_arguments(name, method, priors, tail)
    if total_steps is not None:
        given = {**{option: round(share * total_steps) for option, share in method.late.items()}, **given}
    return method.kind(base, *arguments, model=model, **given)  # type: ignore[arg-type]


def make_ascent(ascent: str | Ascent, options: Mapping[str, object]) -> Ascent:
    """Make a rule for the direction.

    Raises:
        OptionError: If the name or an option is unknown or out of range.
    """
    if isinstance(ascent, Ascent):
        return ascent
    if ascent not in ASCENTS:
        raise OptionError(f"there is no ascent {ascent!r}; there are {', '.join(ASCENTS)}.")
    known = signature(ASCENTS[ascent]).parameters
    unknown = [option for option in options if option not in known]
    if unknown:
        raise OptionError(f"the ascent {ascent} has no option {unknown[0]!r}; its options are {', '.join(known)}.")
    return ASCENTS[ascent](**options)


def _known(name: str) -> Method:
    if name not in METHODS:
        raise OptionError(f"there is no method {name!r}; there are {', '.join(METHODS)}.")
    return METHODS[name]


def _class_arguments(name: str, method: Method, priors: ClassPriors | None, tail: Tensor | None) -> list[object]:
    """What a class-aware method takes after the base optimizer."""
    if method.classes is None:
        return []
    if tail is not None and "tail" in signature(method.kind).parameters:
        if priors is not None and len(tail) != priors.num_classes:
            raise OptionError(f"tail marks {len(tail)} classes, and the priors have {priors.num_classes}.")
        return [tail]
    if priors is None:
        raise OptionError(f"{name} goes by classes: give priors=ClassPriors.from_targets(train_targets).")
    return [method.classes(priors)]
