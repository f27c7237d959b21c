"""Files and folders that are there whole or not at all, and what identifies their content."""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keras_lstsr.errors import LstsrError

if TYPE_CHECKING:
    from pydantic import BaseModel

# The metadata of a very large records folder take some 100 MB.
_MOST_JSON_BYTES, _MOST_YAML_BYTES = 2**28, 2**22
_MOST_YAML_DEPTH = 64
_PARTIAL_MARK = ".partial-"
_FRESH_SECONDS = 2.0
_DISK_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.EACCES,
    errno.EPERM,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.ETIMEDOUT,
}
"""A disk that is full, read-only or gone."""
_Document = TypeVar("_Document", bound="BaseModel")


@contextmanager
def written_whole(path: str | PathLike[str]) -> Iterator[Path]:
    """Lends a path to write to; only when the block ends well does the file get its name.

    The path may become a file or a folder. It lies in a hidden folder beside its place, whose name
    begins with ``.NAME.partial-``, and is renamed. If the block raises, the hidden folder is
    removed; if the process is killed, it stays until the next run of the same name removes it, but
    the name itself never stands for half a file. Folders on the way are made.

    Args:
        path: The place. A file there is replaced; a folder only if it is empty.

    Yields:
        The path to write to; nothing is there yet.

    Raises:
        LstsrError: If the folder cannot be written to, or the disk is full, read-only or gone.
        OSError: If a folder is to be put where there is something already.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        hidden = Path(tempfile.mkdtemp(prefix=f".{path.name}{_PARTIAL_MARK}", dir=path.parent))
    except OSError as error:
        raise unwritable(path, error) from error
    held = _held(hidden)
    try:
        partial = hidden / path.name
        try:
            yield partial
        except OSError as error:
            # Of other errors than these the block knows more than its place does.
            if error.errno in _DISK_ERRORS:
                raise unwritable(path, error) from error
            raise
        partial.replace(path)
    finally:
        # The name stands for the whole file already, or the block's own error is what to tell.
        shutil.rmtree(hidden, ignore_errors=True)
        if held is not None:
            os.close(held)


def _held(folder: Path) -> int | None:
    """Locks a folder for as long as this process lives; None where the system cannot."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        os.close(number)
        return None
    return number


def _remove_leftovers(path: Path) -> None:
    """Removes what runs that were killed left of a file: their locks ended with them."""
    for folder in path.parent.glob(f".{glob.escape(path.name)}{_PARTIAL_MARK}*"):
        # A run that has just made its folder may not have locked it yet.
        if time.time() - folder.stat().st_mtime < _FRESH_SECONDS:
            continue
        held = _held(folder)
        if held is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(held)


@contextmanager
def locked(folder: str | PathLike[str]) -> Iterator[None]:
    """Keeps others from working in a folder meanwhile; the lock ends with the process.

    The lock is a file ``.NAME.lock`` beside the folder, removed at the end.

    Raises:
        LstsrError: If another process has it, or the file cannot be written.
    """
    folder = Path(folder).absolute()
    path = folder.parent / f".{folder.name}.lock"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _lock(number, folder)
        os.truncate(number, 0)
        os.pwrite(number, str(os.getpid()).encode(), 0)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(number)


def _lock(number: int, folder: Path) -> None:
    try:
        import fcntl
    except ImportError:
        return  # Windows has no such lock: there, two runs are the user's to avoid
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LstsrError(
            "another run works in this folder",
            path=folder,
            found=f"process {os.pread(number, 32, 0).decode(errors='replace') or 'unknown'}",
            action="Wait for its end, stop it, or choose another output.",
        ) from error


def check_outputs(
    outputs: Iterable[str | PathLike[str]],
    inputs: Iterable[str | PathLike[str]] = (),
    *,
    endings: Sequence[str] = (),
) -> None:
    """Checks before the work that all its results can be written, and replace nothing they need.

    Args:
        outputs: All files that will be written.
        inputs: All files and folders that are read.
        endings: What the first output's name must end in, one of them; in lower case.

    Raises:
        LstsrError: If two outputs are one file, one is an input or a folder, the first has another
            ending, or a folder cannot be written to.
    """
    files = [Path(path) for path in outputs]
    if endings and files[0].suffix.lower() not in endings:
        raise LstsrError(
            "the output's name has another ending than its format",
            path=files[0],
            found=files[0].suffix or "no ending",
            expected=" or ".join(endings),
            action=f"Choose another output, e.g. {files[0].with_suffix(endings[0]).name}.",
        )
    read = [Path(path) for path in inputs]
    for number, path in enumerate(files):
        if any(_same(path, other) for other in read):
            raise LstsrError(
                "the output would replace the input", path=path, action="Choose another output."
            )
        if any(_same(path, other) for other in files[:number]):
            raise LstsrError(
                "two results would be written to one file",
                path=path,
                action="Choose another output.",
            )
        if path.is_dir():
            raise LstsrError(
                "the output is a folder",
                path=path,
                expected="a file's name",
                action="Choose another output.",
            )
        check_writable(path.parent)


def check_writable(folder: str | PathLike[str]) -> None:
    """Checks that a folder, or the nearest one above it that is there, can be written to.

    Raises:
        LstsrError: If it cannot.
    """
    there = Path(folder).absolute()
    while not there.exists() and there != there.parent:
        there = there.parent
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise unwritable(folder, error) from error


def check_room(folder: str | PathLike[str], size: int) -> None:
    """Takes so many bytes on a folder's disk and gives them back, before another library writes.

    HDF5 ends the process when the disk is full.

    Raises:
        LstsrError: If they are not there.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise unwritable(folder, error) from error


def disk_error(error: OSError) -> LstsrError | None:
    """Returns the error of a disk that is full, read-only or gone; None for another one."""
    if error.errno not in _DISK_ERRORS:
        return None
    return unwritable(error.filename or "output", error)


def _same(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return path.resolve() == other.resolve()


def unwritable(path: str | PathLike[str], error: OSError) -> LstsrError:
    """Returns the error of a result that the disk does not take."""
    return LstsrError(
        "the result cannot be written",
        path=path,
        found=error.strerror or error,
        expected="a folder that may be written to, with room on its disk",
        action="Choose another output, or make room.",
    )


def write_text_whole(path: str | PathLike[str], text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all; line ends stay as they are.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    with written_whole(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="")


def read_mapping(
    path: Path, kind: type[LstsrError], *, action: str | None = None
) -> dict[str, Any]:
    """Reads names and values from a JSON file, or from a YAML file, which may hold nothing.

    Args:
        path: The file; ``.json`` in its name says what it is.
        kind: Kind of the errors.
        action: What the errors tell to do.

    Raises:
        LstsrError: Of that kind, if the file cannot be read or holds something else.
    """
    import yaml

    language = "JSON" if path.suffix == ".json" else "YAML"
    try:
        most = _MOST_JSON_BYTES if language == "JSON" else _MOST_YAML_BYTES
        text = file_bytes(path, most).decode("utf-8")
        content = json.loads(text) if language == "JSON" else _yaml_content(text)
    except (OSError, ValueError, yaml.YAMLError, RecursionError) as error:
        found = getattr(error, "strerror", None) or error
        if isinstance(error, RecursionError):
            found = "values too deep in each other"
        problem = f"the file cannot be read as {language}"
        raise kind(problem, path=path, found=found, action=action) from error
    if content is None and language == "YAML":
        return {}
    if not isinstance(content, dict):
        problem, found = "the file holds no values by name", type(content).__name__
        raise kind(problem, path=path, found=found, expected="a mapping", action=action)
    return content


def file_bytes(path: Path, most_bytes: int) -> bytes:
    """Reads a small file, but nothing that never ends: no pipe, no device, nothing huge.

    Raises:
        ValueError: If it is no regular file, or larger.
        OSError: If it cannot be read.
    """
    if path.exists() and not path.is_file():
        raise ValueError("no regular file")
    with path.open("rb") as stream:
        content = stream.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"more than {most_bytes} bytes")
    return content


def _yaml_content(text: str) -> Any:
    """Reads YAML without aliases: a few lines of them stand for more than a memory holds."""
    import yaml

    depth = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"the alias *{event.anchor}: write the value out")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        # PyYAML takes time with the square of the depth.
        if depth > _MOST_YAML_DEPTH:
            raise ValueError("values too deep in each other")
    return yaml.safe_load(text)


def trouble_within(seconds: float, look: Callable[[], object]) -> str | None:
    """Tells what is wrong with a place that may not answer: a server, a bucket.

    Args:
        seconds: How long to wait for it.
        look: Asks the place something; what it raises is the trouble. It runs in a thread, which
            is left behind if it takes longer.

    Returns:
        The trouble in one line; None if ``look`` came back in time.
    """
    found: list[str | None] = [f"no answer within {seconds:g} s"]

    def looking() -> None:
        try:
            look()
            found.append(None)
        # Each library of stores and buckets has errors of its own.
        except Exception as error:
            lines = str(error).strip().splitlines()
            found.append(f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__)

    thread = threading.Thread(target=looking, name="lstsr-looking", daemon=True)
    thread.start()
    thread.join(seconds)
    return found[-1]


def validated(
    document: type[_Document],
    content: dict[str, Any] | str | bytes,
    kind: type[LstsrError],
    *,
    path: str | PathLike[str] | None = None,
    action: str | None = None,
) -> _Document:
    """Makes a document of its content, or of its text in JSON.

    Args:
        document: What to make.
        content: The content, or the text.
        kind: Kind of the error.
        path: Named in the error.
        action: What the error tells to do.

    Raises:
        LstsrError: Of that kind, if the content is not valid; the message names the first field.
    """
    from pydantic import ValidationError

    try:
        if isinstance(content, dict):
            return document.model_validate(content)
        return document.model_validate_json(content)
    except RecursionError as error:
        problem = f"the {document.__name__} is damaged: values too deep in each other"
        raise kind(problem, path=path, action=action) from error
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"the {document.__name__} is damaged: {first['msg']}"
        field = ".".join(map(str, first["loc"])) or None
        raise kind(problem, path=path, field=field, action=action) from error


def sha256_of(path: str | PathLike[str]) -> str:
    """Returns the SHA-256 of a local file, in hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
