"""Files and folders that are there whole or not at all, and what identifies their content."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from keras_lstsr.errors import LstsrError

_PARTIAL_MARK = ".partial-"


@contextmanager
def written_whole(path: str | PathLike[str]) -> Iterator[Path]:
    """Lends a path to write to; only when the block ends well does the file get its name.

    The path may become a file or a folder. It lies in a hidden folder beside its place,
    ``.NAME.partial-XXXXXXXX``, and is renamed. If the block raises, the hidden folder goes; if the
    process is killed, it stays and may be deleted, but the name itself never stands for half a
    file. Folders on the way are made.

    Args:
        path: The place. A file there is replaced; a folder only if it is empty.

    Yields:
        The path to write to; nothing is there yet.

    Raises:
        LstsrError: If the folder cannot be written to.
        OSError: If a folder is to be put where there is something already.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        hidden = Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL_MARK}", dir=path.parent))
    except OSError as error:
        raise LstsrError(
            "the result cannot be written",
            path=path,
            found=error.strerror,
            expected="a folder that may be written to",
            action="Choose another output.",
        ) from error
    try:
        partial = hidden / path.name
        yield partial
        partial.replace(path)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def write_text_whole(path: str | PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; line ends stay as they are.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def sha256_of(path: str | PathLike[str]) -> str:
    """Returns the SHA-256 of a local file, in hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
