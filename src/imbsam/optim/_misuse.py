"""What would train wrongly without a word: each is found where it first happens, and refused by name."""

import inspect
from collections.abc import Iterable

import torch.distributed as dist
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from imbsam.errors import PassError
from imbsam.optim._batchnorm import normalises_the_batch, sees_the_batch
from imbsam.optim._tensors import is_sharded
from imbsam.optim.ascent import Ascent


def refuse_scaler() -> None:
    """Refuse a closure that ``GradScaler.step`` hands on, whose gradients nothing would unscale between the passes."""
    frame = inspect.currentframe()
    for _ in range(6):  # Between them are torch's wrappers around every step.
        # By the object: the method of it that calls step() is private, and may get another name.
        caller = frame.f_locals.get("self") if frame is not None else None
        if isinstance(caller, GradScaler) and caller.is_enabled():
            raise PassError(
                "scaler.step(optimizer, closure) would leave the gradients of the passes scaled. Make the passes by "
                "`with optimizer.passes(y, loss_scale=scaler.get_scale()) as passes`, with "
                "p.backward(scaler.scale(losses)), then scaler.step(optimizer)."
            )
        frame = frame.f_back if frame is not None else None


def described(optimizer: object, prefix: str = "") -> dict[str, object]:
    """The options of an optimizer as plain values by name, for ranks to compare."""
    found: dict[str, object] = {f"{prefix}kind": type(optimizer).__name__}
    for name, value in vars(optimizer).items():
        if name.startswith("_") or name in ("base", "model", "state", "memory", "defaults"):
            continue
        if isinstance(value, Ascent):
            found.update(described(value, f"{name}."))
        elif isinstance(value, Tensor):
            found[prefix + name] = value.tolist()
        elif name == "param_groups":
            plain = (float, int, str, bool)
            found[name] = [{k: v for k, v in group.items() if isinstance(v, plain)} for group in value]
        elif value is None or isinstance(value, float | int | str | bool | dict):
            found[prefix + name] = value
    return found


class Unseen:
    """Looks at the modules that the first step calls, for one that changes the passes and that nobody told of."""

    def __init__(self, *, model_known: bool) -> None:
        self._model_known = model_known
        self._handle: RemovableHandle | None = None

    def start(self) -> None:
        """Look at every module that is called, until :meth:`stop`; not where there is nothing to find."""
        # A compiled model warns of global hooks, so that none is set for nothing.
        if self._model_known and not (dist.is_available() and dist.is_initialized()):
            return
        self._handle = nn.modules.module.register_module_forward_pre_hook(self._refuse)

    def stop(self) -> None:
        """Look no more."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _refuse(self, module: nn.Module, inputs: Iterable[object]) -> None:
        # Ranks that do not know of each other make passes of different number, and wait for ever.
        if isinstance(module, DistributedDataParallel) and module.process_group.size() > 1:
            raise PassError(
                "the model was wrapped in DistributedDataParallel, and the optimizer does not know: make the optimizer "
                "afterwards, with the wrapped model: ImbSAM(base, tail, model=model)."
            )
        if hasattr(module, "reshard") and any(map(is_sharded, module.parameters())):
            raise PassError(
                "fully_shard was applied to the model after the optimizer was made, which still holds the weights from "
                "before: make base and optimizer afterwards, with the model: ImbSAM(base, tail, model=model)."
            )
        # Forwarding the tail alone would normalise it by itself and spoil the running statistics.
        if not self._model_known and normalises_the_batch(module) and sees_the_batch(module):
            raise PassError(
                f"the model has {type(module).__name__}, whose rows see each other, and the optimizer does not know. "
                "Give the optimizer the model: ImbSAM(base, tail, model=model)."
            )
