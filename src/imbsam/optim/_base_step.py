"""Run the step of a base optimizer inside another optimizer."""

from torch.optim import Optimizer


def step_inside(base: Optimizer) -> None:
    """Make a step with the base optimizer's own hooks; torch's global hooks run around the outer step alone."""
    step = type(base).step
    patched = vars(base).get("step")
    unknown = patched is not None and not hasattr(patched, "_wrapped_by_lr_sched")
    if unknown or not hasattr(step, "hooked"):
        base.step()
        return
    # A scheduler on the base looks for it.
    base._opt_called = True  # type: ignore[attr-defined]
    args: tuple[object, ...] = (base,)
    options: dict[str, object] = {}
    for before in base._optimizer_step_pre_hooks.values():
        args, options = before(base, args, options) or (args, options)
    step.__wrapped__(*args, **options)  # type: ignore[attr-defined]
    for after in base._optimizer_step_post_hooks.values():
        after(base, args, options)
