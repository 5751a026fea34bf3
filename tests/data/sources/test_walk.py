import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imbsam.data.sources.walk import Walk, beside, by_ending, is_image, visible
from imbsam.errors import DataError


def found(root, folder=None, **options):
    walk = Walk(root)
    return [walk.name(path) for path in walk.images(folder or root, **options)], walk


def test_images_come_in_the_order_of_their_sorted_paths(tmp_path, save_image):
    for name in ("b/1.png", "a-1.png", "a/2.png", "a/10.png", "c.png"):
        save_image(tmp_path / name)
    names, _ = found(tmp_path)
    assert names == ["a/10.png", "a/2.png", "a-1.png", "b/1.png", "c.png"]
    assert found(tmp_path, deeper=False)[0] == ["a-1.png", "c.png"]


def test_links_to_folders_and_files_are_followed(tmp_path, save_image):
    save_image(tmp_path / "store" / "deep" / "1.png")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("../store")
    (root / "one.png").symlink_to("../store/deep/1.png")
    names, walk = found(root)
    assert names == ["link/deep/1.png", "one.png"]
    assert walk.notes() == ()


@pytest.mark.parametrize("target", [".", "..", "../..", "/"])
def test_a_link_to_a_folder_around_it_is_not_followed_but_named(tmp_path, save_image, target):
    save_image(tmp_path / "root" / "a" / "1.png")
    (tmp_path / "root" / "a" / "up").symlink_to(target)
    names, walk = found(tmp_path / "root")
    assert names == ["a/1.png"]
    assert walk.notes() == ("links that lead back to a folder around them were not followed: a/up.",)


def test_a_circle_by_way_of_another_folder_ends(tmp_path, save_image):
    for name, other in ("ab", "ba"):
        save_image(tmp_path / name / "1.png")
        (tmp_path / name / "link").symlink_to(f"../{other}")
    names, walk = found(tmp_path, tmp_path / "a")
    assert names == ["a/1.png", "a/link/1.png"]
    assert any("not followed: a/link/link" in note for note in walk.notes())


def test_a_folder_that_is_reached_twice_is_named_by_both_names(tmp_path, save_image):
    save_image(tmp_path / "cat" / "deep" / "1.png")
    (tmp_path / "feline").symlink_to("cat")
    names, walk = found(tmp_path)
    assert names == ["cat/deep/1.png"]
    assert walk.notes() == ("a folder that occurs twice was read once: feline is cat.",)
    walk = Walk(tmp_path)
    assert [len(list(walk.images(tmp_path / name))) for name in ("cat", "feline")] == [1, 1]
    assert walk.notes() == ("the same folder was read again under another name: feline is cat.",)


def test_folders_that_are_all_linked_with_each_other_are_gone_through_once(tmp_path, save_image):
    for number in range(20):
        save_image(tmp_path / str(number) / "a.png")
        for other in range(20):
            (tmp_path / str(number) / f"to{other}").symlink_to(f"../{other}")
    names, _ = found(tmp_path)
    assert len(names) == 20


def test_a_link_that_leads_nowhere_is_named(tmp_path, save_image):
    save_image(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "gone").symlink_to("nowhere")
    (tmp_path / "a" / "itself").symlink_to("itself")
    (tmp_path / "a" / "gone.png").symlink_to("nowhere.png")
    names, walk = found(tmp_path)
    assert names == ["a/1.png", "a/gone.png"]
    assert walk.notes() == ("links that lead nowhere were left out: a/gone, a/itself.",)
    with pytest.raises(DataError, match=r"a/gone: this link leads nowhere"):
        walk.folders(tmp_path / "a")


@given(
    parents=st.lists(st.integers(0, 100), max_size=5),
    files=st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["a.png", "b.jfif", "c.txt", "d"])), max_size=8),
    links=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=4),
)
def test_every_file_is_found_or_named_and_every_walk_ends(parents, files, links):
    with TemporaryDirectory() as place:
        root = Path(place).resolve()
        folders = [root]
        for number, parent in enumerate(parents):
            folders.append(folders[parent % len(folders)] / f"f{number}")
            folders[-1].mkdir()
        for folder, name in files:
            (folders[folder % len(folders)] / name).write_text("nothing")
        ways = [folders[at % len(folders)] / f"l{number}" for number, (at, _) in enumerate(links)]
        for way, (_, to) in zip(ways, links, strict=True):
            way.symlink_to(folders[to % len(folders)])
        for start in folders:
            walk = Walk(start)
            met = [path.resolve() for path in (*walk.images(start), *walk.others)]
            own = {path for path in start.rglob("*") if path.is_file() and path == path.resolve()}
            assert own <= set(met)
            assert len(met) == len(set(met))
            circles = [way for way in ways if way.parent.is_relative_to(start) and start.is_relative_to(way.resolve())]
            assert {*circles} <= {path.parent.resolve() / path.name for path in walk.circles}


def test_hidden_files_are_passed_over(tmp_path, save_image):
    for name in (".cache/1.png", "__MACOSX/2.png", "a/3.png", "a/._3.png"):
        save_image(tmp_path / name)
    (tmp_path / "a" / ".DS_Store").write_bytes(b"\0")
    names, walk = found(tmp_path)
    assert names == ["a/3.png"]
    assert walk.notes() == ()


@pytest.mark.parametrize("ending", [".jfif", ".JPG", ".avif", ".jp2", ".ico", ".tga", ".webp", ".HEIC"])
def test_an_image_is_known_by_any_ending_that_is_read(tmp_path, ending):
    if ending == ".avif" and "AVIF" not in Image.OPEN:
        pytest.skip("this Pillow reads no AVIF")
    (tmp_path / f"a{ending}").write_bytes(b"")
    assert found(tmp_path)[0] == [f"a{ending}"]


def test_an_image_without_an_images_ending_is_known_by_what_it_holds(tmp_path, save_image):
    for name in ("plain", "kept.bak", "v1.2"):
        save_image(tmp_path / "a.png").rename(tmp_path / name)
    (tmp_path / "notes.txt").write_text("BMW and P3 are words, GIF is one too")
    names, walk = found(tmp_path)
    assert names == ["kept.bak", "plain", "v1.2"]
    assert walk.notes() == (
        "files that are not images were not read: 1 .txt (first notes.txt).",
        "files without an image's ending were read by their content: "
        "1 .bak, 1 without an ending, 1 .2 (first kept.bak).",
    )
    assert [is_image(path) for path in visible(tmp_path)] == [True, False, True, True]


def test_what_is_no_file_is_named_and_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    os.mkfifo(tmp_path / "pipe.png")
    names, walk = found(tmp_path)
    assert names == []
    assert walk.others == [tmp_path / "pipe", tmp_path / "pipe.png"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "a" / "locked").mkdir(parents=True)
    scan = os.scandir

    def refused(folder):
        if folder.name == "locked":
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DataError, match=r"a/locked: this folder cannot be read \(Permission denied\)"):
        found(tmp_path)


def test_names_may_be_any_bytes(tmp_path, save_image):
    folder = tmp_path / os.fsdecode(b"M\xfcller")
    folder.mkdir()
    save_image(tmp_path / "a.png").rename(folder / os.fsdecode(b"Stra\xdfe.png"))
    (folder / os.fsdecode(b"\xe4.txt")).write_text("x")
    names, walk = found(tmp_path)
    assert [os.fsencode(name) for name in names] == [b"M\xfcller/Stra\xdfe.png"]
    assert len(walk.notes()) == 1


def test_what_lies_beside_is_named(tmp_path, save_image):
    used = save_image(tmp_path / "a.png")
    assert beside(tmp_path, [used]) == ()
    (tmp_path / "docs").mkdir()
    (tmp_path / "b.zip").write_bytes(b"")
    assert beside(tmp_path, [used]) == (f"not read in {tmp_path}: b.zip, docs/.",)
    assert by_ending([tmp_path / name for name in ("a.txt", "b", "c.TXT")]) == "2 .txt, 1 without an ending"
