import pytest
import torch

from imbsam.data import TensorSamples, batches, evaluation_transform, training_transform
from imbsam.errors import DataError, OptionError
from imbsam.inputs import ImageSpec, TableSpec

SPEC = ImageSpec(3, 8, 8, (0.5,) * 3, (0.25,) * 3)


def rows(count, classes=3):
    values = torch.arange(count, dtype=torch.float32).unsqueeze(1)
    return TensorSamples(values, torch.arange(count) % classes, [str(i) for i in range(count)])


def images(count=50):
    pixels = torch.randint(256, (count, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorSamples(pixels, torch.arange(count) % 5, [str(i) for i in range(count)])


def epoch(samples, **options):
    transform = evaluation_transform(TableSpec(1, ()))
    defaults = {"batch_size": 8, "seed": 0, "epoch": 0, "shuffle": True, "transform": transform}
    return batches(samples, **(defaults | options))


def drawn(samples, **options):
    return [batch[:, 0].int().tolist() for batch, _ in epoch(samples, **options)]


def same(first, second):
    return len(first) == len(second) and all(
        torch.equal(x, u) and torch.equal(y, v) for (x, y), (u, v) in zip(first, second, strict=True)
    )


def test_every_sample_comes_once_with_its_target():
    seen = {}
    for inputs, targets in epoch(rows(30)):
        seen |= dict(zip(inputs[:, 0].int().tolist(), targets.tolist(), strict=True))
    assert seen == {i: i % 3 for i in range(30)}


def test_the_order_is_that_of_seed_and_epoch():
    assert drawn(rows(30)) == drawn(rows(30))
    assert drawn(rows(30)) != drawn(rows(30), epoch=1)
    assert drawn(rows(30)) != drawn(rows(30), seed=1)


def test_without_shuffling_samples_come_as_they_stand():
    assert drawn(rows(10), shuffle=False, batch_size=4) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (16, 8, [8, 8]),
        (18, 8, [8, 8, 2]),
        (17, 8, [8, 9]),
        (1, 8, [1]),
        (3, 1, [1, 1, 1]),
        (3, 2, [3]),
        (5, 8, [5]),
        (0, 8, []),
    ],
)
def test_a_single_left_over_row_joins_the_batch_before_it(count, batch_size, sizes):
    loader = epoch(rows(count), batch_size=batch_size)
    assert [len(targets) for _, targets in loader] == sizes
    assert len(loader) == len(sizes)


def test_worker_processes_give_the_same_batches_bit_for_bit():
    options = {"transform": training_transform(SPEC, "imagenet")}
    assert same(list(epoch(images(), **options)), list(epoch(images(), workers=2, **options)))


def test_an_epoch_resumed_in_the_middle_goes_on_bit_for_bit():
    options = {"transform": training_transform(SPEC, "cifar")}
    whole = list(epoch(images(), **options))
    resumed = epoch(images(), start=4, **options)
    assert len(resumed) == len(whole) - 4
    assert same(list(resumed), whole[4:])


def test_augmentation_differs_between_epochs_and_between_batches():
    pixels = images(1).values.expand(16, -1, -1, -1).clone()
    copies = TensorSamples(pixels, torch.zeros(16, dtype=torch.int64), [""] * 16)
    transform = training_transform(SPEC, "cifar")
    (first, _), (second, _) = epoch(copies, transform=transform)
    (later, _), _ = epoch(copies, transform=transform, epoch=1)
    assert not torch.equal(first, second)
    assert not torch.equal(first, later)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_random_state_is_left_alone(workers):
    before = torch.get_rng_state()
    list(epoch(images(), transform=training_transform(SPEC, "cifar"), workers=workers))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_balanced_sampler_draws_classes_alike_and_samples_within_a_class_alike():
    targets = torch.tensor([0] * 5400 + [2] * 540 + [3] * 60)
    samples = TensorSamples(torch.arange(6000.0).unsqueeze(1), targets, [""] * 6000)
    found = list(epoch(samples, sampler="balanced", batch_size=100))
    counts = torch.bincount(torch.cat([y for _, y in found]), minlength=4)
    assert counts[1] == 0
    assert counts.sum() == 6000
    assert counts[[0, 2, 3]].tolist() == pytest.approx([2000] * 3, abs=200)
    rare = torch.cat([x[y == 3, 0] for x, y in found]).int() - 5940
    assert torch.bincount(rare, minlength=60).min() > 10


@pytest.mark.parametrize(
    ("rare", "together", "sizes"),
    [
        (0, 4, {0}),
        (7, 4, {0, 3, 4}),
        (12, 4, {0, 4}),
        (3, 16, {0, 3}),
        (100, 4, {10}),
        (190, 4, {15, 16}),
    ],
)
def test_the_gathered_sampler_puts_tail_samples_together_and_gives_each_sample_once(rare, together, sizes):
    """163 or more samples make ten full batches of 16 and a rest; the tail stands in full ones."""
    heads = max(163 - rare, 5)
    samples = TensorSamples(
        torch.arange(heads + rare).unsqueeze(1).float(), torch.tensor([0] * heads + [1] * rare), [""] * (heads + rare)
    )
    found = list(
        epoch(samples, sampler="gathered", tail=torch.tensor([False, True]), tail_rows=together, batch_size=16)
    )
    assert sorted(torch.cat([x for x, _ in found]).flatten().tolist()) == list(range(heads + rare))
    full = [y for _, y in found if len(y) == 16]
    assert {int(y.sum()) for y in full} == sizes
    again = list(
        epoch(samples, sampler="gathered", tail=torch.tensor([False, True]), tail_rows=together, batch_size=16)
    )
    assert all(torch.equal(x, z) for (x, _), (z, _) in zip(found, again, strict=True))


def test_the_gathered_sampler_chooses_other_batches_in_another_epoch():
    targets = torch.tensor([0] * 400 + [1] * 16)
    samples = TensorSamples(torch.zeros(416, 1), targets, [""] * 416)
    places = set()
    for number in range(8):
        given = {"sampler": "gathered", "tail": torch.tensor([False, True]), "tail_rows": 16, "batch_size": 32}
        found = list(epoch(samples, epoch=number, **given))
        places.add(next(place for place, (_, y) in enumerate(found) if y.any()))
    assert len(places) > 3


def test_a_data_error_in_a_worker_stays_a_data_error():
    class Broken(TensorSamples):
        def batch(self, indices):
            raise DataError("a.png cannot be read")

    samples = Broken(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), [""] * 4)
    with pytest.raises(DataError, match=r"^a\.png cannot be read$"):
        list(epoch(samples, workers=1))


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sampler": "sqrt"}, "sampler"),
        ({"sampler": "balanced", "shuffle": False}, "shuffle=True"),
        ({"sampler": "gathered", "shuffle": False}, "shuffle=True"),
        ({"sampler": "gathered"}, "needs the tail classes"),
        ({"sampler": "gathered", "tail": torch.tensor([True]), "tail_rows": 0}, "tail_rows of at least 1; got 0"),
        ({"batch_size": 0}, "batch_size"),
        ({"workers": -1}, "workers"),
        ({"start": 3}, "start"),
        ({"start": -1}, "start"),
    ],
)
def test_an_option_out_of_range_is_named(options, named):
    with pytest.raises(OptionError, match=named):
        epoch(rows(16), **options)
