"""CC-SAM: every class is perturbed along its own gradient, and further the rarer the class is."""

from collections.abc import Sequence
from typing import Unpack

import torch
from torch import Tensor, nn

from imbsam.errors import OptionError
from imbsam.optim._numbers import check_number
from imbsam.optim._one_layer import OneLayer
from imbsam.optim._options import Common
from imbsam.optim._several import Base
from imbsam.optim._sharpness_aware import SharpnessAware
from imbsam.optim._step import Step
from imbsam.optim._targets import class_shares, row_shares
from imbsam.optim._terms import Term, divided, mean_weights
from imbsam.optim.ascent import Ascent, Climbed, Memory, Slope, global_norm
from imbsam.priors import ClassPriors


class ClassConditional(Ascent):
    """Class-conditional ascent of CC-SAM (CVPR 2023): longer where the weights are large and the gradient is small.

    ``e = s * sqrt(P) * g / |g|`` with ``s = rho * sqrt(|w| / (2 |g|)) * P^(-1/4)``.
    ``P`` is the number of entries of all parameters that are perturbed; a group whose rho is 0 is not. The factor
    ``(n_c - 1)^(-1/4)`` of the rule belongs to the class, so it is that of the term.

    Args:
        per_tensor: Take ``w`` and ``g`` of each parameter alone, as the released code does, instead of over all
            perturbed parameters together.
    """

    def __init__(self, *, per_tensor: bool = True) -> None:
        self.per_tensor = per_tensor

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        """Add the perturbation to the parameters."""
        whole = global_norm([g for s in slopes for g in s.grads])
        flat = [(s.rho, p, g) for s in slopes if s.rho for p, g in zip(s.params, s.grads, strict=True)]
        size = sum(p.numel() * (2 if p.is_complex() else 1) for _, p, _ in flat)
        groups = [[one] for one in flat] if self.per_tensor else [flat]
        for group in groups:
            weight, slope = global_norm([p for _, p, _ in group]), global_norm([g for _, _, g in group])
            length = (weight / (2 * slope)).sqrt() * size**0.25
            scale = torch.where(slope > 0, length / slope, 0.0)
            for rho, p, g in group:
                p.add_(g * scale.to(p), alpha=rho)
        return Climbed(whole)

    def __repr__(self) -> str:
        return f"ClassConditional(per_tensor={self.per_tensor})"


class _OfOneLayer(ClassConditional):
    """The same for all classes at once, of a layer that knows the gradient of each; the parameters stay as they are."""

    spares_passes = True
    layer: OneLayer | None = None

    def needs_gradient(self, memory: Memory, step: int) -> bool:
        return False

    def climb(self, slopes: Sequence[Slope], memory: Memory) -> Climbed:
        assert self.layer is not None
        flat = [(-s.rho if s.options.get("maximize") else s.rho, p) for s in slopes if s.rho for p in s.params]
        size = sum(p.numel() for _, p in flat)
        # By the number of dimensions: of the weights, and of the bias.
        squares = dict(zip((2, 1), self.layer.squares(), strict=True))
        scales = {of: torch.zeros_like(each) for of, each in squares.items()}
        for group in [[one] for one in flat] if self.per_tensor else [flat]:
            weight = global_norm([p.detach() for _, p in group])
            slope = torch.stack([squares[p.ndim] for _, p in group]).sum(0).sqrt()
            length = (weight / (2 * slope)).sqrt() * size**0.25
            for rho, p in group:
                scales[p.ndim] = rho * torch.where(slope > 0, length / slope, 0.0)
        self.layer.move(scales[2], scales[1])
        return Climbed(torch.stack(list(squares.values())).sum().sqrt())


class CCSAM(SharpnessAware):
    """Class-conditional SAM (Zhou et al., CVPR 2023), its first stage.

    ``g = (1 - flat) * grad L(w) + flat * sum_c grad L_c(w + e_c)`` over the classes c of the batch, ``L_c`` the sum of
    the class's losses over the size of the batch, and ``e_c`` by :class:`ClassConditional`, along the gradient of the
    class's own mean loss, times ``max(1, n_c - 1)^(-1/4)``; a class with one training sample, where the published rule
    divides by zero, counts as one with two. Across ranks the class's mean is that of the ranks' means.

    Costs up to three forward-backwards of every row where rows do not see each other, whatever the number of classes;
    with BatchNorm, passes for every class of the batch. The released code perturbs the classifier alone, as
    ``classifier`` does in two forward-backwards.

    Args:
        base: Base optimizer that makes the step: any ``torch.optim.Optimizer`` instance, or a list of several.
        priors: Class priors of the training data.
        rho: Factor on the rule's length; 1 in the paper, 1e-6 in the released code (``noise_ratio`` there).
        flat: Share of the perturbed loss, in [0, 1]; 0.3 for CIFAR-10-LT and 0.5 for CIFAR-100-LT.
        per_tensor: See :class:`ClassConditional`.
        classifier: Name of an ``nn.Linear`` in ``model``, such as ``"fc"``, that alone is perturbed, as in the released
            code. It has to be called once in a forward, with one row of features for each row of the batch, in order.
            The perturbations of all classes then take one pass: with or without BatchNorm a step costs two
            forward-backwards of every row. For one process, classes ``(B,)`` and ``flat`` below 1.
        ascent: Rule to use instead of :class:`ClassConditional`; the class's factor stays.
        common: Further options, see :class:`SharpnessAware`.

    Raises:
        OptionError: If an option is out of range.
    """

    class_aware = True
    memberships = True

    def __init__(
        self,
        base: Base,
        priors: ClassPriors,
        *,
        rho: float = 1e-6,
        flat: float = 0.5,
        per_tensor: bool = True,
        classifier: str | None = None,
        ascent: Ascent | None = None,
        **common: Unpack[Common],
    ) -> None:
        check_number("flat", flat, least=0, most=1)
        own = ClassConditional if classifier is None else _OfOneLayer
        rule = ascent if ascent is not None else own(per_tensor=per_tensor)
        self.classifier = classifier
        if classifier is not None:
            if ascent is not None or flat == 1:
                raise OptionError("classifier= goes with the rule of CC-SAM alone, and with flat below 1.")
            common = {**common, "rows": "all", "perturb": (f"{classifier}.weight", f"{classifier}.bias")}
            self.memberships = False
        super().__init__(base, rho=rho, ascent=rule, **common)
        self.factors = (priors.counts.double() - 1).clamp(min=1) ** -0.25
        self.flat = flat

    def _bind(self) -> None:
        if self.classifier is not None:
            if self.model is None:
                raise OptionError(f"classifier={self.classifier!r} is a layer of the model: give model=.")
            linear = {name: layer for name, layer in self.model.named_modules() if type(layer) is nn.Linear}
            found = linear.get(self.classifier)
            if found is None:
                names = ", ".join([*(["..."] if len(linear) > 3 else []), *list(linear)[-3:]]) or "none"
                raise OptionError(f"classifier={self.classifier!r} is no nn.Linear of the model; they are: {names}.")
            self._layer = found
        super()._bind()
        if self.classifier is not None and self.distributed:
            raise OptionError(
                "classifier= sees the rows of one process, and classes have rows on others: leave it out."
            )

    def _watch(self, step: Step | None) -> None:
        if isinstance(self.ascent, _OfOneLayer):
            self.ascent.layer = self._rows if step is not None else None
            self._rows.watch(step)

    def terms(self, targets: Tensor) -> list[Term]:
        """Return the mean loss unperturbed, and each class's part perturbed along its own gradient."""
        still, flat = divided(mean_weights(targets), row_shares(targets, torch.full_like(self.factors, self.flat)))
        if self.classifier is not None:
            class_means = 1 / targets.bincount()[targets].double()
            self._rows = OneLayer(self._layer, targets, class_means / still, self.factors[targets])
            return [Term(still), Term(flat, ascent=class_means if self.flat else None)]
        perturbed = []
        # Ranks must agree on the terms, and a rank does not know the others' classes.
        for c, members in class_shares(targets, every=len(self.factors) if self.distributed else 0):
            class_mean = members / (float(members.sum()) or 1.0)
            perturbed.append(Term(flat * members, class_mean, factor=float(self.factors[c]), label=c))
        return [Term(still), *perturbed] if self.flat < 1 else perturbed
