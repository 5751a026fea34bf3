"""Sealed content comes back to the bit or not at all."""

import pytest
import torch
from safetensors.torch import load, save

from imbsam.storage.seal import DamagedError, sealed, sealed_tensors, unsealed, unsealed_tensors

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "nothing": torch.zeros(0),
}


@pytest.mark.parametrize("content", [b"", b"x", b"imbsam sha256 \n", bytes(range(256))])
def test_what_is_sealed_comes_back(content):
    assert unsealed(sealed(content)) == content


@pytest.mark.parametrize("data", [b"", b"anything", b"imbsam sha256 \n", sealed(b"some")[:-1], sealed(b"some") + b"\n"])
def test_what_is_not_sealed_is_refused(data):
    with pytest.raises(DamagedError):
        unsealed(data)


def test_tensors_come_back_with_their_metadata():
    tensors, about = unsealed_tensors(sealed_tensors(TENSORS, {"epoch": "3"}))
    assert about == {"epoch": "3"}
    assert tensors.keys() == TENSORS.keys()
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)
    assert all(tensors[name].dtype == TENSORS[name].dtype for name in TENSORS)


def test_any_reader_of_safetensors_reads_them():
    assert load(sealed_tensors(TENSORS, {})).keys() == TENSORS.keys()


def test_the_same_tensors_give_the_same_bytes():
    assert len({sealed_tensors(TENSORS, {"epoch": "3", "run": "a"}) for _ in range(8)}) == 1


def test_parameters_that_share_their_memory_and_strided_ones_are_written_as_they_are_read():
    weight = torch.arange(6.0).reshape(2, 3).t()
    tensors, _ = unsealed_tensors(sealed_tensors({"a": weight, "b": weight}, {}))
    assert torch.equal(tensors["a"], weight)
    assert torch.equal(tensors["b"], weight)


@pytest.mark.parametrize(
    "data", [b"", b"\xff" * 64, save(TENSORS), save(TENSORS, metadata={"imbsam": "{}"}), save(TENSORS, {"imbsam": "["})]
)
def test_tensors_without_a_seal_are_refused(data):
    with pytest.raises(DamagedError):
        unsealed_tensors(data)


def test_every_bit_counts():
    whole = sealed_tensors({"weight": torch.arange(6.0).reshape(2, 3)}, {"epoch": "3"})
    kept = unsealed_tensors(whole)
    for place in range(8 * len(whole)):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        try:
            tensors, about = unsealed_tensors(bytes(flipped))
        except DamagedError:
            continue
        # Blanks of the header may become other blanks: nothing that is read differs.
        assert (list(tensors), about) == (list(kept[0]), kept[1])
        assert torch.equal(tensors["weight"], kept[0]["weight"])
