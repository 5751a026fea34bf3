"""Parts of the classes that sharpness is measured on."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from imbsam.priors import SHOT_GROUPS


def parts_of(groups: Sequence[str], tail: Tensor | None = None) -> Mapping[str, tuple[int, ...]]:
    """Return the groups of classes by name.

    Args:
        groups: Shot group of each class, length C: ``priors.shot_groups()``.
        tail: Mask that marks the tail classes, bool, shape ``(C,)``.

    Returns:
        Classes by name: ``overall``, ``many``, ``medium``, ``few``, and, if a tail is given, ``head`` and ``tail``;
        groups without a class are left out.
    """
    parts = {"overall": tuple(range(len(groups)))}
    for group in SHOT_GROUPS:
        parts[group] = tuple(index for index, its_group in enumerate(groups) if its_group == group)
    if tail is not None:
        marked: list[bool] = tail.tolist()
        parts["head"] = tuple(index for index, rare in enumerate(marked) if not rare)
        parts["tail"] = tuple(index for index, rare in enumerate(marked) if rare)
    return {name: classes for name, classes in parts.items() if classes}
