"""The page on methods of one's own: its code runs, and its methods are what it says."""

import re
from pathlib import Path

import torch
from torch import nn

from imbsam.optim import SharpnessAware

PAGE = (Path(__file__).parents[2] / "docs/own_method.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


def executed() -> dict[str, object]:
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, "docs/own_method.md", "exec"), names)
    return names


def test_the_code_of_the_page_runs_and_trains():
    names = executed()
    assert float(names["loss"]) < 1.2
    assert names["loss"].ndim == 0


def test_a_method_of_the_page_takes_twenty_lines():
    classes = [block.split("class ")[1].split("\n\n\n")[0] for block in BLOCKS if "class " in block]
    assert len(classes) == 3
    assert all(text.count("\n") <= 20 for text in classes)


def test_a_method_of_the_page_makes_the_base_step_where_rho_is_0():
    names = executed()
    x, y = names["x"], names["y"]
    model, twin = nn.Linear(8, 4), nn.Linear(8, 4)
    twin.load_state_dict(model.state_dict())
    optimizer: SharpnessAware = names["BySharpness"](torch.optim.SGD(model.parameters(), lr=0.1), rho=0.0)
    optimizer.step(lambda rows: names["criterion"](model(x[rows]), y[rows]), targets=y)
    names["criterion"](twin(x), y).mean().backward()
    torch.optim.SGD(twin.parameters(), lr=0.1).step()
    assert torch.equal(model.weight, twin.weight)
