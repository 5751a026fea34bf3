"""The Lanczos recursion: a small matrix that approximates a large symmetric one, of which only products are known."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from imbsam.errors import OptionError

Product = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Tridiagonal:
    """Result of k steps: ``A Q = Q T + beta_k q_(k+1) e_k^T`` (Golub and Van Loan 2013, section 10.1).

    Args:
        diagonal: Diagonal of T, shape ``(k,)``, float64.
        beside: Off-diagonal of T, shape ``(k - 1,)``, float64.
        beta: The last coefficient, beta_k; 0 if the recursion ended.
        basis: Q^T, orthonormal rows, shape ``(k, P)``.
    """

    diagonal: Tensor
    beside: Tensor
    beta: float
    basis: Tensor

    @property
    def steps(self) -> int:
        """Number of steps k, and of products made."""
        return len(self.diagonal)

    def ritz(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compute approximate eigenvalues.

        Returns:
            Ritz values, ascending, shape ``(k,)``; the eigenvectors of T as columns, shape ``(k, k)``; and for each
            value the length of ``A y - theta y``, within which an eigenvalue lies, shape ``(k,)``. All are float64.
        """
        tridiagonal = torch.diag(self.diagonal) + torch.diag(self.beside, 1) + torch.diag(self.beside, -1)
        values, vectors = torch.linalg.eigh(tridiagonal)
        return values, vectors, (self.beta * vectors[-1]).abs()

    def vector(self, coefficients: Tensor) -> Tensor:
        """Compute the Ritz vector of an eigenvector of T.

        Args:
            coefficients: The eigenvector, shape ``(k,)``.

        Returns:
            Vector of unit length, shape ``(P,)``.
        """
        found: Tensor = coefficients.to(self.basis) @ self.basis
        return torch.nn.functional.normalize(found, dim=0)


def lanczos(
    product: Product, start: Tensor, *, steps: int, stop: Callable[[Tridiagonal], bool] | None = None
) -> Tridiagonal:
    """Run the recursion with full reorthogonalisation.

    Without it rounding errors bring converged eigenvectors back, and copies of their eigenvalues appear.

    Args:
        product: Function ``v -> A v`` of a symmetric matrix, shapes ``(P,)``.
        start: Start, shape ``(P,)``, not zero.
        steps: Largest number of products; the basis has as many vectors.
        stop: Function called after each step that returns whether the result is good enough.

    Returns:
        The small matrix and the basis.

    Raises:
        OptionError: If ``steps`` is below 1.
    """
    if steps < 1:
        raise OptionError(f"steps must be at least 1; got {steps}.")
    steps = min(steps, len(start))
    basis = torch.zeros(steps, len(start), dtype=start.dtype, device=start.device)
    diagonal, beside = torch.zeros(steps, dtype=torch.float64), torch.zeros(steps, dtype=torch.float64)
    following = start / start.norm()
    for step in range(steps):
        basis[step] = following
        image = product(following)
        diagonal[step] = image @ following
        so_far = basis[: step + 1]
        # Twice is enough (Giraud et al. 2005): the second time takes away what rounding left of the first.
        for _ in range(2):
            image = image - so_far.T @ (so_far @ image)
        beside[step] = image.norm()
        scale = float(torch.maximum(diagonal[: step + 1].abs().max(), beside[: step + 1].max()))
        if float(beside[step]) <= 10 * torch.finfo(start.dtype).eps * scale:
            # The basis spans an invariant subspace; what is left is rounding.
            beside[step] = 0
        found = Tridiagonal(diagonal[: step + 1], beside[:step], float(beside[step]), so_far)
        if found.beta == 0 or (stop is not None and stop(found)):
            return found
        following = image / image.norm()
    return found
