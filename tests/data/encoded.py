"""Image files made byte by byte, where Pillow writes none of the kind."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def pillow(pixels, file_format="PNG", **options):
    """The bytes of an image or an array as Pillow writes them."""
    buffer = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def exif(orientation):
    """EXIF that says an orientation."""
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def png(pixels, before=(), after=()):
    """A PNG file of 8 or 16 bits a value, 1 to 4 channels, with chunks before and after the pixels."""
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = pixels.astype(">u2" if pixels.dtype == np.uint16 else "u1").reshape(height, -1)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, kind, 0, 0, 0)),
        *before,
        (b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))),
        *after,
        (b"IEND", b""),
    ]
    packed = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def tiff(pixels, *, white_is_zero=False, colours="", extra=None, planar=1):
    """An uncompressed TIFF file of any type of number; bytes in the order of the array's type."""
    height, width = pixels.shape[:2]
    samples = 1 if pixels.ndim == 2 else pixels.shape[2]
    order = ">" if pixels.dtype.byteorder == ">" else "<"
    photometric = {"": 0 if white_is_zero else 1, "RGB": 2, "CMYK": 5}[colours]
    data = pixels.tobytes()
    tags = [
        *[(256, "I", [width]), (257, "I", [height]), (258, "H", [8 * pixels.itemsize] * samples), (259, "H", [1])],
        *[(262, "H", [photometric]), (273, "I", [0]), (277, "H", [samples]), (278, "I", [height])],
        *[(279, "I", [len(data)]), (284, "H", [planar])],
        *([] if extra is None else [(338, "H", [extra])]),
        (339, "H", [{"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]] * samples),
    ]
    end = 8 + 2 + 12 * len(tags) + 4
    behind = b""
    entries = b""
    for tag, kind, values in tags:
        packed = struct.pack(f"{order}{len(values)}{kind}", *values)
        if tag == 273:
            packed = b"HERE"
        if len(packed) > 4:
            behind += packed
            packed = struct.pack(f"{order}I", end + len(behind) - len(packed))
        entries += struct.pack(f"{order}HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + packed.ljust(4, b"\0")
    entries = entries.replace(b"HERE", struct.pack(f"{order}I", end + len(behind)))
    start = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    return start + entries + bytes(4) + behind + data
