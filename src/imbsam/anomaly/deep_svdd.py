"""Deep SVDD (Ruff et al., ICML 2018): every row close to one centre, without labels."""

from collections.abc import Sequence

from torch import Tensor

from imbsam.anomaly.sphere import Sphere


class DeepSVDD(Sphere):
    """Deep SVDD: the loss and the score are ``d = |phi(x) - c|^2``; labels are ignored.

    It is Deep SAD without labels (Ruff et al. 2020), with its network, pre-training and centre.

    Args:
        shape: Shape of a row, see :class:`Objective`.
        layers: Units of each dense layer, see :class:`Sphere`.
    """

    least_anomalies = 0
    anomaly_share = 0.0

    def __init__(self, shape: Sequence[int], *, layers: Sequence[int] | None = None) -> None:
        super().__init__(shape, layers)

    def losses(self, outputs: Tensor, kinds: Tensor) -> Tensor:
        """Return d."""
        return outputs
