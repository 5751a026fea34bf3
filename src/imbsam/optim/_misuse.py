"""Checks for uses that would train wrongly without an error; each raises an error that names the mistake."""

import inspect

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler

from imbsam.errors import PassError
from imbsam.optim.ascent import Ascent


def refuse_scaler() -> None:
    """Refuse a closure passed on by ``GradScaler.step``: nothing would unscale its gradients between the passes."""
    frame = inspect.currentframe()
    for _ in range(10):  # Between them are torch's wrappers around every step, and ours.
        # By the object: the method of it that calls step() is private, and may get another name. By the file before
        # that: to look at the locals of every frame takes time.
        in_scaler = frame is not None and frame.f_code.co_filename == GradScaler.step.__code__.co_filename
        caller = frame.f_locals.get("self") if frame is not None and in_scaler else None
        if isinstance(caller, GradScaler) and caller.is_enabled():
            raise PassError(
                "scaler.step(optimizer, closure) would leave the gradients of the passes scaled. Make the passes by "
                "`with optimizer.passes(y, loss_scale=scaler.get_scale()) as passes`, with "
                "p.backward(scaler.scale(losses)), then scaler.step(optimizer)."
            )
        frame = frame.f_back if frame is not None else None


def refuse_capture() -> None:
    """Refuse to be captured in a CUDA graph: its replays would repeat the rows of one batch, and count no step."""
    # Without CUDA in use there is nothing to ask, and a torch built without it cannot answer.
    if torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing():  # type: ignore[no-untyped-call]
        raise PassError(
            "passes() and step() cannot be captured in a CUDA graph: each batch has rows of its own in every pass, and "
            "a replay would repeat those of this batch. Leave the step outside the graph, and compile the model: "
            "torch.compile(model), with row_multiple=16 for few shapes."
        )


def described(optimizer: object, prefix: str = "") -> dict[str, object]:
    """Return the options of an optimizer as plain values by name, for ranks to compare."""
    found: dict[str, object] = {f"{prefix}kind": type(optimizer).__name__}
    for name, value in vars(optimizer).items():
        if name.startswith("_") or name in ("base", "model", "memory", "defaults"):
            continue
        if isinstance(value, Ascent):
            found.update(described(value, f"{name}."))
        elif isinstance(value, Tensor):
            found[prefix + name] = value.tolist()
        elif value is None or isinstance(value, float | int | str | bool | dict | tuple):
            found[prefix + name] = value
    groups = getattr(optimizer, "param_groups", None)
    if groups is not None:
        plain = (float, int, str, bool)
        found["param_groups"] = [{k: v for k, v in group.items() if isinstance(v, plain)} for group in groups]
    return found
