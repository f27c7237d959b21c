from __future__ import annotations

import hashlib

import pytest

from keras_lstsr.errors import LstsrError
from keras_lstsr.files import sha256_of, write_text_whole, written_whole


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_file_leaves_the_old_one_and_nothing_else(tmp_path, error):
    path = tmp_path / "lst.tif"
    path.write_bytes(b"old")

    def write():
        with written_whole(path) as partial:
            partial.write_bytes(b"ha")
            assert path.read_bytes() == b"old"
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_whole_file_takes_the_place_and_folders_on_the_way_are_made(tmp_path):
    path = tmp_path / "deep" / "down" / "lst.tif"
    for content in (b"first", b"second"):
        with written_whole(path) as partial:
            assert partial.name == path.name
            partial.write_bytes(content)
        assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]


def test_a_folder_appears_with_all_it_holds(tmp_path):
    path = tmp_path / "run"
    path.mkdir()  # an empty folder, made by the user
    with written_whole(path) as partial:
        partial.mkdir()
        (partial / "a").write_text("a")
        assert list(path.iterdir()) == []
    assert [file.name for file in path.iterdir()] == ["a"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_holds_something_is_not_replaced(tmp_path):
    path = tmp_path / "run"
    path.mkdir()
    (path / "theirs").touch()
    with pytest.raises(OSError), written_whole(path) as partial:
        partial.mkdir()
    assert [file.name for file in path.iterdir()] == ["theirs"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with (
        pytest.raises(LstsrError, match="cannot be written"),
        written_whole(tmp_path / "file" / "lst.tif"),
    ):
        pass


def test_failed_write_leaves_the_old_text(tmp_path):
    path = tmp_path / "run.json"
    write_text_whole(path, "old\r\n")
    with pytest.raises(UnicodeEncodeError):
        write_text_whole(path, "\ud800")
    assert path.read_bytes() == b"old\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_the_checksum_is_that_of_the_content(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3_000_000)
    assert sha256_of(path) == hashlib.sha256(b"x" * 3_000_000).hexdigest()
