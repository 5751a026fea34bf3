"""The tables on which defaults are found: none of them is in the comparison, and no part of one is."""

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import torch
from sets import Task, _data, _keel, drawn
from sklearn.datasets import load_digits

from imbsam.data.longtail import long_tail

MOST_ROWS = 4000
Load = Callable[[], tuple[pd.DataFrame, np.ndarray]]


def make_development_task(name: str, seed: int) -> Task:
    """Draw the parts of a set; where an imbalance is given, all rows but the test's are made long-tailed."""
    load, imbalance = DEVELOPMENT[name]

    def cut(y: np.ndarray) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return long_tail(torch.from_numpy(y), imbalance=imbalance, rare="random", generator=generator).numpy()

    return drawn(*load(), seed, MOST_ROWS, None if imbalance is None else cut)


def _of(name: str) -> Load:
    return lambda: _keel(name)


def _separated(name: str, *parts: str, separator: str, ignored: tuple[int, ...] = (), label: int = -1) -> Load:
    """Files without heads, put together."""

    def load() -> tuple[pd.DataFrame, np.ndarray]:
        whole = pd.concat([_read(name, part, separator) for part in parts], ignore_index=True)
        y = whole.pop(whole.columns[label]).astype(str).to_numpy()
        frame = whole.drop(columns=list(ignored)).rename(columns=str)
        words = frame.select_dtypes(exclude="number").columns
        return frame.astype({**dict.fromkeys(frame.columns, float), **dict.fromkeys(words, "category")}), y

    return load


def _read(name: str, part: str, separator: str) -> pd.DataFrame:
    with _data(name).joinpath(part).open() as file:
        return pd.read_csv(file, sep=separator, header=None, na_values="?", engine="python")


def _two_files(name: str) -> Load:
    """Features in one file, labels in another."""

    def load() -> tuple[pd.DataFrame, np.ndarray]:
        y = _read(name, f"{name}_train.labels", r"\s+")[0].to_numpy()
        return _read(name, f"{name}_train.data", r"\s+").rename(columns=str).astype(float), y

    return load


def _digits() -> tuple[pd.DataFrame, np.ndarray]:
    pixels, y = load_digits(return_X_y=True)
    return pd.DataFrame(pixels).rename(columns=str), y


def _tic_tac_toe() -> tuple[pd.DataFrame, np.ndarray]:
    """All 958 ends of the game when x begins: 626 won by x, 316 by o, 16 drawn."""
    ends = {board: end for board in product("xob", repeat=9) if (end := _end(board))}
    frame = pd.DataFrame(list(ends), columns=[f"place {place}" for place in range(9)]).astype("category")
    return frame, np.array(list(ends.values()))


LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def _end(board: tuple[str, ...]) -> str | None:
    """Who won; None where a game does not end so."""
    won = {mark for mark in "xo" if any(all(board[place] == mark for place in line) for line in LINES)}
    ahead = board.count("x") - board.count("o")
    if won == {"x"} and ahead == 1:
        return "x"
    if won == {"o"} and ahead == 0:
        return "o"
    return "drawn" if not won and ahead == 1 and "b" not in board else None


VEHICLES = [f"xa{letter}.dat.txt" for letter in "abcdefghi"]

DEVELOPMENT: dict[str, tuple[Load, float | None]] = {
    "satimage": (_separated("satimage", "sat.trn.txt", "sat.tst.txt", separator=r"\s+"), 30),
    "segment": (_of("segment"), 30),
    "splice": (_of("splice"), 30),
    "vowel": (_of("vowel"), 10),
    "digits": (_digits, 20),
    "vehicle": (_separated("vehicle", *VEHICLES, separator=r"\s+"), 20),
    "led7digit": (_of("led7digit"), 8),
    "contraceptive": (_of("contraceptive"), 20),
    "cleveland": (_of("cleveland"), None),
    "ecoli": (_separated("ecoli", "ecoli.data.txt", separator=r"\s+", ignored=(0,)), None),
    "glass": (_separated("glass", "glass.data.txt", separator=",", ignored=(0,)), None),
    "balance": (_of("balance"), None),
    "tic-tac-toe": (_tic_tac_toe, None),
    "hypothyroid": (_separated("hypothyroid", "hypothyroid.data.txt", separator=",", label=0), None),
    "sylva": (_two_files("sylva"), None),
    "poker": (_of("poker-8-9_vs_5"), None),
}
"""For each set how it is read, and the imbalance that it is given; None: its own."""
