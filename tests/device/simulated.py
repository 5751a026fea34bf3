"""An accelerator that is not there: tensors that say ``simulated:0``, hold CPU data and mix with no others.

torch takes it for a device of its own kind (``PrivateUse1``), with a thread for its backwards. An operator that gets
tensors of both devices fails, as it does on a real one, and what would let the CPU wait for the device is noted.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("privateuseone", 0)
"""Named ``simulated:0`` once it has been present."""

COPIES = ("aten::copy_", "aten::_foreach_copy_")
"""Operators that go from one device to another."""

GIVES_NUMBERS = ("aten::_local_scalar_dense", "aten::is_nonzero", "aten::equal")
GIVES_SHAPES = (
    *("aten::nonzero", "aten::masked_select", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive"),
    *("aten::repeat_interleave", "aten::bincount", "aten::nonzero_numpy"),
)
"""Operators whose outcome on a device says how large it is, so that the CPU waits for it."""

MAKING = ("empty.memory_format", "empty_strided", "copy_")
"""What torch calls of a device past its tensors; its other ways to make a tensor are made of these."""

MADE_FOR_INDICES = (
    "aten::index",
    "aten::index_put",
    "aten::index_put_",
    "aten::_index_put_impl_",
    "aten::_unsafe_index",
)
"""Operators that bring indices of the CPU to the device by themselves."""


class OnDevice(Tensor):
    """A tensor of the simulated device.

    Args:
        held: The data, on the CPU.
    """

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnDevice":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=DEVICE,
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, operator: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        # Views of tensors from before an inference mode are none of its own.
        with torch.inference_mode(False):
            return _computed(operator, args, kwargs or {})

    def tolist(self) -> Any:
        _waits("tolist")
        return self.held.tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.held.untyped_storage()

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"OnDevice({self.held})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        # As torch.load(map_location="cpu") gives it.
        _waits("pickle")
        return self.held.detach().__reduce_ex__(protocol)


_noted: list[list[str]] = []
_present = [False]
_kept: list[object] = []
"""Registrations, which end with these objects."""


class _Module:
    """What torch asks of ``torch.simulated``."""

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return _present[0]

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are drawn on the CPU, so that both devices draw alike."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@cache
def _register() -> None:
    """Tell torch of the device, once in a process."""
    register: Any = getattr(backend_registration, "_setup_privateuseone_for_python_backend", None)
    if register is None:
        pytest.skip(f"torch {torch.__version__} knows no devices written in Python")

    class Hook(torch._C._acc.PrivateUse1Hooks):
        def is_available(self) -> bool:
            return _present[0]

        def has_primary_context(self, index: int) -> bool:
            return True

        def is_built(self) -> bool:
            return True

    register("simulated", backend_module=_Module(), hook=Hook())
    made, others = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    _kept.extend((made, others))
    for name in MAKING:
        operator, _, overload = name.partition(".")
        packet = getattr(torch.ops.aten, operator)
        made.impl(name, partial(_created, getattr(packet, overload or "default")), "PrivateUse1")
    # Autocast casts nothing there.
    others.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")


def enter() -> torch.device:
    """Let the device be there from now on."""
    _register()
    _present[0] = True
    return DEVICE


@contextmanager
def present() -> Iterator[torch.device]:
    """Let the device be there; who looks for an accelerator afterwards finds what there was before."""
    before = _present[0]
    try:
        yield enter()
    finally:
        _present[0] = before


@contextmanager
def waits() -> Iterator[list[str]]:
    """Note, by the operator's name, each time that the CPU waits for the device."""
    found: list[str] = []
    _noted.append(found)
    try:
        yield found
    finally:
        _noted.remove(found)


def _waits(operator: str) -> None:
    for found in _noted:
        found.append(operator)


def fetched(value: Any) -> Any:
    """The same with the data of the simulated device, unnoticed, for comparisons."""
    return tree_map(lambda each: each.held.detach() if isinstance(each, OnDevice) else each, value)


def _computed(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    name = operator._schema.name
    leaves = tree_leaves((args, kwargs))
    here = [each for each in leaves if isinstance(each, OnDevice)]
    others = [each for each in leaves if isinstance(each, Tensor) and not isinstance(each, OnDevice) and each.ndim]
    target = kwargs.get("device")
    if name in COPIES:
        _note_copies(name, args, kwargs)
    elif here and others:
        if name not in MADE_FOR_INDICES or any(each.is_floating_point() for each in others):
            shapes = [tuple(each.shape) for each in here], [tuple(each.shape) for each in others]
            raise RuntimeError(f"{name} was given tensors on {DEVICE}, {shapes[0]}, and on the CPU, {shapes[1]}")
        _waits(f"{name} by indices of the CPU")
    if name in (*GIVES_NUMBERS, *GIVES_SHAPES) and here:
        _waits(name)
    if name in MADE_FOR_INDICES and any(
        each.dtype in (torch.bool, torch.uint8) for each in tree_leaves(args[1]) if each is not None
    ):
        _waits(f"{name} by a mask")
    leaves_it = target is not None and torch.device(target).type == "cpu"
    if leaves_it and here:
        _waits(name)
    outcome = _on_cpu(operator, args, kwargs)
    return outcome if leaves_it else _placed(operator, args, kwargs, outcome)


def _created(operator: Any, *args: Any, **kwargs: Any) -> Any:
    """What torch calls for the device without a tensor of it: operators that make one."""
    return _placed(operator, args, kwargs, _on_cpu(operator, args, kwargs))


def _on_cpu(operator: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    def there(each: Any) -> Any:
        if isinstance(each, OnDevice):
            return each.held
        return torch.device("cpu") if isinstance(each, torch.device) else each

    return operator(*tree_map(there, args), **tree_map(there, kwargs))


def _placed(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], outcome: Any) -> Any:
    """Give what was computed to the device; what was changed in place is the argument itself."""
    schema = operator._schema
    written: list[Any] = []
    for number, argument in enumerate(schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            written.append(args[number] if number < len(args) else kwargs.get(argument.name))
    changed = [each for each in schema.returns if each.alias_info is not None and each.alias_info.is_write]
    if changed:
        return written[0] if len(schema.returns) == 1 else tuple(written[: len(schema.returns)])

    def given(each: Any) -> Any:
        return OnDevice(each) if isinstance(each, Tensor) and not isinstance(each, OnDevice) else each

    return tree_map(given, outcome)


def _note_copies(name: str, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    targets, sources = (each if isinstance(each, list | tuple) else [each] for each in args[:2])
    blocking = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    for target, source in zip(targets, sources, strict=True):
        if isinstance(source, OnDevice) and not isinstance(target, OnDevice):
            _waits(f"{name} from the device")
        elif blocking and isinstance(target, OnDevice) and not isinstance(source, OnDevice):
            _waits(f"{name} to the device")
