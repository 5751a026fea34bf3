import bz2
import csv
import gzip
import io
import lzma
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imbsam.data.sources import encoded
from imbsam.data.sources.dialect import Dialect
from imbsam.data.sources.endings import is_text_table
from imbsam.data.sources.text import open_text
from imbsam.errors import DataError

ENDINGS = {".csv": ",", ".tsv": "\t", ".tab": "\t", ".psv": "|", ".data": None, ".dat": None}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"]


def zst(data):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def zipped(data, *names):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name in names or ("folder/t.csv", "__MACOSX/t.csv"):
            file.writestr(name, data)
    return archive.getvalue()


PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": zst, ".zip": zipped}


@pytest.fixture
def table(tmp_path):
    """A function that writes a file and opens it."""

    def opened(content, name="t.csv", *, skip_bad=False, **asked):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return open_text(path, Dialect(**asked), skip_bad=skip_bad)

    return opened


def rows_of(table):
    return [tuple(row) for row in zip(*(column.to_pylist() for column in table.columns), strict=True)]


@st.composite
def written(draw):
    """A table of texts, and the file that the csv module writes of it."""
    width = draw(st.integers(1, 4))
    cells = st.text('aäß7 ,;|\t".\n', max_size=6)
    rows = draw(st.lists(st.tuples(*[cells] * width), max_size=12))
    names = [f"größe{place}" for place in range(width)]
    separator = draw(st.sampled_from(",;\t|"))
    breaks = any("\n" in cell for row in rows for cell in row)
    stream = io.StringIO()
    writer = csv.writer(
        stream,
        delimiter=separator,
        lineterminator=draw(st.sampled_from(["\n", "\r\n", "\r"])),
        quoting=csv.QUOTE_ALL if breaks else draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )
    writer.writerows([names, *rows])
    text = stream.getvalue()
    if draw(st.booleans()):
        text = text.rstrip("\r\n")
    return names, rows, separator, text.encode(draw(st.sampled_from(ENCODINGS)))


@settings(max_examples=300)
@given(
    table=written(),
    ending=st.sampled_from(list(ENDINGS)),
    packed=st.sampled_from(list(PACKED)),
    chunk=st.integers(1, 60),
    block=st.integers(1, 13),
)
def test_what_the_csv_module_writes_comes_back_whole_and_by_blocks(table, ending, packed, chunk, block):
    names, rows, separator, data = table
    with tempfile.TemporaryDirectory() as folder, patch.object(encoded, "_CHUNK", chunk):
        path = Path(folder) / f"t{ending}{packed}"
        path.write_bytes(PACKED[packed](data))
        assert is_text_table(path)
        opened = open_text(path, Dialect(separator=separator if len(names) == 1 else None))
        assert opened.names == tuple(names)
        expected = [tuple(cell or None for cell in row) for row in rows]
        assert rows_of(opened.whole()) == expected
        blocks = list(opened.blocks(block))
    assert [row for table in blocks for row in rows_of(table)] == expected
    assert all(len(table) == block for table in blocks[:-1])
    assert all(column.type == pa.string() for table in blocks for column in table.columns)


def test_nothing_but_an_empty_cell_is_missing_and_nothing_is_stripped(table):
    whole = table('a,b,c\nNA, x ,"" \n"",-,null\n').whole()
    assert rows_of(whole) == [("NA", " x ", " "), (None, "-", "null")]


def test_a_quote_within_a_cell_is_a_character(table):
    with patch.object(encoded, "_CHUNK", 16):
        opened = table('size,note\n5" pipe,"a\nb"\n6",c\n"7"" d",e\n' + '8" f,"g\n\nh"\n' * 9)
        assert rows_of(opened.whole())[:4] == [('5" pipe', "a\nb"), ('6"', "c"), ('7" d', "e"), ('8" f', "g\n\nh")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_blank_lines_are_no_rows(table, end):
    opened = table(end.join(["", "a;b", "", "1;2", "", "", "3;4", ""]))
    assert rows_of(opened.whole()) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"'])
def test_a_first_line_tells_the_separator(table, first):
    opened = table(f"{first}\r\na;b,c\r\n1;2,5\r\n")
    assert opened.names == ("a", "b,c")
    assert rows_of(opened.whole()) == [("1", "2,5")]
    assert opened.notes == ["t.csv: columns are separated by semicolons."]


def test_a_first_line_that_names_no_ascii_character_is_a_header(table):
    assert table("sep=§\n1\n").names == ("sep=§",)


def test_a_separator_asked_for_is_taken_without_a_note(table):
    opened = table("sep=;\na:b;c\n1:2;3\n", separator=":")
    assert (opened.names, rows_of(opened.whole()), opened.notes) == (("a", "b;c"), [("1", "2;3")], [])


def test_where_several_separators_fit_the_ending_decides_or_nobody(table):
    text = "a;b,c\nx;y,z\n"
    opened = table(text)
    assert opened.names == ("a;b", "c")
    assert "commas or semicolons" in opened.notes[0]
    with pytest.raises(DataError, match=r"commas or semicolons.*--separator"):
        table(text, "t.dat")


def test_a_header_of_one_name_over_rows_of_two_fields_is_no_column_of_its_own(table):
    with pytest.raises(DataError, match=r"names 1 column, but its rows hold commas.*--separator semicolon"):
        table("temp\n20,5\n1,5\n")
    assert rows_of(table("temp\n20,5\n1,5\n", separator="semicolon").whole()) == [("20,5",), ("1,5",)]


@pytest.mark.parametrize(
    ("data", "encoding", "noted"),
    [
        ("größe;€\nä;1\n".encode("cp1252"), None, "cp1252"),
        ("größe;€\nä;1\n".encode(), None, None),
        ("größe;€\nä;1\n".encode("utf-8-sig"), None, None),
        ("größe;€\nä;1\n".encode("utf-16-le"), None, "utf-16-le"),
        ("größe;€\nä;1\n".encode("iso8859-15"), "iso8859-15", None),
    ],
)
def test_the_encoding_is_found_and_said_where_it_is_not_utf_8(table, data, encoding, noted):
    opened = table(data, encoding=encoding)
    assert opened.names == ("größe", "€")
    assert rows_of(opened.whole()) == [("ä", "1")]
    assert [note for note in opened.notes if "--encoding" in note and noted in note] if noted else True
    assert noted or not any("--encoding" in note for note in opened.notes)


def test_letters_far_down_in_the_file_count_too(table):
    opened = table(b"a,b\n" + b"1,2\n" * 500_000 + "1,ä\n".encode("latin-1"))
    assert rows_of(opened.whole().slice(500_000)) == [("1", "ä")]


def test_bytes_that_cp1252_does_not_have_are_latin_1(table):
    assert table(b"a,b\n1,\x81\xe4\n").whole()["b"].to_pylist() == ["\x81ä"]


@pytest.mark.parametrize(
    ("data", "asked", "words"),
    [
        (b"a,b\n1,\xe4\n", {"encoding": "utf-8"}, "byte 7.*--encoding"),
        ("a,b\n1,äöü\n2,".encode() + b"\xe4\n", {}, "most of it is UTF-8.*byte 16"),
        (b"a,b\n1,\0\n", {}, "not a text"),
        (bytes(range(1, 256)), {}, "not a text"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", {}, "not a text"),
        ("a,b\n1,ä\n".encode("utf-16")[:-1], {}, "utf-16.*--encoding"),
        (b"", {}, "the file is empty"),
        (b"\n\r\n\n", {}, "the file is empty"),
        (b"\xef\xbb\xbf", {}, "the file is empty"),
        (b"a,b,a,c,c\n1,2,3,4,5\n", {}, "several columns are called 'a', 'c'"),
        (b'"a,b\n1,2\n', {}, "the header does not end"),
    ],
)
def test_what_cannot_be_opened_is_said(table, data, asked, words):
    with pytest.raises(DataError, match=words):
        table(data, **asked)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.bz2", "t.csv.xz", "t.csv.zst", "t.csv.zip"])
def test_a_damaged_archive_is_said(table, name):
    whole = PACKED[Path(name).suffix](("a,b\n" + "".join(f"{n},{n * n}\n" for n in range(5000))).encode())
    for data in (b"a,b\n1,2\n", whole[: len(whole) // 2]):
        with pytest.raises(DataError, match=name):
            table(data, name)


def test_a_zip_archive_is_a_table_where_it_holds_one(table, tmp_path):
    assert rows_of(table(zipped(b"a\tb\n1\t2\n", "x.tsv"), "t.zip").whole()) == [("1", "2")]
    assert is_text_table(tmp_path / "t.zip")
    with pytest.raises(DataError, match=r"2 files \(a.csv, b.csv\)"):
        table(zipped(b"a,b\n", "a.csv", "b.csv"), "t.zip")
    (tmp_path / "pictures.zip").write_bytes(zipped(b"", "a.png"))
    assert not is_text_table(tmp_path / "pictures.zip")


def test_a_header_alone_has_names_and_no_rows(table):
    for text in ("a,b", "a,b\n\n"):
        opened = table(text)
        assert (opened.names, opened.whole().num_rows, list(opened.blocks(2))) == (("a", "b"), 0, [])


@pytest.mark.parametrize("header", ["a,b", "a,b,"])
def test_a_separator_at_each_rows_end_is_left_out(table, header):
    opened = table(f"{header}\n1,2,\n3,4,\n")
    assert (opened.names, rows_of(opened.whole())) == (("a", "b"), [("1", "2"), ("3", "4")])
    assert "field 3 has no name and is empty" in opened.notes[0]


def test_a_separator_at_the_headers_end_alone_names_nothing(table):
    assert table("a,b,\n1,2\n").names == ("a", "b")


@pytest.mark.parametrize(("rows", "first"), [("1,2,ok\n" * 3, 1), ("1,2,\n" * 300 + "\n\n1,2,3\n", 301)])
def test_a_field_that_the_header_does_not_name_is_refused(table, rows, first):
    with pytest.raises(DataError, match=f"rows have 3 fields, the header names 2: first row {first}. Add"):
        table("a,b\n" + rows)


def test_a_column_without_a_name_is_called_after_its_place(table):
    assert table(",a,\n0,1,2\n").names == ("Unnamed: 0", "a", "Unnamed: 2")
    assert table(",Unnamed: 0,a\n0,1,2\n").names == ("Unnamed: 0.1", "Unnamed: 0", "a")
    opened = table("a,,b\n" + "1,,2\n" * 3)
    assert (opened.names, rows_of(opened.whole())[0]) == (("a", "b"), ("1", "2"))
    assert table("a,,b\n" + "1,,2\n" * 900 + "1,x,2\n").names == ("a", "Unnamed: 1", "b")


@pytest.mark.parametrize("chunk", [5, 1 << 20])
def test_a_row_that_does_not_fit_is_named_or_left_out(table, chunk):
    text = 'a,b\n1,"2\n3"\n\n4\n5,6\n\n7,8,9\n10,11\n'
    with patch.object(encoded, "_CHUNK", chunk):
        for read in (lambda opened: opened.whole(), lambda opened: list(opened.blocks(1))):
            with pytest.raises(DataError, match=r"row 2 has 1 field, the header names 2.*--skip-bad"):
                read(table(text))
        opened = table(text, skip_bad=True)
        for _ in range(2):
            assert rows_of(opened.whole()) == [("1", "2\n3"), ("5", "6"), ("10", "11")]
    assert opened.notes == ["t.csv: left out because they do not have 2 fields: 2 rows (row 2, 4)."]


def test_a_row_without_the_others_last_separator_is_told_from_them(table):
    with pytest.raises(DataError, match="row 2 has 2 fields, the others have 3"):
        table("a,b\n1,2,\n3,4\n5,6,\n").whole()


@pytest.mark.parametrize("rows", ['1,"2\n3,4\n', '1,2\n3,"4', '"1,2\n3,4\n', '1,2"\n"3,4\n5,6\n', '1,"2""\n' * 3])
@pytest.mark.parametrize("chunk", [3, 1 << 20])
def test_a_quote_that_is_left_open_is_said(table, rows, chunk):
    with patch.object(encoded, "_CHUNK", chunk), pytest.raises(DataError, match=r"a quote (is )?not closed"):
        table("a,b\n" + rows).whole()


def test_a_cell_may_be_longer_than_what_is_read_at_a_time(table):
    long = "x\n" * (1 << 20)
    opened = table(f'a,b\n1,2\n"{long}",3\n4,5\n')
    assert [rows_of(block)[0] for block in opened.blocks(1)] == [("1", "2"), (long, "3"), ("4", "5")]


def test_blocks_that_are_not_gone_through_do_not_keep_the_interpreter(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b\n" + "1,2\n" * 2_000_000)
    code = (
        "from pathlib import Path; from imbsam.data.sources.dialect import Dialect; "
        "from imbsam.data.sources.text import open_text; "
        f"blocks = open_text(Path({str(path)!r}), Dialect()).blocks(10); next(blocks)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def outcome(path, read, *, skip_bad):
    try:
        opened = open_text(path, Dialect(), skip_bad=skip_bad)
        return opened.names, [row for table in read(opened) for row in rows_of(table)], opened.notes
    except DataError as error:
        return str(error)


@settings(max_examples=300)
@given(
    data=st.text('aä1,;"\n\r\x00', max_size=40).map(str.encode) | st.binary(max_size=60),
    ending=st.sampled_from([".csv", ".dat", ".csv.gz", ".csv.zip", ".csv.zst"]),
    chunk=st.integers(1, 20),
    block=st.integers(1, 4),
    skip_bad=st.booleans(),
)
def test_any_bytes_give_the_same_table_or_error_whole_and_by_blocks(data, ending, chunk, block, skip_bad):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"t{ending}"
        path.write_bytes(data)
        expected = outcome(path, lambda opened: [opened.whole()], skip_bad=skip_bad)
        with patch.object(encoded, "_CHUNK", chunk):
            assert outcome(path, lambda opened: opened.blocks(block), skip_bad=skip_bad) == expected
