"""Agreement of the ranks of a distributed run before a step: its passes, and the size of the whole batch."""

from collections.abc import Callable, Mapping, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from imbsam.errors import OptionError, PassError
from imbsam.optim._plan import Need
from imbsam.optim._tensors import is_sharded
from imbsam.optim._terms import Term


class Ranks:
    """Processes that share a model's gradients.

    A rank without a tail row must make the same passes as the others, or their all-reduces would wait for ever.

    Args:
        model: Model of the run. The ranks are the process group of a ``DistributedDataParallel``, compiled or wrapped
            further, or of weights sharded by ``fully_shard``; for anything else there is one process.

    Raises:
        OptionError: If the weights are sharded over fewer processes than there are.
    """

    def __init__(self, model: nn.Module | None) -> None:
        modules = list(model.modules()) if model is not None else []
        self._replicas = next((m for m in modules if isinstance(m, DistributedDataParallel)), None)
        self.sharded = model is not None and any(is_sharded(p) for p in model.parameters())
        self._group = self._replicas.process_group if self._replicas is not None else None
        if self.sharded and model is not None:
            _refuse_a_part_of_the_ranks(model)
        self.size = dist.get_world_size(self._group) if self.sharded or self._replicas is not None else 1
        self._compared = self.size == 1
        self._device = torch.device("cpu")
        if self.size > 1 and dist.get_backend(self._group) == "nccl":
            self._device = torch.device("cuda", torch.cuda.current_device())

    def compare(self, describe: Callable[[], Mapping[str, object]]) -> None:
        """Check, before the first step, that all ranks were given the same options."""
        if self._compared:
            return
        self._compared = True
        described = describe()
        held: list[Mapping[str, object]] = [{} for _ in range(self.size)]
        self._meet(lambda: dist.all_gather_object(held, dict(described), group=self._group), step=0)
        for rank, other in enumerate(held):
            differing = [name for name in described if other.get(name) != held[0].get(name)]
            if differing:
                name = differing[0]
                raise OptionError(
                    f"the ranks were given different options: {name} is {_short(held[0].get(name))} on rank 0 and "
                    f"{_short(other.get(name))} on rank {rank}. Count the classes over all training data, and make "
                    "the same optimizer on every rank."
                )

    def send(self, *, gradients: bool) -> None:
        """Set whether the next backward shares its gradients; the next backward that does sends the sum."""
        # Of a static graph every backward has to be the same.
        if self._replicas is not None and not self._replicas.static_graph:
            self._replicas.require_backward_grad_sync = gradients

    def most(self, number: int) -> int:
        """Return the largest number that any rank has, where they share weights; else this rank's number."""
        if not self.sharded or self.size == 1:
            return number
        largest = torch.tensor(number, device=self._device)
        dist.all_reduce(largest, dist.ReduceOp.MAX, group=self._group)
        return int(largest)

    def _meet(self, message: Callable[[], object], *, step: int) -> None:
        try:
            message()
        except RuntimeError as error:
            raise PassError(
                f"rank {dist.get_rank(self._group)} came to step {step + 1} and another rank did not "
                f"({str(error).splitlines()[0][:200]}). Every rank has to make the same number of steps: give "
                "each the same number of batches (a DistributedSampler does), and look for an error on another rank."
            ) from error

    def agree(self, rows: int, terms: Sequence[Term], *, step: int = 0) -> tuple[float, Need]:
        """Return the mean batch size of the ranks, by which each divides its gradients, and what any rank needs."""
        present = [term.rows.numel() > 0 for term in terms]
        perturbed = [term.ascent_rows.numel() > 0 for term in terms]
        if self.size == 1:
            return float(rows), Need(tuple(perturbed), tuple(present))
        mine = torch.tensor([rows, *perturbed, *present], dtype=torch.float64, device=self._device)
        self._meet(lambda: dist.all_reduce(mine, group=self._group), step=step)
        total, *anywhere = mine.tolist()
        needs = tuple(ranks > 0 for ranks in anywhere)
        return total / self.size, Need(needs[: len(terms)], needs[len(terms) :])

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Average numbers over the ranks, as ``DistributedDataParallel`` averages gradients."""
        together = torch.stack([value.detach().double() for value in values.values()])
        if self.size > 1:
            together = together.to(self._device)
            dist.all_reduce(together, group=self._group)
            together /= self.size
        return dict(zip(values, together.unbind(), strict=True))

    def anywhere(self, found: bool) -> bool:
        """Return whether the condition holds on any rank: all must step or none, or the next all-reduce would hang."""
        if self.size == 1:
            return found
        somewhere = torch.tensor(float(found), dtype=torch.float64, device=self._device)
        dist.all_reduce(somewhere, group=self._group)
        return bool(somewhere)


def _refuse_a_part_of_the_ranks(model: nn.Module) -> None:
    meshes = {p.device_mesh for p in model.parameters() if is_sharded(p)}  # type: ignore[attr-defined]
    if any(mesh.size() != dist.get_world_size() for mesh in meshes):
        raise OptionError(
            "the weights are sharded over a part of the processes, whose gradients then depend on the others: shard "
            "over all of them (fully_shard(model) without a mesh, or with one of all processes)."
        )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
