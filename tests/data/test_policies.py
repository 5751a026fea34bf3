import pytest
import torch

from imbsam.data.draws import RowDraws
from imbsam.data.operations import Operation
from imbsam.data.policies import Policy, policy
from imbsam.data.seeding import generator
from imbsam.inputs import ImageSpec

SPEC = ImageSpec(3, 16, 16, (0.5,) * 3, (0.25,) * 3)


def noise(count=40):
    return torch.randint(256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator(1))


def adding(*, signed=False):
    return Operation("add", lambda images, amount: (images + amount.view(-1, 1, 1, 1)).byte(), 10, 40, signed=signed)


def test_strength_9_of_30_lies_three_tenths_of_the_way():
    done = Policy((adding(),), number=2, strength=9)(torch.zeros(5, 1, 2, 2, dtype=torch.uint8), generator(0))
    assert done.unique().tolist() == [2 * 19]


def test_a_drawn_strength_is_each_of_31_equally_often_and_negated_half_of_the_time():
    images = torch.full((6200, 1, 1, 1), 100, dtype=torch.uint8)
    amounts = Policy((adding(signed=True),))(images, generator(0)).flatten().int() - 100
    assert amounts.abs().unique().tolist() == list(range(10, 41))
    assert 0.45 < float((amounts > 0).double().mean()) < 0.55
    counts = torch.bincount(amounts.abs())[10:]
    assert 140 < int(counts.min()) <= int(counts.max()) < 260


@pytest.mark.parametrize("name", ["trivial", "randaugment"])
def test_some_rows_of_a_batch_get_what_they_get_in_the_whole(name):
    images, rows = noise(), torch.tensor([3, 17, 17, 39, 0])
    whole = policy(name, SPEC)(images, generator(0))
    some = policy(name, SPEC)(images[rows], RowDraws(generator(0), rows, len(images)))
    assert torch.equal(some, whole[rows])
    assert not torch.equal(whole, images)


def test_float_images_are_those_of_whole_values():
    images = noise()
    done = policy("trivial", SPEC)(images.float() + 0.2, generator(0))
    assert torch.equal(done, policy("trivial", SPEC)(images, generator(0)))
