import torch

from imbsam.sharpness import parts_of


def test_groups_hold_their_classes_and_empty_ones_are_left_out():
    parts = parts_of(("many", "few", "many", "few"), torch.tensor([False, True, False, False]))
    assert parts == {"overall": (0, 1, 2, 3), "many": (0, 2), "few": (1, 3), "head": (0, 2, 3), "tail": (1,)}


def test_without_a_tail_there_is_no_head():
    assert set(parts_of(("medium", "few"))) == {"overall", "medium", "few"}
