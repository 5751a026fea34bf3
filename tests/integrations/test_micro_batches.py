"""What waits comes back as one batch."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cases import MLP, TAIL
from imbsam.errors import DataError, PassError
from imbsam.integrations.micro_batches import MicroBatches, make_passes
from imbsam.optim import SAM, ImbSAM
from integrations import plain

Y = torch.tensor([0, 3, 1, 4])


def batch_of(start: int, rows: int, length: int = 2) -> dict[str, object]:
    x = torch.arange(start, start + rows)
    names = np.array([f"row {i}" for i in x.tolist()])
    return {"x": x[:, None].expand(-1, length), "more": (x, [x + 1]), "names": names, "scale": torch.tensor(2.0)}


def test_rows_out_of_several_micro_batches_are_joined_in_order() -> None:
    waiting = MicroBatches()
    for start, rows in ((0, 3), (3, 1), (4, 2)):
        waiting.add(batch_of(start, rows), torch.full((rows,), start))
    assert waiting.targets.tolist() == [0, 0, 0, 3, 4, 4]
    assert waiting.largest == 3
    (taken,) = waiting.take(torch.tensor([1, 3, 4]))
    assert taken["x"][:, 0].tolist() == [1, 3, 4]
    assert taken["more"][1][0].tolist() == [2, 4, 5]
    assert taken["names"].tolist() == ["row 1", "row 3", "row 4"]


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

    optimizer = ImbSAM(torch.optim.SGD(model.parameters(), lr=0.1), TAIL, rho=0.3, check_rows=False)
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


def test_micro_batches_with_other_constants_stay_apart() -> None:
    waiting = MicroBatches()
    for scale in (2.0, 3.0):
        waiting.add({"x": torch.zeros(2, 3), "scale": scale}, torch.tensor([0, 1]))
    assert [part["scale"] for part in waiting.take(torch.arange(4))] == [2.0, 3.0]


def test_tensors_whose_first_dimension_is_another_are_not_joined_along_it() -> None:
    waiting = MicroBatches()
    for _ in range(2):
        waiting.add({"x": torch.zeros(5, 2, 3)}, torch.tensor([0, 1]))
    assert [part["x"].shape for part in waiting.take(torch.arange(4))] == [(5, 2, 3), (5, 2, 3)]
    with pytest.raises(DataError, match=r"batch\['x'\], a tensor of shape \(5, 2, 3\) in a batch of 2 rows"):
        waiting.take(torch.tensor([0, 2]))


def test_a_smaller_batch_is_read_as_those_before_it() -> None:
    waiting = MicroBatches()
    for rows in (4, 2):
        waiting.add({"two": [torch.arange(rows), torch.arange(rows)], "names": ["a", "b"]}, torch.zeros(rows))
    (taken,) = waiting.take(torch.tensor([1, 5]))
    assert [part.tolist() for part in taken["two"]] == [[1, 1], [1, 1]]
    assert taken["names"] == ["a", "b"]


def test_rows_of_a_batch_of_ones_own_are_taken_by_its_owner() -> None:
    waiting = MicroBatches(lambda batch, rows: [batch[i] for i in rows] if isinstance(batch, str) else NotImplemented)
    waiting.add("abc", torch.zeros(3))
    waiting.add(torch.arange(3), torch.zeros(3))
    first, second = waiting.take(torch.tensor([1, 5]))
    assert first == ["b"]
    assert second.tolist() == [2]


def test_targets_of_different_shapes_in_one_step_are_named() -> None:
    waiting = MicroBatches()
    waiting.add(torch.zeros(2, 3), torch.zeros(2))
    waiting.add(torch.zeros(2, 3), torch.zeros(2, 5))
    with pytest.raises(DataError, match="targets of different shapes"):
        _ = waiting.targets
