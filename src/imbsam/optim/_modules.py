"""Modules that a step calls: searched again when the model has changed, and observed at their first call."""

import sys
from typing import NoReturn

from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.hooks import RemovableHandle

from imbsam.errors import PassError
from imbsam.optim._batchnorm import BatchNorms, normalises_the_batch, sees_the_batch
from imbsam.optim._buffers import Buffers
from imbsam.optim._tensors import is_sharded

SHARDED_AFTERWARDS = (
    "fully_shard was applied to the model after the optimizer was made, which still holds the weights from before: "
    "make base and optimizer afterwards, with the model: ImbSAM(base, tail, model=model)."
)


class Modules:
    """Modules of the model, and modules outside it that the first step was seen to call.

    Args:
        model: The model; ``None`` where the optimizer was not given one.
    """

    def __init__(self, model: nn.Module | None) -> None:
        self._model = model
        self._all: list[nn.Module] = []
        self._known: set[nn.Module] = set()
        self._others: list[nn.Module] = []
        self._held: list[tuple[nn.Module, list[nn.Module | None], int]] | None = None
        self._handle: RemovableHandle | None = None
        self.batchnorms = BatchNorms(())
        self.buffers = Buffers()
        self.watched = True
        """Whether the present step is the first with these modules."""

    def look(self) -> bool:
        """Find the modules as they are now, and return whether any is new: a layer may have been added since."""
        if self._is_as_it_was():
            return False
        self._all = _below(self._model) if self._model is not None else []
        self._held = [(m, [*m._modules.values()], len(m._buffers)) for m in self._all]
        self._find()
        self.watched = True
        return True

    def _is_as_it_was(self) -> bool:
        """Tell whether every module has the same submodules and as many buffers as before."""
        if self._held is None:
            return False
        for module, below, buffers in self._held:
            if len(module._buffers) != buffers or [*module._modules.values()] != below:
                return False
        return True

    def _find(self) -> None:
        self._known = {*self._all, *self._others}
        self.batchnorms = BatchNorms(self._all)
        self.buffers.find([*self._all, *self._others], self.batchnorms.layers)

    @property
    def compiled(self) -> bool:
        """Return whether a part of the model may be compiled; without a model, whether anything here may be."""
        if any("_orig_mod" in m._modules or m._compiled_call_impl is not None for m in self._all):
            return True
        # torch.compile(model) leaves no trace on the model; in a torch without this name nothing counts as compiled.
        dynamo = sys.modules.get("torch._dynamo.eval_frame")
        return any(backend is not None for backend in getattr(dynamo, "cached_backends", {}).values())

    def remember(self, *, further: bool = False) -> None:
        """Save the buffers before a step or a further micro-batch; in the first step, watch the modules called."""
        self.buffers.remember(further=further)
        if self.watched:
            self.buffers.remember_frozen(self._all)
            # A compiled model warns of global hooks.
            if not self.compiled:
                self._handle = nn.modules.module.register_module_forward_pre_hook(self._called)

    def stop(self, *, seen: bool) -> None:
        """Stop watching in this step, and for good once a whole step was seen."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None
        self.watched = self.watched and not seen

    def _called(self, module: nn.Module, inputs: object) -> None:
        # DataParallel calls copies of modules.
        if module in self._known or getattr(module, "_is_replica", False):
            return
        if isinstance(module, DistributedDataParallel) and module.process_group.size() > 1:
            # Ranks that do not know of each other make passes of different number, and wait for ever.
            raise PassError(
                "the model was wrapped in DistributedDataParallel, but the optimizer was made before: make the "
                "optimizer afterwards, with the wrapped model: ImbSAM(base, tail, model=model)."
            )
        sharded = self._model is not None and any(map(is_sharded, self._model.parameters()))
        if not sharded and hasattr(module, "reshard") and any(map(is_sharded, module.parameters())):
            raise PassError(SHARDED_AFTERWARDS)
        if sharded and any(p.requires_grad for p in module._parameters.values() if p is not None):
            raise PassError(
                f"the forward calls a {type(module).__name__} with parameters outside the sharded model, whose "
                "gradient would be of several passes: put it into the model that the optimizer is given."
            )
        if normalises_the_batch(module) and sees_the_batch(module):
            self._refuse(module)
        if module._buffers:
            self._others.append(module)
            self._find()
            self.buffers.remember_new()
        self._known.add(module)

    def _refuse(self, module: nn.Module) -> NoReturn:
        # Forwarding the tail alone would normalise it by itself and spoil the running statistics.
        where = f"the forward calls a {type(module).__name__}, whose rows see each other, and"
        if self._model is None:
            raise PassError(f"{where} the optimizer does not know. Give it the model: ImbSAM(base, tail, model=model).")
        raise PassError(
            f"{where} it is not in the {type(self._model).__name__} that the optimizer was given as model. Give it "
            "every module that the losses go through: ImbSAM(base, tail, model=nn.ModuleList([encoder, head]))."
        )


def _below(model: nn.Module) -> list[nn.Module]:
    """Return the module and all modules in it, each once; faster than ``modules()``, which joins names."""
    seen, found = {model}, [model]
    # Grows while it is gone through.
    for module in found:
        for child in module._modules.values():
            if child is not None and child not in seen:
                seen.add(child)
                found.append(child)
    return found
