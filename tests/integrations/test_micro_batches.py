"""Rows are taken out of any batch, and what waits comes back as one batch."""

import pytest
import torch
from torch import Tensor

from cases import MLP, TAIL
from imbsam.errors import DataError, PassError
from imbsam.integrations.micro_batches import MicroBatches, make_passes, take_rows, targets_of
from imbsam.optim import SAM, ImbSAM
from integrations import plain

Y = torch.tensor([0, 3, 1, 4])


def batch_of(start: int, rows: int, length: int = 2) -> dict[str, object]:
    x = torch.arange(start, start + rows)
    names = [f"row {i}" for i in x.tolist()]
    return {"x": x[:, None].expand(-1, length), "more": (x, [x + 1]), "names": names, "scale": torch.tensor(2.0)}


def test_rows_are_taken_of_every_tensor_and_list_of_names() -> None:
    taken = take_rows(batch_of(0, 4), torch.tensor([1, 3]), 4)
    assert torch.equal(taken["x"], torch.tensor([[1, 1], [3, 3]]))
    assert torch.equal(taken["more"][0], torch.tensor([1, 3]))
    assert torch.equal(taken["more"][1][0], torch.tensor([2, 4]))
    assert taken["names"] == ["row 1", "row 3"]
    assert float(taken["scale"]) == 2.0


def test_rows_out_of_several_micro_batches_are_joined_in_order() -> None:
    waiting = MicroBatches()
    for start, rows in ((0, 3), (3, 1), (4, 2)):
        waiting.add(batch_of(start, rows), torch.full((rows,), start))
    assert waiting.targets.tolist() == [0, 0, 0, 3, 4, 4]
    assert waiting.largest == 3
    (taken,) = waiting.take(torch.tensor([1, 3, 4]))
    assert taken["x"][:, 0].tolist() == [1, 3, 4]
    assert taken["more"][1][0].tolist() == [2, 4, 5]
    assert taken["names"] == ["row 1", "row 3", "row 4"]


def test_micro_batches_of_other_lengths_stay_apart() -> None:
    waiting = MicroBatches()
    waiting.add(batch_of(0, 2, length=2), torch.tensor([0, 1]))
    waiting.add(batch_of(2, 2, length=5), torch.tensor([0, 1]))
    first, second = waiting.take(torch.tensor([1, 2, 3]))
    assert (first["x"].shape, second["x"].shape) == ((1, 2), (2, 5))


def test_a_whole_batch_is_handed_on_without_a_copy() -> None:
    waiting, batch = MicroBatches(), batch_of(0, 4)
    waiting.add(batch, Y)
    assert waiting.take(torch.arange(4))[0] is batch


def test_no_forward_has_more_rows_than_the_largest_micro_batch() -> None:
    waiting, model, seen = MicroBatches(), MLP.model(), []
    for x, y in plain.batches(plain.dataset(), 4):
        waiting.add((x, y), y)

    def row_losses(batch: tuple[Tensor, Tensor]) -> Tensor:
        seen.append(len(batch[1]))
        return plain.losses_of(model, batch)

    optimizer = ImbSAM(torch.optim.SGD(model.parameters(), lr=0.1), TAIL, rho=0.3)
    loss = make_passes(optimizer, waiting, row_losses)
    # 26 rows, 7 of them in the tail, which are forwarded twice.
    assert max(seen) == 4
    assert sum(seen) == 26 + int(TAIL[plain.TARGETS].sum())
    assert float(loss) == pytest.approx(float(plain.losses_of(model, plain.dataset().tensors).mean().detach()))
    assert len(waiting) == 0


def test_each_pass_is_synchronised_once_with_its_last_micro_batch() -> None:
    events: list[str] = []

    class Quiet:
        def __enter__(self) -> None:
            events.append("quiet")

        def __exit__(self, *error: object) -> None:
            events.append("loud")

    waiting, model = MicroBatches(), MLP.model()
    for x, y in plain.batches(plain.dataset(), 10):
        waiting.add((x, y), y)

    def row_losses(batch: tuple[Tensor, Tensor]) -> Tensor:
        events.append("forward")
        return plain.losses_of(model, batch)

    make_passes(SAM(torch.optim.SGD(model.parameters(), lr=0.1)), waiting, row_losses, no_sync=Quiet)
    assert events == ["quiet", "forward", "loud", "quiet", "forward", "loud", "forward"] * 2


def test_nothing_waits_after_an_error() -> None:
    waiting, model = MicroBatches(), MLP.model()
    waiting.add((torch.zeros(4, 6), Y), Y)

    def fails(batch: object) -> Tensor:
        raise ValueError("a bad batch")

    with pytest.raises(ValueError, match="a bad batch"):
        make_passes(SAM(torch.optim.SGD(model.parameters(), lr=0.1)), waiting, fails)
    with pytest.raises(PassError, match="no batch waits"):
        make_passes(SAM(torch.optim.SGD(model.parameters(), lr=0.1)), waiting, fails)


@pytest.mark.parametrize("batch", [{"labels": Y}, {"x": 0, "label": Y}, {"targets": Y}, {"y": Y}, (0, Y), [0, 1, Y]])
def test_the_classes_of_a_batch_are_found(batch: object) -> None:
    assert targets_of(batch) is Y


@pytest.mark.parametrize("batch", [Y, {"x": Y}, (Y,), (Y, "names"), {"labels": [0, 1]}])
def test_a_batch_without_classes_is_named(batch: object) -> None:
    with pytest.raises(DataError, match="no classes found"):
        targets_of(batch)


def test_a_tensor_that_has_other_rows_is_named() -> None:
    with pytest.raises(DataError, match=r"shape \(3, 2\) in a batch of 4 rows"):
        take_rows({"x": torch.zeros(3, 2)}, torch.tensor([0]), 4)
