"""The shards of a batch are its rows, each as it is in the whole batch."""

import pytest
import torch

from imbsam.data import Shard, TensorSamples, batches, training_transform
from imbsam.inputs import ImageSpec

SPEC = ImageSpec(3, 8, 8, (0.5,) * 3, (0.25,) * 3)
SAMPLES = TensorSamples(
    torch.randint(256, (29, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    torch.arange(29) % 5,
    [str(i) for i in range(29)],
)


def epoch(augment: str, shard: Shard, batch_size: int = 11):
    transform = training_transform(SPEC, augment)
    return batches(SAMPLES, batch_size=batch_size, seed=3, epoch=2, shuffle=True, transform=transform, shard=shard)


@pytest.mark.parametrize("parts", [2, 3])
@pytest.mark.parametrize("augment", ["none", "cifar", "imagenet"])
def test_shards_put_together_are_the_batch_augmentation_included(augment: str, parts: int) -> None:
    shards = zip(*(epoch(augment, Shard(number, parts)) for number in range(parts)), strict=True)
    for (inputs, targets), found in zip(epoch(augment, Shard()), shards, strict=True):
        # Normalising fewer images at once may round otherwise in the last bit.
        torch.testing.assert_close(torch.cat([x for x, _ in found]), inputs, rtol=0, atol=1e-5)
        assert torch.equal(torch.cat([y for _, y in found]), targets)
        sizes = [len(y) for _, y in found]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 6, 7, 100])
@pytest.mark.parametrize("parts", [2, 3, 8])
def test_every_shard_has_two_rows_and_every_row_the_same_part_in_the_mean(rows: int, parts: int) -> None:
    shards = [Shard(number, parts) for number in range(parts)]
    positions = [shard.positions(rows) for shard in shards]
    assert min(map(len, positions)) >= 2
    counts = torch.bincount(torch.cat(positions), minlength=rows)
    assert bool((counts == counts[0]).all())
    assert sum(shard.share(rows) for shard in shards) == pytest.approx(1)
    if rows > 1:
        assert all(len(own.unique()) > 1 for own in positions)


def test_an_epoch_says_how_many_rows_each_whole_batch_has() -> None:
    assert epoch("none", Shard(1, 2)).rows == [11, 11, 7]
    assert epoch("none", Shard(), batch_size=14).rows == [14, 15]
