"""Small real data on disk: a folder of images, a table."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

PETS = {"cat": 24, "dog": 12, "eel": 6}


def image_folder(root: Path, counts: Mapping[str, int] = PETS, *, size: int = 16, seed: int = 0) -> Path:
    """Write noisy pictures, ``CLASS/NUMBER.png``; cat, dog and eel are bright in a quarter of their own."""
    draw = np.random.default_rng(seed)
    for name, count in counts.items():
        place = list(PETS).index(name) if name in PETS else 3
        (root / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 120, (size, size, 3), dtype=np.uint8)
            row, column = divmod(place, 2)
            half = size // 2
            pixels[row * half : (row + 1) * half, column * half : (column + 1) * half] += 120
            Image.fromarray(pixels).save(root / name / f"{number:03}.png")
    return root


def table(path: Path, *, rows: int = 150, seed: int = 0, target: bool = True) -> Path:
    """Write a CSV with numbers, some of them missing, a category, a date, and three classes of falling frequency."""
    draw = np.random.default_rng(seed)
    label = draw.choice(3, size=rows, p=[0.7, 0.2, 0.1])
    width = draw.normal(3.0 * label, 1.0)
    width[::11] = np.nan
    frame = pd.DataFrame(
        {
            "width": width,
            "height": draw.normal(0.0, 5.0, rows),
            "colour": draw.choice(["red", "green", "blue"], rows),
            "made": pd.Timestamp("2024-01-01") + pd.to_timedelta(draw.integers(0, 300, rows) + 100 * label, "D"),
            "kind": np.array(["good", "scratched", "broken"])[label],
        }
    )
    (frame if target else frame.drop(columns="kind")).to_csv(path, index=False)
    return path
