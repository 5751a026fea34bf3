"""Torch's deterministic algorithms during a run, and the names of operations that have none."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MARK = " does not have a deterministic implementation"


@contextmanager
def deterministic(enabled: bool) -> Iterator[list[str]]:
    """Choose deterministic algorithms for the operations that have one.

    Args:
        enabled: Whether to choose them.

    Yields:
        Names of the operations without one, each once, as they occur.
    """
    without: list[str] = []
    if not enabled:
        yield without
        return
    # Read by cuBLAS when it starts; without it its matrix products are not reproducible.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def note(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
            name, found, _ = str(message).partition(MARK)
            if not found:
                shown(message, category, filename, lineno)
            elif name not in without:
                without.append(name)

        warnings.filterwarnings("always", message=f".*{MARK}")
        warnings.showwarning = note  # type: ignore[assignment]
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield without
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = benchmark
