"""Rows of a loss surface, sorted by class."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from imbsam.data.seeding import generator
from imbsam.errors import DataError, OptionError


@dataclass(frozen=True)
class Rows:
    """Rows drawn from a data set, grouped by class.

    Args:
        fetch: Function that returns the inputs of the rows with given indices, shape ``(b, ...)``; called in each pass.
        indices: Indices of the rows that were drawn, sorted by class, shape ``(M,)``, int64.
        targets: Their classes, shape ``(M,)``, int64, ascending.
        sizes: Rows of each class in the data set they were drawn from, shape ``(C,)``, int64.
    """

    fetch: Callable[[Tensor], Tensor]
    indices: Tensor
    targets: Tensor
    sizes: Tensor

    @classmethod
    def draw(
        cls,
        inputs: Tensor | Callable[[Tensor], Tensor],
        targets: Tensor,
        *,
        num_classes: int | None = None,
        per_class: int | None = None,
        seed: int = 0,
    ) -> "Rows":
        """Draw rows of each class, without replacement.

        Args:
            inputs: Inputs of all rows, shape ``(N, ...)``; or a function that returns those at given indices.
            targets: Class of each row, shape ``(N,)``, integers in ``[0, C)``.
            num_classes: Number of classes C; by default the largest target plus one.
            per_class: Largest number of rows of each class; by default all.
            seed: Seed of the draw.

        Returns:
            The rows.

        Raises:
            DataError: If there are no rows, or a target is outside the classes.
            OptionError: If ``per_class`` is below 1.
        """
        targets = targets.detach().cpu().long()
        if targets.ndim != 1 or not len(targets):
            raise DataError(f"targets must be one class per row, shape (N,), N > 0; got {tuple(targets.shape)}.")
        if per_class is not None and per_class < 1:
            raise OptionError(f"per_class must be at least 1; got {per_class}.")
        classes = int(targets.max()) + 1 if num_classes is None else num_classes
        if int(targets.min()) < 0 or int(targets.max()) >= classes:
            raise DataError(f"targets must lie in 0..{classes - 1}; got {int(targets.min())} to {int(targets.max())}.")
        sizes = torch.bincount(targets, minlength=classes)
        shuffled = torch.randperm(len(targets), generator=generator(seed))
        order = shuffled[targets[shuffled].argsort(stable=True)]
        drawn = [part[:per_class].sort().values for part in torch.split(order, sizes.tolist())]
        indices = torch.cat(drawn)
        fetch = inputs if callable(inputs) else inputs.__getitem__
        return cls(fetch, indices, targets[indices], sizes)

    @classmethod
    def from_batches(
        cls, batches: Iterable[tuple[Tensor, Tensor]], *, num_classes: int | None = None, per_class: int | None = None
    ) -> "Rows":
        """Keep the first rows of each class from a loader; the sizes count all rows.

        Args:
            batches: Inputs, shape ``(b, ...)``, and classes, ``(b,)``; a loader that shuffles gives a random draw.
            num_classes: Number of classes C; by default the largest target plus one.
            per_class: Largest number of rows of each class; by default all.

        Returns:
            The rows, in memory.

        Raises:
            DataError: If there are no rows, or a target is outside the classes.
            OptionError: If ``per_class`` is below 1.
        """
        kept: list[Tensor] = []
        kept_targets: list[Tensor] = []
        seen: dict[int, int] = {}
        for inputs, targets in batches:
            places = []
            for place, target in enumerate(targets.tolist()):
                seen[target] = seen.get(target, 0) + 1
                if per_class is None or seen[target] <= per_class:
                    places.append(place)
            kept.append(inputs[places].detach())
            kept_targets.append(targets[places].detach().cpu())
        if not seen:
            raise DataError("the batches hold no row.")
        classes = max(seen) + 1 if num_classes is None else num_classes
        rows = cls.draw(torch.cat(kept), torch.cat(kept_targets), num_classes=classes, per_class=per_class)
        sizes = torch.tensor([seen.get(index, 0) for index in range(classes)])
        return cls(rows.fetch, rows.indices, rows.targets, sizes)

    @property
    def num_classes(self) -> int:
        """Number of classes C, including classes without a row."""
        return len(self.sizes)

    @property
    def drawn(self) -> Tensor:
        """Number of rows drawn of each class, shape ``(C,)``, int64."""
        return torch.bincount(self.targets, minlength=self.num_classes)

    @property
    def present(self) -> list[int]:
        """Classes that have a row."""
        return self.drawn.nonzero().flatten().tolist()

    def shares(self, classes: Sequence[int]) -> Tensor:
        """Return the share of each class among the rows of some classes in the data set.

        Args:
            classes: Indices of classes, at least one of which has a row.

        Returns:
            Shares, shape ``(C,)``, float64, which sum to one, zero outside ``classes``.

        Raises:
            OptionError: If a class is not one of the C.
            DataError: If none of the classes has a row.
        """
        chosen = self.sizes.double() * self._marked(classes)
        if not chosen.any():
            listed = ", ".join(map(str, classes[:5])) + (", ..." if len(classes) > 5 else "")
            raise DataError(f"there is no row of the classes {listed or '(none given)'}, so their loss has no surface.")
        return chosen / chosen.sum()

    def places(self, classes: Sequence[int]) -> Tensor:
        """Return the indices of the rows of some classes among those drawn, ascending.

        Args:
            classes: Indices of classes.

        Raises:
            OptionError: If a class is not one of the C.
        """
        return self._marked(classes)[self.targets].nonzero().flatten()

    def _marked(self, classes: Sequence[int]) -> Tensor:
        unknown = [index for index in classes if not 0 <= index < self.num_classes]
        if unknown:
            raise OptionError(f"class {unknown[0]} is outside the {self.num_classes} classes of the rows.")
        marked = torch.zeros(self.num_classes, dtype=torch.bool)
        marked[list(classes)] = True
        return marked

    def inputs(self, places: Tensor) -> Tensor:
        """Return the inputs of some of the rows.

        Args:
            places: Indices among the rows drawn, shape ``(b,)``.

        Returns:
            Tensor of shape ``(b, ...)``.
        """
        return self.fetch(self.indices[places])

    def in_memory(self) -> "Rows":
        """Return the same rows, fetched once and kept in memory."""
        return replace(self, fetch=self.fetch(self.indices).__getitem__, indices=torch.arange(len(self.indices)))
