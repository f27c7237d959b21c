"""Files and folders that are there whole or not at all, and what identifies their content."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from keras_lstsr.errors import LstsrError

if TYPE_CHECKING:
    from pydantic import BaseModel

_PARTIAL_MARK = ".partial-"
_Document = TypeVar("_Document", bound="BaseModel")


@contextmanager
def written_whole(path: str | PathLike[str]) -> Iterator[Path]:
    """Lends a path to write to; only when the block ends well does the file get its name.

    The path may become a file or a folder. It lies in a hidden folder beside its place, whose name
    begins with ``.NAME.partial-``, and is renamed. If the block raises, the hidden folder is
    removed; if the process is killed, it stays and may be deleted, but the name itself never stands
    for half a file. Folders on the way are made.

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
        # The name stands for the whole file already, or the block's own error is what to tell.
        shutil.rmtree(hidden, ignore_errors=True)


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
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if language == "JSON" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        found = getattr(error, "strerror", None) or error
        problem = f"the file cannot be read as {language}"
        raise kind(problem, path=path, found=found, action=action) from error
    if content is None and language == "YAML":
        return {}
    if not isinstance(content, dict):
        problem, found = "the file holds no values by name", type(content).__name__
        raise kind(problem, path=path, found=found, expected="a mapping", action=action)
    return content


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
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"the {document.__name__} is damaged: {first['msg']}"
        field = ".".join(map(str, first["loc"])) or None
        raise kind(problem, path=path, field=field, action=action) from error


def sha256_of(path: str | PathLike[str]) -> str:
    """Returns the SHA-256 of a local file, in hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
