"""The check of a records folder when it is read, whoever made it: names, sizes, checksums, values.

Every reader, TensorFlow's or NumPy's, takes its files from :func:`checked_shards` and its samples
from :func:`checked_samples`.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.errors import LstsrError, RecordsError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.values import VALID_LST_KELVIN
from keras_lstsr.records.codec import decode_sample
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import DatasetMetadata, ShardInfo, Split
from keras_lstsr.records.tfrecord import read_shard

_COPY_AGAIN = "Copy the whole folder again, or prepare the records again."
# A whole MODIS tile with two guides and the truth takes about 150 MB.
_MOST_RECORD_BYTES = 512 * 2**20
_FEATURES_BYTES = 2**16

# What has been checked in this process, by what a change of the file would change.
_HASHED: dict[tuple[Any, ...], str] = {}
_DECODED: set[tuple[Any, ...]] = set()


def checked_shards(folder: Path, split: Split, metadata: DatasetMetadata) -> list[Path]:
    """Returns the shards of a split, in order, after comparing each with ``dataset.json``.

    A file that did not change is hashed once in a process; that takes about a second for a
    gigabyte.

    Raises:
        RecordsError: If one is missing, lies elsewhere, or has another SHA-256.
    """
    files = [folder / shard.file for shard in metadata.shards[split]]
    missing = [path.name for path in files if not path.is_file()]
    if missing:
        raise RecordsError(
            "shards are missing",
            path=folder,
            found=f"no {', '.join(missing[:3])}",
            expected=f"{len(files)} shards of split {split}",
            action=_COPY_AGAIN,
        )
    for path, shard in zip(files, metadata.shards[split], strict=True):
        if path.resolve().parent != folder.resolve():
            raise RecordsError(
                "the shard lies outside its folder",
                path=path,
                field="shards",
                found=f"a link to {path.resolve()}",
                action="Put the file itself into the folder.",
            )
        found = _sha256(path)
        RecordsError.unless(
            found == shard.sha256,
            "sha256",
            found,
            shard.sha256,
            "the shard is not the one that dataset.json tells of",
            path=path,
            action=_COPY_AGAIN,
        )
    return files


def _state(path: Path) -> tuple[Any, ...]:
    known = path.stat()
    RecordsError.unless(
        stat.S_ISREG(known.st_mode), "shards", "no regular file", "a file", path=path
    )
    return (str(path.resolve()), known.st_ino, known.st_size, known.st_mtime_ns, known.st_ctime_ns)


def _sha256(path: Path) -> str:
    try:
        state = _state(path)
        if state not in _HASHED:
            _HASHED[state] = sha256_of(path)
    except OSError as error:
        raise RecordsError("the shard cannot be read", path=path, found=error.strerror) from error
    return _HASHED[state]


def checked_samples(
    path: Path, shard: ShardInfo, split: Split, metadata: DatasetMetadata
) -> Iterator[Sample]:
    """Yields the samples of a shard, each after comparing it with ``dataset.json``.

    Raises:
        RecordsError: That names the file and the field, if a record is damaged or too large, has
            another shape, other guides or another split, or holds temperatures outside 150 to
            400 K; or if there are more or fewer records.
    """
    count = 0
    for count, record in enumerate(read_shard(path, most_bytes=_record_limit(metadata)), 1):
        try:
            sample = decode_sample(record)
            _check(sample, split, metadata)
        except LstsrError as error:
            where = f"record {count}: {error.field}" if error.field else f"record {count}"
            raise error.restated(path, where, RecordsError) from error
        yield sample
    RecordsError.unless(
        count == shard.records,
        "records",
        count,
        shard.records,
        "the shard is not complete",
        path=path,
        action=_COPY_AGAIN,
    )


def check_decoding(files: list[Path], split: Split, metadata: DatasetMetadata) -> None:
    """Reads shards through once in a process, before TensorFlow gets them.

    TensorFlow would report damage as errors of its own, and take a record of any size.

    Raises:
        RecordsError: As of ``checked_samples``.
    """
    for path, shard in zip(files, metadata.shards[split], strict=True):
        state = (_state(path), split, metadata.fingerprint, shard.records)
        if state not in _DECODED:
            for _ in checked_samples(path, shard, split, metadata):
                pass
            _DECODED.add(state)


def _record_limit(metadata: DatasetMetadata) -> int:
    fine = metadata.scale_factor**2 * (len(metadata.guides) + metadata.has_truth)
    pixels = metadata.patch_size**2 * (1 + fine)
    return min(_MOST_RECORD_BYTES, 4 * pixels + _FEATURES_BYTES)


def _check(sample: Sample, split: Split, metadata: DatasetMetadata) -> None:
    factor, least = metadata.scale_factor, 1
    problem = "the record does not fit dataset.json"
    RecordsError.unless(sample.split == split, "split", sample.split, split, problem)
    RecordsError.unless(
        sample.scale_factor == factor, "scale_factor", sample.scale_factor, factor, problem
    )
    sides = sample.lst_kelvin.shape
    RecordsError.unless(
        len(sides) == 2 and least <= min(sides) and max(sides) <= metadata.patch_size,
        "lst_kelvin/shape",
        list(sides),
        f"two sides of 1 to patch_size = {metadata.patch_size}",
        problem,
    )
    held, wanted = sorted(sample.guides), sorted(metadata.guides)
    RecordsError.unless(held == wanted, "guides", held, wanted, problem)
    has_truth = sample.truth_kelvin is not None
    RecordsError.unless(
        has_truth == metadata.has_truth, "truth_kelvin", has_truth, metadata.has_truth, problem
    )
    fine = {f"guide/{name}": values for name, values in sample.guides.items()}
    if sample.truth_kelvin is not None:
        fine["truth_kelvin"] = sample.truth_kelvin
    for name, values in fine.items():
        shape = tuple(side * factor for side in sides)
        RecordsError.unless(
            values.shape == shape, f"{name}/shape", list(values.shape), list(shape), problem
        )
        RecordsError.unless(
            not np.isinf(values).any(), name, "infinite values", "numbers, or NaN", problem
        )
    for name in ("lst_kelvin", "truth_kelvin"):
        values = getattr(sample, name)
        if values is None:
            continue
        low, high = VALID_LST_KELVIN
        outside = (values < low) | (values > high)
        if outside.any():
            raise RecordsError(
                "these values cannot be temperatures in kelvin",
                field=name,
                found=f"{np.count_nonzero(outside)} of {values.size} pixels outside, from "
                f"{np.nanmin(values):g} to {np.nanmax(values):g}",
                expected=f"{low:g} to {high:g}, NaN where missing",
                action="Prepare the records again with the right scale, unit and nodata.",
            )
