"""Registry of the methods by name, each with its cost and its source."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from inspect import Parameter, signature
from typing import Literal, get_type_hints

from imbsam.errors import OptionError
from imbsam.optim._options import Common
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim.adaptive import Adaptive
from imbsam.optim.ascent import Ascent, Gradient
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
from imbsam.optim.sampa import SAMPa
from imbsam.optim.sse_sam import SSESAM
from imbsam.optim.universal import DetSAM, FrobSAM, TraceSAM
from imbsam.optim.vasso import VarianceSuppressed
from imbsam.optim.weighted_sam import WeightedSAM, class_balanced, inverse_counts
from imbsam.priors import ClassPriors

Family = Literal["plain", "all-classes", "class-aware"]
PassNumber = Literal["one pass", "one pass and some rows again", "two passes or more"]


@dataclass(frozen=True)
class Method:
    """One method of the family.

    Args:
        kind: Class of the optimizer.
        does: One line that says what the method does.
        take: One line that says when to choose it.
        cost: Forward-backwards of a row per step, where rows do not see each other; t is the tail's share.
        source: Paper.
        link: Address of the paper or the official code.
        classes: Function from the class priors to the arguments that a class-aware method takes after the base
            optimizer.
        late: Options that are a number of steps, with the share of the run's steps that paper or code gives each.
        own_length: Whether rho is not the length of a normalised gradient, so that the default for the data does not
            apply.
    """

    kind: type[SharpnessAware]
    does: str
    take: str
    cost: str
    source: str
    link: str
    classes: Callable[[ClassPriors], object] | None = None
    late: Mapping[str, float] = field(default_factory=dict)
    own_length: bool = False

    @property
    def family(self) -> Family:
        """Family of the method: it makes no loss flat, that of all classes alike, or that of some more than others."""
        return "plain" if self.kind is Plain else "class-aware" if self.kind.class_aware else "all-classes"

    @property
    def passes(self) -> PassNumber:
        """Number of forwards of a row in a step: one, one with some rows again, or at least two."""
        if self.cost == "1":
            return "one pass"
        return "one pass and some rows again" if self.cost in ("1 + t", "1 + 1/k") else "two passes or more"


METHODS: Mapping[str, Method] = {
    "plain": Method(
        Plain,
        "the base optimizer itself",
        "always: the control of every comparison",
        "1",
        "-",
        "https://pytorch.org/docs/stable/optim",
    ),
    "sam": Method(
        SAM,
        "flattens the loss of every class",
        "classes are balanced, and the network overfits",
        "2",
        "Foret et al., ICLR 2021",
        "https://arxiv.org/abs/2010.01412",
    ),
    "asam": Method(
        ASAM,
        "SAM in a neighbourhood that follows the size of the weights",
        "like sam, when layers differ much in scale",
        "2",
        "Kwon et al., ICML 2021",
        "https://github.com/SamsungLabs/ASAM",
        own_length=True,
    ),
    "gsam": Method(
        GSAM,
        "SAM that also lowers the gap to the perturbed loss",
        "like sam, with a schedule of rho",
        "2",
        "Zhuang et al., ICLR 2022",
        "https://github.com/juntang-zhuang/GSAM",
    ),
    "friendly-sam": Method(
        FriendlySAM,
        "SAM along the part of the gradient particular to the batch",
        "sam costs accuracy on frequent classes",
        "2",
        "Li et al., CVPR 2024",
        "https://github.com/nblt/F-SAM",
    ),
    "vasso": Method(
        VaSSO,
        "SAM along a moving average of its ascent gradients",
        "like sam, when batches are small and directions noisy",
        "2",
        "Li and Giannakis, NeurIPS 2023",
        "https://github.com/BingcongLi/VaSSO",
    ),
    "le-sam": Method(
        LESAM,
        "SAM up to a given rise of the loss, not up to a given length",
        "like sam, when no single rho suits the steep start and the flat end",
        "2",
        "Wang et al., ICML 2026",
        "https://arxiv.org/abs/2605.10183",
        late={"anneal_from": 0.8, "anneal_to": 1.0},
        own_length=True,
    ),
    "sampa": Method(
        SAMPa,
        "SAM whose two gradients can be computed in parallel",
        "research: two devices could share the work; one device gains nothing",
        "2",
        "Xie et al., NeurIPS 2024",
        "https://github.com/LIONS-EPFL/SAMPa",
    ),
    "looksam": Method(
        LookSAM,
        "SAM whose second pass is made every k steps",
        "like sam, when two passes cost too much; watch the loss",
        "1 + 1/k",
        "Liu et al., CVPR 2022",
        "https://arxiv.org/abs/2203.02714",
    ),
    "esam": Method(
        ESAM,
        "SAM on some weights and on the rows it hurts most",
        "like sam, when two passes cost too much and batches are large",
        "4/3 + gamma",
        "Du et al., ICLR 2022",
        "https://github.com/dydjw9/Efficient_SAM",
    ),
    "msam": Method(
        MSAM,
        "SAM against the momentum, without a pass for the direction",
        "like sam, at the cost of sgd; the base needs a momentum",
        "1",
        "Becker et al. 2024",
        "https://arxiv.org/abs/2401.12033",
        own_length=True,
    ),
    "gnm": Method(
        GNM,
        "steps at weights with noise on them",
        "few parameters are tuned (prompts), and one pass has to suffice",
        "1",
        "Li et al., NeurIPS 2024",
        "https://arxiv.org/abs/2410.21042",
        late={"halve_every": 59 / 70},
        own_length=True,
    ),
    "trace-sam": Method(
        TraceSAM,
        "keeps the trace of the Hessian small",
        "research: another measure of sharpness",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "frob-sam": Method(
        FrobSAM,
        "keeps the Frobenius norm of the Hessian small",
        "research: another measure of sharpness",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "det-sam": Method(
        DetSAM,
        "keeps the determinant of the Hessian small",
        "research: another measure of sharpness",
        "1 + n",
        "Bahri et al., ICML 2024",
        "https://github.com/dbahri/universal_sam",
        own_length=True,
    ),
    "imbsam": Method(
        ImbSAM,
        "flattens the loss of the tail classes only",
        "rare classes are memorised and fail on new data: start here",
        "1 + t",
        "Zhou et al., ICCV 2023",
        "https://arxiv.org/abs/2308.07815",
        classes=lambda priors: priors.tail(fewer_than=20),
    ),
    "cc-sam": Method(
        CCSAM,
        "perturbs every class separately, the rarer the further",
        "few classes, and time for a pass of each",
        "3",
        "Zhou et al., CVPR 2023",
        "https://github.com/zzpustc/CC-SAM",
        classes=lambda priors: priors,
        own_length=True,
    ),
    "focal-sam": Method(
        FocalSAM,
        "flattens more of a class's loss the rarer it is",
        "class counts fall gradually, without a clear split into head and tail",
        "2.67",
        "Li et al., ICML 2025",
        "https://github.com/scongl/Focal-SAM",
        classes=lambda priors: priors,
    ),
    "sse-sam": Method(
        SSESAM,
        "flattens head and tail separately, late in training the tail only",
        "the head classes overfit as well",
        "2, then 1 + t",
        "SSE-SAM, AAAI 2025",
        "https://github.com/Zemdalk/SSE-SAM",
        classes=lambda priors: priors.tail(fewer_than=20),
        late={"switch": 0.7},
    ),
    "sam-a": Method(
        SAMA,
        "flattens along the class-weighted loss, and learns from every row alike",
        "rare classes matter, but the loss should stay unweighted",
        "2",
        "Shwartz-Ziv et al., NeurIPS 2023",
        "https://arxiv.org/abs/2312.02517",
        classes=lambda priors: inverse_counts(priors.counts, power=1.0),
    ),
    "tail-sam-a": Method(
        TailSAMA,
        "takes every row's gradient where the loss of the tail is high",
        "like imbsam, but the head rows learn at the perturbed weights, too",
        "1 + t",
        "this library, after Shwartz-Ziv et al., NeurIPS 2023",
        "https://arxiv.org/abs/2312.02517",
        classes=lambda priors: priors.tail(fewer_than=20),
    ),
    "sam-drw": Method(
        WeightedSAM,
        "SAM on a loss that is re-weighted late in training",
        "cross-entropy on long-tailed images, and time for two passes",
        "2",
        "Rangwani et al., NeurIPS 2022",
        "https://github.com/val-iisc/Saddle-LongTail",
        classes=class_balanced,
        late={"start": 0.8},
    ),
    "balanced-sam": Method(
        WeightedSAM,
        "SAM on a loss weighted by one over the root of the count of its class or target bin",
        "a continuous target with rare ranges",
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
    """List what each method does, in a line, by name."""
    return {name: method.does for name, method in METHODS.items()}


def options_of(name: str) -> dict[str, object]:
    """Return the options of a method and their defaults, without those that every method has.

    Args:
        name: One of :data:`METHODS`.

    Raises:
        OptionError: If the method is unknown.
    """
    parameters = signature(known_method(name).kind).parameters.values()
    shared = {*get_type_hints(Common), "ascent", "radii"}
    return {p.name: p.default for p in parameters if p.kind is Parameter.KEYWORD_ONLY and p.name not in shared}


def known_method(name: str) -> Method:
    """Return a method by its name.

    Args:
        name: One of :data:`METHODS`.

    Raises:
        OptionError: If there is no such method.
    """
    if name not in METHODS:
        raise OptionError(f"there is no method {name!r}; there are {', '.join(METHODS)}.")
    return METHODS[name]
