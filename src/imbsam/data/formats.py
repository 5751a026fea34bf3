"""Formats: which image files are opened, by what endings they are known, and how they are opened."""

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
"""What Pillow tells by a signature and decodes itself: no other program is started (EPS, WMF), no unit of measurement
is lost (FITS), and what lies inside is of one format (IPTC). HEIF is there once its own package has registered it."""

FORMATS_BY_ENDING = ("TGA", "PCD")
"""Formats without a signature: tried only on files whose name ends like theirs, or any bytes might pass for one."""

HEIF_ENDINGS = frozenset((".heic", ".heif", ".hif"))
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"))


def known_endings() -> frozenset[str]:
    """Endings of the files that are taken for images, in small letters, with their dot.

    Those of HEIC are always among them: such a file is an image, and opening it says what is missing.
    """
    known = {ending for ending, name in Image.registered_extensions().items() if name in (*FORMATS, *FORMATS_BY_ENDING)}
    return HEIF_ENDINGS | known


def open_image(file: Path | bytes) -> ImageFile.ImageFile:
    """Open an encoded image; its pixels are not decoded yet.

    Args:
        file: A path, or the bytes of a file.

    Returns:
        Pillow's image, at the first of its frames.

    Raises:
        OSError: If there is no such file, it is not an image of one of the formats, or HEIC that nothing here reads.
        Exception: Whatever else a damaged file leads Pillow into.
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
    """Those of the formats that Pillow has, anew where it has come to have more."""
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_heif(file: Path | bytes) -> bool:
    if isinstance(file, bytes):
        start = file[:64]
    else:
        with file.open("rb") as opened:
            start = opened.read(64)
    return start[4:8] == b"ftyp" and any(start[at : at + 4] in _HEIF_BRANDS for at in range(8, len(start), 4))
