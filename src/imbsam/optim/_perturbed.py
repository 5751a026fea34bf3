"""Choice of the parameters that a method perturbs: all, those of normalisation layers, or those of certain names."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase

from torch import Tensor, nn

from imbsam.errors import OptionError

ALL, NORMS = "all", "norms"
_WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that ``DistributedDataParallel`` and ``torch.compile`` put before the names of a model."""


class Perturbed:
    """Rule that tells the parameters to perturb from the others.

    Args:
        perturb: ``"all"``, ``"norms"`` or patterns of names, for example ``("norms", "head.*")``; a parameter is
            perturbed if any of them matches.
        model: Model that names the parameters and has the normalisation layers: those with "norm" in their class's
            name.
    """

    def __init__(self, perturb: Sequence[str], model: nn.Module | None) -> None:
        self.perturb = perturb
        self._model = model
        self._patterns = [each for each in perturb if each not in (ALL, NORMS)]
        self._norms = set(_of_norms(model)) if model is not None and NORMS in perturb else set()

    def holds(self, p: Tensor, name: str | None) -> bool:
        """Return whether a parameter, of any shape, is perturbed.

        Args:
            p: The parameter.
            name: Its name, where known.
        """
        if ALL in self.perturb or p in self._norms:
            return True
        bare = None if name is None else _unwrapped(name)
        return bare is not None and any(fnmatchcase(bare, pattern) for pattern in self._patterns)

    def check(self, named: Sequence[tuple[Tensor, str | None]]) -> None:
        """Check that at least one parameter of the optimizer is perturbed.

        Args:
            named: All parameters, of any shapes, with their names.

        Raises:
            OptionError: If none is perturbed, or ``perturb`` needs the model and there is none.
        """
        if ALL in self.perturb:
            return
        names = [_unwrapped(name) for _, name in named if name is not None]
        if self._model is None and (NORMS in self.perturb or not names):
            raise OptionError(
                f"perturb={_short(self.perturb)} needs the model's {'layers' if NORMS in self.perturb else 'names'}: "
                "give model=."
            )
        if any(self.holds(p, name) for p, name in named):
            return
        if not self._patterns:
            raise OptionError(
                f"perturb='norms' finds no normalisation layer with parameters of the optimizer in the "
                f"{type(self._model).__name__}: choose 'all', or patterns of names, such as {names[0]!r}."
            )
        shown = ", ".join([*names[:3], *(["..."] if len(names) > 4 else []), *names[max(3, len(names) - 1) :]])
        raise OptionError(
            f"perturb={_short(self.perturb)} matches no parameter of the optimizer; * stands for anything, "
            f"for example in 'head.*'. They are {shown}."
        )


def checked_perturb(perturb: str | Sequence[str]) -> tuple[str, ...]:
    """Return the choice of parameters to perturb as a tuple of words.

    Raises:
        OptionError: If it is neither a word nor a sequence of words.
    """
    words = (perturb,) if isinstance(perturb, str) else tuple(perturb) if isinstance(perturb, list | tuple) else ()
    if not words or not all(isinstance(word, str) and word for word in words):
        raise OptionError(f"perturb must be 'all', 'norms', or patterns of names, such as 'head.*'; got {perturb!r}.")
    return words


def _of_norms(model: nn.Module) -> Iterator[Tensor]:
    # By name, so that the layers of others count as well, as LayerNorm2d of timm and LlamaRMSNorm of transformers.
    for module in model.modules():
        if "norm" in type(module).__name__.lower():
            yield from module.parameters(recurse=False)


def _unwrapped(name: str) -> str:
    for prefix in _WRAPPERS * 2:
        name = name.removeprefix(prefix)
    return name


def _short(perturb: Sequence[str]) -> str:
    return repr(perturb[0]) if len(perturb) == 1 else repr(tuple(perturb))
