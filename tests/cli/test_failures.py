import errno

import pytest
import torch

from imbsam.cli.failures import sentence


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_machine_without_memory_is_told_with_the_way_out(imbsam, monkeypatch, error):
    def failing(*_):
        raise error

    monkeypatch.setattr("imbsam.cli.actions.expected_cost", failing)
    ran = imbsam("cost", "digits")
    assert ran.code == 2
    assert ran.err.startswith("imbsam: there is not enough memory. ")
    assert "--batch-size" in ran.err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.csv"), "a.csv cannot be used: No space left on device."),
        (OSError(errno.EIO, "Input/output error", "St\udcdf"), r"St\xdf cannot be used: Input/output error."),
        (OSError(errno.EXDEV, "Invalid link", "a", None, "b"), "a and b cannot be used: Invalid link."),
        (TimeoutError("late"), "a file cannot be used: late."),
        (RecursionError("maximum recursion depth exceeded"), "the input is nested too deeply to be read. Simplify it."),
    ],
)
def test_what_the_machine_refuses_is_one_sentence(error, told):
    assert sentence(error) == told


def test_a_text_in_another_encoding_is_one_sentence():
    with pytest.raises(UnicodeDecodeError) as caught:
        b"\xdf".decode()
    assert str(sentence(caught.value)).endswith("Convert it to UTF-8.")


@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("shape"), ZeroDivisionError(), AssertionError()])
def test_a_fault_of_the_program_keeps_its_traceback(error):
    assert sentence(error) is None
