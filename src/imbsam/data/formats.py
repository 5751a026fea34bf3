"""Formats of image files: which are opened, by which endings they are known, and how they are opened."""

import io
from functools import cache
from pathlib import Path

from PIL import Image, ImageFile

FORMATS = (
    *(
        "JPEG",
        "MPO",
        "PNG",
        "WEBP",
        "GIF",
        "BMP",
        "TIFF",
        "PPM",
        "AVIF",
        "JPEG2000",
        "ICO",
        "CUR",
        "ICNS",
        "DIB",
        "PCX",
    ),
    *("DCX", "QOI", "SGI", "SUN", "PSD", "DDS", "MSP", "XPM", "XBM", "FLI", "BLP", "FTEX", "GBR", "PIXAR", "HEIF"),
)
"""Formats that Pillow recognises by a signature and decodes itself. Left out are those that start another program (EPS,
WMF), lose a unit of measurement (FITS), or contain several formats (IPTC). HEIF works once its package registers it."""

FORMATS_BY_ENDING = ("TGA", "PCD")
"""Formats without a signature: tried only on files with their ending, since any bytes could be taken for them."""

HEIF_ENDINGS = frozenset((".heic", ".heif", ".hif"))
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))


def known_endings() -> frozenset[str]:
    """Return the endings of files that count as images, in lower case, with their dot.

    The endings of HEIC are always among them; if no reader for HEIC is installed, opening such a file says so.
    """
    known = {ending for ending, name in Image.registered_extensions().items() if name in (*FORMATS, *FORMATS_BY_ENDING)}
    return HEIF_ENDINGS | known


def open_image(file: Path | bytes) -> ImageFile.ImageFile:
    """Open an encoded image without decoding its pixels.

    Args:
        file: Path or bytes of a file.

    Returns:
        Pillow's image, at its first frame.

    Raises:
        OSError: If there is no such file, it is not an image in one of the formats, or HEIC without a reader for it.
        Exception: Any other exception that Pillow raises on a damaged file.
    """
    try:
        return Image.open(io.BytesIO(file) if isinstance(file, bytes) else file, formats=_formats(file))
    except FileNotFoundError:
        raise
    except Exception as error:
        if not _is_heif(file):
            raise
        raise OSError(
            "HEIC, which Pillow reads only after pillow_heif.register_heif_opener() of the package pillow-heif; "
            "or convert it to JPEG"
        ) from error


def _formats(file: Path | bytes) -> tuple[str, ...]:
    Image.init()
    known = _openable(len(Image.OPEN))
    by_ending = None if isinstance(file, bytes) else Image.registered_extensions().get(file.suffix.lower())
    return (by_ending, *known) if by_ending in FORMATS_BY_ENDING else known


@cache
def _openable(registered: int) -> tuple[str, ...]:
    """Return the formats that Pillow has, updated where a format was registered since."""
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_heif(file: Path | bytes) -> bool:
    if isinstance(file, bytes):
        start = file[:64]
    else:
        with file.open("rb") as opened:
            start = opened.read(64)
    return start[4:8] == b"ftyp" and any(start[at : at + 4] in _HEIF_BRANDS for at in range(8, len(start), 4))
