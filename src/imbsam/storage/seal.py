"""Content with a checksum, a SHA-256 before the bytes or among the metadata of safetensors."""

import hashlib
import hmac
import json
from collections.abc import Mapping

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

MARK = b"imbsam sha256 "
ABOUT, DIGEST = "imbsam", "sha256"


class DamagedError(ValueError):
    """Content that differs from what was sealed."""


def sealed(content: bytes) -> bytes:
    """Put a line with the checksum of the content before it."""
    return _head(content) + b"\n" + content


def unsealed(data: bytes) -> bytes:
    """Return the content of :func:`sealed`.

    Raises:
        DamagedError: If a bit differs from what was sealed.
    """
    head, _, content = data.partition(b"\n")
    if not hmac.compare_digest(head, _head(content)):
        raise DamagedError("its SHA-256 is not that of its content")
    return content


def _head(content: bytes) -> bytes:
    return MARK + hashlib.sha256(content).hexdigest().encode()


def sealed_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """Return a safetensors file with a checksum of everything in it.

    Args:
        tensors: Tensors by name, on any device.
        metadata: Words to keep beside them.
    """
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    about = {**metadata, DIGEST: _digest(kept, metadata)}
    # In one entry: safetensors writes several in an order that changes from run to run.
    return save(kept, metadata={ABOUT: json.dumps(about, sort_keys=True)})


def unsealed_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and metadata of :func:`sealed_tensors`.

    Raises:
        DamagedError: If a bit of tensors or metadata differs from what was sealed.
    """
    try:
        tensors = load(data)
        metadata = _metadata(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise DamagedError(str(error)) from None
    if metadata.pop(DIGEST, None) != _digest(tensors, metadata):
        raise DamagedError("its SHA-256 is not that of its content")
    return tensors, metadata


def _metadata(data: bytes) -> dict[str, str]:
    # Eight bytes with the header's length, the header as JSON; safetensors opens metadata of files on disk only.
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return dict(json.loads(header["__metadata__"][ABOUT]))


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    # Over what a reader gets, not over the file: the order of tensors in it does not matter.
    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name in sorted(tensors):
        digest.update(save({name: tensors[name].contiguous()}))
    return digest.hexdigest()
