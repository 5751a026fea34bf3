"""Every registered method keeps what it promises; a new one is held to it by being registered."""

import pytest

from optim.promises import PROMISED, Promise

PAIRS = [(name, promise) for name, promises in PROMISED.items() for promise in promises]


@pytest.mark.parametrize(("name", "promise"), PAIRS, ids=[f"{name}: {promise.__name__}" for name, promise in PAIRS])
def test_the_method_keeps_its_promise(name: str, promise: Promise) -> None:
    promise(name)
