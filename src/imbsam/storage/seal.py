"""Content that tells when a bit of it has changed: a SHA-256 before bytes, or among the metadata of safetensors."""

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
    """Content that is not what was sealed."""


def sealed(content: bytes) -> bytes:
    """Put a line with the digest of the content before it."""
    return _head(content) + b"\n" + content


def unsealed(data: bytes) -> bytes:
    """The content of :func:`sealed`.

    Raises:
        DamagedError: If it is not what was sealed, to the bit.
    """
    head, _, content = data.partition(b"\n")
    if not hmac.compare_digest(head, _head(content)):
        raise DamagedError("its SHA-256 is not that of its content")
    return content


def _head(content: bytes) -> bytes:
    return MARK + hashlib.sha256(content).hexdigest().encode()


def sealed_tensors(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file with a digest of everything in it.

    Args:
        tensors: By name, on any device.
        metadata: Words to keep beside them.
    """
    kept = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    about = {**metadata, DIGEST: _digest(kept, metadata)}
    # In one entry: safetensors writes several in an order that changes from run to run.
    return save(kept, metadata={ABOUT: json.dumps(about, sort_keys=True)})


def unsealed_tensors(data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of :func:`sealed_tensors`.

    Raises:
        DamagedError: If tensors or metadata are not what was sealed, to the bit.
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
