"""Signals are held back for as long as a block runs, and go on to whom they would have gone."""

import os
import signal
import threading

import pytest

from imbsam.storage.interruption import SIGNALS, Stopped, exit_code, held_back, ignored, raised


@pytest.fixture(autouse=True)
def _handlers_as_in_a_terminal():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def handlers():
    return [signal.getsignal(number) for number in SIGNALS]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_raised_with_its_exit_code(number, code):
    before = handlers()
    with pytest.raises(Stopped) as caught, raised():
        signal.raise_signal(number)
    assert exit_code(caught.value) == code
    assert handlers() == before


@pytest.mark.parametrize("number", SIGNALS)
def test_once_signals_are_ignored_none_disturbs_what_is_left(number):
    with raised(), held_back() as held:
        ignored()
        signal.raise_signal(number)
        assert held.number is None
    signal.raise_signal(number)


def test_a_plain_keyboard_interrupt_is_sigint():
    assert exit_code(KeyboardInterrupt()) == 130


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_waits_to_be_asked_for(number):
    went_on = []

    def block(held):
        held.check()
        signal.raise_signal(number)
        went_on.append(held.number)
        held.check()
        went_on.append("not reached")

    with pytest.raises(Stopped), raised(), held_back() as held:
        block(held)
    assert went_on == [number]


def test_a_signal_that_nobody_asked_for_acts_at_the_end_of_the_block():
    went_on = []

    def program():
        with held_back():
            signal.raise_signal(signal.SIGINT)
            went_on.append("in the block")
        went_on.append("after it")

    with pytest.raises(KeyboardInterrupt):
        program()
    assert went_on == ["in the block"]


def test_a_second_signal_acts_at_once():
    went_on = []

    def block():
        signal.raise_signal(signal.SIGTERM)
        went_on.append("after the first")
        signal.raise_signal(signal.SIGTERM)
        went_on.append("after the second")

    with pytest.raises(Stopped), raised(), held_back():
        block()
    assert went_on == ["after the first"]


def test_the_handler_of_the_program_around_gets_the_signal():
    got = []
    signal.signal(signal.SIGTERM, lambda number, frame: got.append(number))

    def block():
        signal.raise_signal(signal.SIGTERM)
        got.append("in the block")

    with pytest.raises(Stopped), held_back():
        block()
    assert got == ["in the block", signal.SIGTERM]


def test_a_signal_that_the_process_ignores_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with held_back() as held, raised():
        signal.raise_signal(signal.SIGINT)
    assert held.number is None


def test_a_forked_process_waits_at_the_first_signal_and_ends_at_the_second():
    with raised(), held_back():
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                os.kill(os.getpid(), signal.SIGTERM)
            except Stopped:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_in_another_thread_nothing_is_handled():
    seen = []

    def block():
        with raised(), held_back() as held:
            seen.append((held.number, handlers()))

    before = handlers()
    thread = threading.Thread(target=block)
    thread.start()
    thread.join()
    assert seen == [(None, before)]
