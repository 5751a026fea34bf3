"""Terms: every method of the family is a sum of weighted per-sample gradients, some of them at perturbed weights."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Term:
    """One addend of a step, ``grad_w [sum_i descent_i l_i] (w + e)``, ``e`` along ``grad_w [sum_i ascent_i l_i] (w)``.

    Args:
        descent: Weight of each row in the step, shape ``(B,)``, float64, on the CPU.
        ascent: Weight of each row in the direction of ``e``, shape ``(B,)``; ``None`` stands for ``e = 0``.
    """

    descent: Tensor
    ascent: Tensor | None = None

    def scaled(self, factor: float) -> "Term":
        """The term with every weight multiplied."""
        return Term(self.descent * factor, None if self.ascent is None else self.ascent * factor)
