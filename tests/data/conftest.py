from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def save_image():
    """Write an image of noise, drawn by the path's own name, and give its path back."""

    def save(path: Path, size: tuple[int, int] = (12, 10), mode: str = "RGB") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        draw = np.random.default_rng(sum(path.name.encode()))
        shape = size[::-1] if mode == "L" else (*size[::-1], len(mode))
        Image.fromarray(draw.integers(0, 256, shape, dtype=np.uint8)).save(path)
        return path

    return save


@pytest.fixture
def class_folders(tmp_path, save_image):
    """Six images each of cat, dog and eel, directly in their class folders."""
    root = tmp_path / "pets"
    for name in ("cat", "dog", "eel"):
        for number in range(6):
            save_image(root / name / f"{name}{number}.png")
    return root
