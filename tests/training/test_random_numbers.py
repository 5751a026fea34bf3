import threading

import torch

from imbsam.training.random_numbers import own_random_numbers

CPU = torch.device("cpu")


def test_the_numbers_inside_are_those_of_the_seed():
    with own_random_numbers(3, CPU):
        drawn = torch.rand(5)
    assert torch.equal(drawn, torch.rand(5, generator=torch.Generator().manual_seed(3)))


def test_the_numbers_outside_go_on_as_if_nothing_had_been_drawn():
    torch.manual_seed(1)
    undisturbed = torch.rand(4)
    torch.manual_seed(1)
    first = torch.rand(2)
    with own_random_numbers(3, CPU):
        torch.rand(7)
    assert torch.equal(torch.cat([first, torch.rand(2)]), undisturbed)


def test_the_numbers_outside_go_on_after_an_error_too():
    before = torch.get_rng_state()
    try:
        with own_random_numbers(3, CPU):
            torch.rand(7)
            raise KeyError
    except KeyError:
        pass
    assert torch.equal(torch.get_rng_state(), before)


def test_a_second_thread_waits_for_its_turn():
    order = []

    def other():
        with own_random_numbers(4, CPU):
            order.append("other")

    with own_random_numbers(3, CPU):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "other"]
