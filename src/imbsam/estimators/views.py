"""Views of a table for classifiers of different kinds."""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.preprocessing import OneHotEncoder

from imbsam.data.columns import Columns
from imbsam.estimators.tables import encoded_rows

View = Literal["frame", "codes", "one-hot"]

Matrix = NDArray[np.float32]

LEAST_ROWS = 5
"""Number of training rows below which a category has no one-hot column of its own."""

MOST_COLUMNS = 50
"""Largest number of one-hot columns for a categorical column."""

ONE_HOT_BYTES = 2**29
"""Memory in bytes for all one-hot columns of the training rows, within which rarer categories share a column."""


@dataclass(frozen=True)
class Rows:
    """Rows of a table, encoded once, in every view.

    Args:
        codes: Numbers, standardised and filled, then the code of each category, shape ``(N, F)``.
        numeric: Number of columns that are numbers.
        one_hot_encoder: One-hot encoder of the codes; None without codes.
    """

    codes: Matrix
    numeric: int
    one_hot_encoder: OneHotEncoder | None

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: NDArray[np.int64]) -> "Rows":
        return Rows(self.codes[index], self.numeric, self.one_hot_encoder)

    def of(self, view: View) -> Matrix | pd.DataFrame:
        """Return a view of the rows.

        ``"codes"`` is the matrix itself, ``"one-hot"`` a matrix with a column for each frequent category, and
        ``"frame"`` a data frame whose categories have pandas' type.
        """
        return {"codes": lambda: self.codes, "one-hot": lambda: self._one_hot, "frame": self._frame}[view]()

    @cached_property
    def _one_hot(self) -> Matrix:
        if self.one_hot_encoder is None:
            return self.codes
        numbers, codes = self.codes[:, : self.numeric], self.codes[:, self.numeric :]
        return np.hstack([numbers, self.one_hot_encoder.transform(codes)])

    def _frame(self) -> pd.DataFrame:
        columns: dict[str, object] = {str(place): self.codes[:, place] for place in range(self.codes.shape[1])}
        for place in range(self.numeric, self.codes.shape[1]):
            codes = self.codes[:, place].astype(np.int64)
            words = [_word_of(code) for code in range(int(codes.max(initial=0)) + 1)]
            columns[str(place)] = pd.Categorical.from_codes(codes, categories=words)
        return pd.DataFrame(columns)


def _word_of(code: int) -> str:
    return f"code {code}"


def code_of(word: str) -> int:
    """Return the code that a category of a frame stands for."""
    return int(word.removeprefix("code "))


@dataclass(frozen=True)
class Reading:
    """Encoding of rows as :class:`Rows`.

    Args:
        columns: Encoding of each column.
        one_hot_encoder: One-hot encoder of the codes of categories; None without codes.
    """

    columns: Columns
    one_hot_encoder: OneHotEncoder | None

    @classmethod
    def learnt(cls, codes: Matrix, columns: Columns) -> tuple["Reading", Rows]:
        """Learn which categories are frequent enough for a column of their own.

        Args:
            codes: Training rows, encoded.
            columns: Encoding of their columns.
        """
        numeric, categorical = columns.spec.numeric, len(columns.spec.cardinalities)
        encoder = None
        if categorical:
            within = ONE_HOT_BYTES // (codes.itemsize * len(codes) * categorical)
            encoder = OneHotEncoder(
                min_frequency=LEAST_ROWS,
                max_categories=int(np.clip(within, 2, MOST_COLUMNS)),
                handle_unknown="infrequent_if_exist",
                sparse_output=False,
                dtype=np.float32,
            ).fit(codes[:, numeric:])
        return cls(columns, encoder), Rows(codes, numeric, encoder)

    def rows(self, frame: pd.DataFrame) -> Rows:
        """Encode rows in the same way as the training rows."""
        return Rows(encoded_rows(frame, self.columns).numpy(), self.columns.spec.numeric, self.one_hot_encoder)

    @property
    def cardinalities(self) -> tuple[int, ...]:
        """Number of codes of each column: 0 for a number."""
        spec = self.columns.spec
        return (*(0 for _ in range(spec.numeric)), *spec.cardinalities)
