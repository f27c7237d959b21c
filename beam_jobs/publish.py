"""A records folder appears whole or not at all, on any of Beam's file systems.

Shards are written into a staging folder beside the output. Only when all of them are there are
they moved, and ``dataset.json``, without which no reader takes a folder for records, comes last.
Object stores move file by file, so there is no single rename that could do it all.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

from keras_lstsr.errors import ConfigError, MissingExtraError
from keras_lstsr.files import trouble_within
from keras_lstsr.records.schema import (
    DATASET_FILE,
    DEAD_LETTER_FILE,
    REJECTED_FILE,
    SHARD_GLOB,
    SPLITS,
    DatasetMetadata,
    DeadLetter,
)
from keras_lstsr.records.summary import ShardReport

# File systems beyond this machine, and the extra of Apache Beam that each needs.
_EXTRAS = {"gs": "gcp", "s3": "aws", "azfs": "azure"}
_MOST_REACH_SECONDS = 10.0

COUNTERS = "keras_lstsr"
"""Namespace of the jobs' metrics."""


def is_local(path: str) -> bool:
    """Tells whether a path lies on a local file system."""
    return FileSystems.get_scheme(path) is None


def staging_folder(output: str) -> str:
    """Returns a new name beside the output for what is not yet complete."""
    return f"{output.rstrip('/')}.incomplete-{uuid.uuid4().hex[:12]}"


def find(pattern: str) -> list[str]:
    """Lists the files that match a pattern; none if the folder does not exist."""
    (found,) = FileSystems.match([pattern])
    return sorted(entry.path for entry in found.metadata_list)


def check_output(output: str, *, overwrite: bool) -> None:
    """Checks before the work that the output may be written.

    Raises:
        ConfigError: If it holds records and ``overwrite`` is not set, or anything else at all.
    """
    present = {path.replace("\\", "/").rsplit("/", 1)[-1] for path in _content(output)}
    ours = {name.rsplit("/", 1)[-1] for name in _our_files(output)}
    if foreign := sorted(present - ours):
        raise ConfigError(
            "the output folder holds other files",
            path=output,
            field="output",
            found=", ".join(foreign[:5]),
            action="Give a new or empty folder.",
        )
    if DATASET_FILE in present and not overwrite:
        raise ConfigError(
            "the output folder holds records already",
            path=output,
            field="output",
            action="Give another folder, or --overwrite to replace them.",
        )


def check_file_system(path: str, option: str) -> None:
    """Asks the file system of a path, before anything is computed, whether it is there.

    Raises:
        MissingExtraError: If Beam lacks what this file system needs.
        ConfigError: If there is no such file system, or it does not answer within 10 s, or refuses.
    """
    if is_local(path):
        return
    scheme = str(FileSystems.get_scheme(path))
    extra = _EXTRAS.get(scheme)
    lacking: Exception | None = None
    problem: str | None = None
    try:
        FileSystems.get_filesystem(path)
        problem = trouble_within(_MOST_REACH_SECONDS, lambda: FileSystems.exists(path))
    except ValueError as error:
        lacking = error
        if extra is None:
            raise ConfigError(
                "no such file system",
                path=path,
                field=option,
                found=f"{scheme}://",
                expected=", ".join(f"{name}://" for name in _EXTRAS) + ", or a local folder",
            ) from error
    # Beam knows s3 without the library that it needs for it.
    if lacking is not None or (scheme == "s3" and problem and find_spec("boto3") is None):
        raise MissingExtraError(
            f"{scheme}:// needs more of Apache Beam",
            path=path,
            field=option,
            action=f"Install it with pip install 'apache-beam[{extra}]'.",
        ) from lacking
    if problem is not None:
        raise ConfigError(
            "the file system cannot be used",
            path=path,
            field=option,
            found=problem,
            action="Check the name of the bucket, your credentials and the network.",
        )


def _content(output: str) -> list[str]:
    if is_local(output):
        folder = Path(output)
        if folder.exists() and not folder.is_dir():
            raise ConfigError("the output is a file", path=output, expected="a folder")
        return [str(path) for path in folder.iterdir()] if folder.is_dir() else []
    return find(FileSystems.join(output, "*"))


def _our_files(output: str) -> list[str]:
    names = [DATASET_FILE, DEAD_LETTER_FILE, REJECTED_FILE]
    names += [SHARD_GLOB.format(split=split) for split in SPLITS]
    return [path for name in names for path in find(FileSystems.join(output, name))]


def write_text(path: str, text: str) -> None:
    """Writes a small UTF-8 file."""
    with FileSystems.create(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
        stream.write(text.encode())


def publish(
    staging: str,
    output: str,
    metadata: DatasetMetadata,
    shards: Sequence[ShardReport],
    dead_letters: Sequence[DeadLetter],
) -> None:
    """Moves a complete records folder to its place; may be repeated after a failure halfway.

    A job without a single record leaves the output as it was, but for ``rejected.json``, which
    says why.
    """
    dead = [letter.model_dump() for letter in dead_letters]
    if not sum(metadata.counts.values()):
        content = {**metadata.model_dump(mode="json"), "dead_letters": dead}
        staged = FileSystems.join(staging, REJECTED_FILE)
        write_text(staged, json.dumps(content, indent=1, sort_keys=True) + "\n")
        ensure_folder(output)
        _move([(staged, FileSystems.join(output, REJECTED_FILE))])
        return
    ensure_folder(output)
    final = {shard.written: FileSystems.join(output, shard.info.file) for shard in shards}
    if any(FileSystems.exists(path) for path in final):
        # First of all, the old dataset.json: from here on the folder is no records folder.
        old = _our_files(output)
        first = [path for path in old if path.endswith(DATASET_FILE)]
        for group in (first, [path for path in old if path not in first]):
            moved = [] if group is first else _already_moved(final)
            stale = [path for path in group if path not in moved]
            if stale:
                FileSystems.delete(stale)
    _move(list(final.items()))
    for name, text in (
        (DEAD_LETTER_FILE, json.dumps(dead, indent=1, sort_keys=True) + "\n"),
        (DATASET_FILE, metadata.to_json()),
    ):
        staged = FileSystems.join(staging, name)
        write_text(staged, text)
        _move([(staged, FileSystems.join(output, name))])


def _already_moved(final: dict[str, str]) -> set[str]:
    """Names the shards that an earlier attempt at publishing the same job has moved."""
    return {target for source, target in final.items() if not FileSystems.exists(source)}


def ensure_folder(path: str) -> None:
    """Creates a folder and its parents where they are not there."""
    if is_local(path):
        Path(path).mkdir(parents=True, exist_ok=True)
    elif not FileSystems.exists(path):
        FileSystems.mkdirs(path)


def _move(pairs: Sequence[tuple[str, str]]) -> None:
    pending = [(source, target) for source, target in pairs if FileSystems.exists(source)]
    sources = [source for source, _ in pending]
    FileSystems.rename(sources, [target for _, target in pending])


def remove_staging(staging: str) -> None:
    """Removes the staging folder with what is left in it."""
    if is_local(staging):
        shutil.rmtree(staging, ignore_errors=True)
        return
    if left := find(FileSystems.join(staging, "*")):
        FileSystems.delete(left)
