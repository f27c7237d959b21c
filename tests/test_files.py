from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time

import pytest

from keras_lstsr.errors import LstsrError
from keras_lstsr.files import (
    check_outputs,
    check_room,
    locked,
    sha256_of,
    write_text_whole,
    written_whole,
)


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


def test_a_full_disk_is_one_error_and_leaves_nothing(tmp_path):
    code = (
        "import resource, sys; from keras_lstsr.files import *; from pathlib import Path\n"
        "from keras_lstsr.errors import LstsrError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "for write in (lambda: write_text_whole(sys.argv[1] + '/a.txt', 'x' * 5000),\n"
        "              lambda: check_room(sys.argv[1], 5000)):\n"
        "    try: write()\n"
        "    except LstsrError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("the result cannot be written; found File too large") == 2
    assert list(tmp_path.iterdir()) == []
    check_room(tmp_path, 5000)


def test_what_a_killed_run_left_is_removed_by_the_next_and_a_live_one_s_is_not(tmp_path):
    code = (
        "import sys, time; from keras_lstsr.files import written_whole\n"
        "with written_whole(sys.argv[1]) as path:\n"
        "    path.write_text('half'); print('ready', flush=True); time.sleep(60)\n"
    )
    path = tmp_path / "lst.tif"
    other = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline() == "ready\n"
        (hidden,) = tmp_path.iterdir()
        os.utime(hidden, (time.time() - 60,) * 2)
        write_text_whole(path, "whole")
        assert hidden.exists()
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
        other.stdout.close()
    write_text_whole(path, "whole")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_locked_for_others_as_long_as_it_is_worked_in(tmp_path):
    with locked(tmp_path / "run"):
        message = rf"another run.*process {os.getpid()}"
        with pytest.raises(LstsrError, match=message), locked(tmp_path / "run"):
            pass
        with locked(tmp_path / "other"):
            pass
    with locked(tmp_path / "run"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_outputs_are_checked_against_each_other_and_the_inputs(tmp_path):
    (tmp_path / "lst.tif").write_bytes(b"")
    (tmp_path / "link.tif").symlink_to(tmp_path / "lst.tif")
    check_outputs([tmp_path / "new" / "a.tif"], [tmp_path / "lst.tif"], endings=(".tif",))
    for outputs, problem in (
        ([tmp_path / "link.tif"], "replace the input"),
        ([tmp_path / "a.tif", tmp_path / "." / "a.tif"], "written to one file"),
        ([tmp_path], "is a folder"),
        ([tmp_path / "lst.tif" / "a.tif"], "cannot be written"),
        (["/proc/a.tif"], "cannot be written"),
    ):
        with pytest.raises(LstsrError, match=problem):
            check_outputs(outputs, [tmp_path / "lst.tif"])
