import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from imbsam.errors import RunError
from imbsam.storage.files import read_json, write_atomically, write_json


def test_text_and_bytes_are_written_with_their_folders(tmp_path):
    write_atomically(tmp_path / "a" / "b" / "text", "grün\n")
    write_atomically(tmp_path / "a" / "bytes", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "text").read_bytes() == "grün\n".encode()
    assert (tmp_path / "a" / "bytes").read_bytes() == b"\x00\xff"


def test_old_content_is_replaced_and_nothing_else_is_left(tmp_path):
    for content in ("old and long", "new"):
        write_atomically(tmp_path / "file", content)
    assert (tmp_path / "file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_keeps_the_old_content_and_leaves_no_part(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match=r"cannot write .*file: No space left on device\. The earlier content is kept"):
        write_atomically(tmp_path / "file", "new")
    assert (tmp_path / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_interruption_keeps_the_old_content_and_leaves_no_part(tmp_path, monkeypatch):
    write_atomically(tmp_path / "file", "old")

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", "new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "old"}


def test_a_file_in_place_of_a_folder_is_named(tmp_path):
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(RunError, match=r"cannot write .*taken.inside"):
        write_atomically(tmp_path / "taken" / "inside", "new")
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_reader_finds_the_old_content_or_the_new_however_the_writer_is_killed(tmp_path):
    path = tmp_path / "file"
    write_atomically(path, "0" * 500_000)
    program = (
        "import sys, pathlib\n"
        "from imbsam.storage.files import write_atomically\n"
        "print(flush=True)\n"
        "for n in range(10**9):\n"
        "    write_atomically(pathlib.Path(sys.argv[1]), str(n % 10) * 500_000)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    with writer, writer.stdout:
        writer.stdout.readline()
        seen = set()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            content = path.read_text()
            assert len(content) == 500_000
            seen.add(content[0])
            assert set(content) == {content[0]}
        writer.send_signal(signal.SIGKILL)
    content = path.read_text()
    assert (len(content), len(set(content))) == (500_000, 1)
    assert len(seen) > 1


def test_json_comes_back_as_it_was_written(tmp_path):
    content = {"a": [1, 2.5, None, True], "ß": {"b": "c"}, "tiny": 1e-300, "third": 1 / 3}
    write_json(tmp_path / "a.json", content)
    assert read_json(tmp_path / "a.json") == content
    assert json.loads((tmp_path / "a.json").read_text()) == content


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "is missing"),
        (b"", "cannot read"),
        (b'{"a": 1', "cannot read"),
        (b"\xff\xfe", "cannot read"),
        (b"[1]", "is damaged: a JSON object was expected"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, content, told):
    path = tmp_path / "result.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=told) as caught:
        read_json(path)
    assert str(path) in str(caught.value)
