import numpy as np
import pytest
from PIL import Image, UnidentifiedImageError

from data.encoded import pillow
from imbsam.data import formats
from imbsam.data.decoding import reason
from imbsam.data.formats import FORMATS, FORMATS_BY_ENDING, known_endings, open_image

COLOURED = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(200)


def test_formats_that_need_another_program_or_nothing_of_pillow_are_closed():
    Image.init()
    assert not {"EPS", "WMF", "GRIB", "HDF5", "BUFR", "MPEG", "IPTC"} & {*FORMATS, *FORMATS_BY_ENDING}
    assert not {".eps", ".ps", ".wmf", ".pdf", ".h5", ".mpg"} & known_endings()


@pytest.mark.parametrize(
    "ending", ["jfif", "jpg", "png", "tif", "webp", "gif", "avif", "jp2", "ico", "tga", "pcx", "mpo"]
)
def test_what_pillow_reads_is_an_image(ending):
    if ending == "avif" and "AVIF" not in Image.OPEN:
        pytest.skip("this Pillow knows no AVIF")
    assert f".{ending}" in known_endings()


@pytest.mark.parametrize(
    "file_format", ["BMP", "DIB", "PCX", "SGI", "TGA", "QOI", "DDS", "JPEG2000", "PPM", "TIFF", "PNG"]
)
def test_an_image_of_each_format_is_opened(tmp_path, file_format):
    if file_format not in Image.SAVE:
        pytest.skip("this Pillow writes none")
    options = {"irreversible": False} if file_format == "JPEG2000" else {}
    path = tmp_path / f"a.{file_format.lower()}"
    path.write_bytes(pillow(COLOURED, file_format, **options))
    with open_image(path) as image:
        assert np.array_equal(np.asarray(image.convert("RGB")), COLOURED)


def test_bytes_without_a_signature_are_no_image_whatever_they_look_like():
    with pytest.raises(UnidentifiedImageError):
        open_image(pillow(COLOURED, "TGA"))


def test_postscript_is_not_started(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    with pytest.raises(UnidentifiedImageError):
        open_image(path)


def test_heic_says_how_to_read_it(tmp_path):
    (tmp_path / "a.heic").write_bytes(HEIC)
    for file in (HEIC, HEIC.replace(b"ftypheic", b"ftypmif1"), tmp_path / "a.heic"):
        with pytest.raises(OSError, match="HEIC") as caught:
            open_image(file)
        assert "register_heif_opener() of the package pillow-heif" in reason(caught.value)
    assert {".heic", ".heif"} <= known_endings()


def test_heic_is_read_once_its_package_has_registered_it(monkeypatch):
    made = Image.new("RGB", (2, 3))
    monkeypatch.setitem(Image.OPEN, "HEIF", (lambda file, name: made, lambda start: start[4:8] == b"ftyp"))
    formats._openable.cache_clear()
    assert open_image(HEIC).size == (2, 3)
    formats._openable.cache_clear()


def test_a_missing_file_stays_a_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.tga")
