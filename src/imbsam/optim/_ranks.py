"""What the ranks of a distributed run agree on before a step: its passes and the size of the whole batch."""

from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imbsam.optim._plan import Need
from imbsam.optim._terms import Term


class Ranks:
    """The processes that share a model's gradients.

    A rank without a tail row must make the same passes as the others, or their all-reduces never meet.

    Args:
        model: A ``DistributedDataParallel``, compiled or wrapped further, makes its process group the ranks; anything
            else is one process.
    """

    def __init__(self, model: nn.Module | None) -> None:
        modules = model.modules() if model is not None else ()
        self._group = next((m.process_group for m in modules if isinstance(m, DistributedDataParallel)), None)
        self.size = dist.get_world_size(self._group) if self._group is not None else 1
        self._device = torch.device("cpu")
        if self._group is not None and dist.get_backend(self._group) == "nccl":
            self._device = torch.device("cuda", torch.cuda.current_device())

    def agree(self, rows: int, terms: Sequence[Term]) -> tuple[float, Need]:
        """Gather what any rank needs.

        Args:
            rows: Batch size of this rank.
            terms: The method's terms for this rank's batch.

        Returns:
            The mean batch size of the ranks (their gradients are averaged, so each divides by it), and the needs.
        """
        perturbed = [term.ascent is not None and bool(term.ascent.any()) for term in terms]
        present = [bool(term.descent.any()) for term in terms]
        if self.size == 1:
            return float(rows), Need(tuple(perturbed), tuple(present))
        mine = torch.tensor([rows, *perturbed, *present], dtype=torch.float64, device=self._device)
        dist.all_reduce(mine, group=self._group)
        total, *anywhere = mine.tolist()
        needs = tuple(ranks > 0 for ranks in anywhere)
        return total / self.size, Need(needs[: len(terms)], needs[len(terms) :])

    def mean(self, values: Mapping[int, Tensor]) -> dict[int, Tensor]:
        """Average numbers over the ranks, as DistributedDataParallel averages gradients.

        Args:
            values: Scalars by key, the same keys in the same order on every rank.

        Returns:
            Scalars by key, float64, the same on every rank.
        """
        together = torch.stack([value.detach().double() for value in values.values()])
        if self.size > 1:
            together = together.to(self._device)
            dist.all_reduce(together, group=self._group)
            together /= self.size
        return dict(zip(values, together.unbind(), strict=True))

    def anywhere(self, found: Tensor) -> bool:
        """Whether any rank found something: one that stepped while another refused to would never meet it again.

        Args:
            found: Bool, shape ``()``, on any device.
        """
        if self.size > 1:
            found = found.to(self._device, torch.float64)
            dist.all_reduce(found, group=self._group)
        return bool(found)
