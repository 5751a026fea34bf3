"""Mixed batches: which rows, how much of each, and what they belong to."""

import pytest
import torch
from torch.nn.functional import one_hot

from imbsam.data import Shard, TensorSamples, batches, training_transform
from imbsam.data.mixing import Blending, Mixing
from imbsam.errors import OptionError
from imbsam.inputs import ImageSpec

SPEC = ImageSpec(3, 8, 12, (0.5,) * 3, (0.25,) * 3)


def images(count=50, classes=5):
    pixels = torch.randint(256, (count, 3, 8, 12), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return TensorSamples(pixels, torch.arange(count) % classes, [str(i) for i in range(count)])


def epoch(mixing, **options):
    given = {"batch_size": 16, "seed": 3, "epoch": 2, "shuffle": True, "transform": training_transform(SPEC, "cifar")}
    return list(batches(images(), mixing=mixing, **{**given, **options}))


def test_mixup_is_the_weighted_mean_of_inputs_and_of_targets():
    mixing = Mixing("mixup", 5, 0.7)
    plain, mixed = epoch(None), epoch(mixing)
    shares = []
    for number, ((x, y), (blend, memberships)) in enumerate(zip(plain, mixed, strict=True)):
        assert memberships.shape == (len(y), 5)
        assert memberships.dtype == torch.float32
        torch.testing.assert_close(memberships.sum(1), torch.ones(len(y)))
        # The one share and the partners that explain every row.
        own = memberships.gather(1, y[:, None]).squeeze(1)
        share = float(own[memberships.amax(1) < 1].min()) if bool((memberships.amax(1) < 1).any()) else 1.0
        shares.append(share)
        found = 0
        for i in range(len(y)):
            for j in range(len(y)):
                found += torch.allclose(blend[i], share * x[i] + (1 - share) * x[j], atol=1e-5)
        assert found >= len(y), number
    assert len(set(shares)) == len(shares)


def test_cutmix_pastes_one_box_and_counts_its_pixels():
    blending = Blending(torch.tensor([1, 0]), 0.75, (0.5, 0.5), 3)
    own, others = torch.zeros(2, 3, 8, 12), torch.ones(2, 3, 8, 12)
    mixed = blending.inputs(own, others)
    assert float(mixed[0, 0].sum()) == 4 * 6
    assert bool((mixed[0, :, 2:6, 3:9] == 1).all())
    targets = blending.targets(torch.tensor([0, 1]), torch.tensor([1, 1]), mixed)
    torch.testing.assert_close(targets, torch.tensor([[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]))


def test_a_box_that_sticks_out_counts_by_what_lies_in_the_picture():
    blending = Blending(torch.tensor([0]), 0.75, (0.0, 0.99), 2)
    mixed = blending.inputs(torch.zeros(1, 1, 8, 12), torch.ones(1, 1, 8, 12))
    pasted = float(mixed.sum())
    assert 0 < pasted < 24
    targets = blending.targets(torch.tensor([0]), torch.tensor([1]), mixed)
    assert float(targets[0, 1]) == pytest.approx(pasted / 96)


def test_the_share_is_of_a_beta_distribution():
    generator = torch.Generator().manual_seed(0)
    for alpha in (0.2, 1.0, 5.0):
        shares = torch.tensor([Mixing("mixup", 2, alpha).drawn(2, generator).share for _ in range(4000)])
        assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
        assert float(shares.var()) == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_both_is_each_of_the_two_in_half_of_the_batches():
    generator = torch.Generator().manual_seed(0)
    cuts = [Mixing("both", 2).drawn(2, generator).centre is not None for _ in range(1000)]
    assert 430 < sum(cuts) < 570


@pytest.mark.parametrize("how", ["mixup", "cutmix", "both"])
@pytest.mark.parametrize("augment", ["none", "cifar", "trivial"])
def test_shards_are_the_rows_that_the_whole_batch_has(how, augment):
    transform, mixing = training_transform(SPEC, augment), Mixing(how, 5)
    whole = epoch(mixing, transform=transform)
    parts = [epoch(mixing, transform=transform, shard=Shard(number, 3)) for number in range(3)]
    for number, (x, y) in enumerate(whole):
        # The last batch of two rows is repeated until it suffices.
        repeats = sum(len(part[number][1]) for part in parts) // len(y)
        assert torch.equal(torch.cat([part[number][0] for part in parts]), x.repeat(repeats, 1, 1, 1))
        assert torch.equal(torch.cat([part[number][1] for part in parts]), y.repeat(repeats, 1))


def test_workers_and_a_late_start_change_nothing():
    mixing = Mixing("both", 5)
    whole = epoch(mixing)
    for other in (epoch(mixing, workers=1), [None, *epoch(mixing, start=1)]):
        for (x, y), found in list(zip(whole, other, strict=True))[1:]:
            assert torch.equal(x, found[0])
            assert torch.equal(y, found[1])


def test_rows_are_mixed_anew_in_each_epoch_and_numbers_of_others_stay():
    before = torch.get_rng_state()
    first, second = epoch(Mixing("mixup", 5)), epoch(Mixing("mixup", 5), epoch=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[0][1], second[0][1])


def test_a_row_mixed_with_its_own_class_stays_in_it():
    y = torch.zeros(4, dtype=torch.long)
    found = Blending(torch.tensor([1, 0, 3, 2]), 0.3, None, 2).targets(y, y, torch.zeros(4, 1))
    torch.testing.assert_close(found, one_hot(y, 2).float())


@pytest.mark.parametrize(
    ("how", "alpha", "message"), [("none", 1.0, "mix must be"), ("mixup", 0.0, "mix_alpha must be")]
)
def test_a_mixing_that_is_none_is_refused(how, alpha, message):
    with pytest.raises(OptionError, match=message):
        Mixing(how, 2, alpha)
