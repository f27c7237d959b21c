"""Records read in NumPy: samples one by one, or a split as a task sees it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import chain, islice
from os import PathLike
from pathlib import Path

from keras_lstsr.config.guides import guide_named
from keras_lstsr.errors import RecordsError
from keras_lstsr.records.arrays import Rasters, task_view
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.checking import checked_samples, checked_shards
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import (
    SPLITS,
    DatasetMetadata,
    Split,
    load_metadata,
    require_truth,
)
from keras_lstsr.records.store import stored

# Shards read at a time; the order of records depends on it, so it is fixed.
SHARDS_AT_A_TIME = 8


def split_files(
    records_dir: str | PathLike[str], split: str, metadata: DatasetMetadata | None = None
) -> list[Path]:
    """Lists the shards of a split, in order.

    Raises:
        RecordsError: If the split is unknown or empty, or a shard is missing or changed.
    """
    folder = Path(records_dir)
    metadata = load_metadata(folder) if metadata is None else metadata
    if split not in SPLITS:
        raise RecordsError(
            "unknown split", path=folder, found=repr(split), expected=", ".join(SPLITS)
        )
    known: Split = split
    if not metadata.counts[known]:
        raise RecordsError(
            f"the split {split} is empty",
            path=folder,
            found=", ".join(f"{name} {count}" for name, count in metadata.counts.items()),
            action="Prepare the records again with another --split_seed, other --split_fractions, "
            "a smaller --patch_size or more data.",
        )
    return checked_shards(folder, known, metadata)


def iterate_samples(
    records_dir: str | PathLike[str], split: str, limit: int | None = None
) -> Iterator[Sample]:
    """Yields the samples of a split, at most ``limit``, with all they know of themselves, in NumPy.

    Raises:
        RecordsError: If the folder, the split or a shard is missing, empty or damaged.
    """
    metadata = load_metadata(records_dir)
    files = split_files(records_dir, split, metadata)
    yield from islice(chain.from_iterable(samples_by_shard(files, split, metadata)), limit)


def samples_by_shard(
    files: list[Path], split: str, metadata: DatasetMetadata
) -> list[Iterator[Sample]]:
    """Returns for each shard of a split what yields its samples, checked."""
    known = SPLITS[SPLITS.index(split)]  # split_files checked it
    shards = metadata.shards[known]
    return [
        checked_samples(path, shard, known, metadata)
        for path, shard in zip(files, shards, strict=True)
    ]


def check_split(
    records_dir: str | PathLike[str], split: str, settings: BatchSettings, *, full_batches: bool
) -> tuple[DatasetMetadata, list[Path]]:
    """Checks that a split can give batches, full ones if need be; returns metadata and shards.

    Raises:
        RecordsError: See ``make_dataset``.
    """
    folder = Path(records_dir)
    metadata = load_metadata(folder)
    files = split_files(folder, split, metadata)
    held = {*metadata.guides, *settings.optional_guides}
    absent = [name for name in settings.guides if name not in held]
    if absent:
        raise RecordsError(
            f"the records lack {guide_named(absent[0]).long_name}, which the model or loss needs",
            path=folder,
            field="guides",
            found=", ".join(metadata.guides) or "none",
            expected=", ".join(settings.guides),
            action=f"Prepare the records again with --guide {absent[0]}=GLOB.",
        )
    if settings.fine_truth:
        require_truth(metadata, folder, "the loss needs")
    count = metadata.counts[split]  # type: ignore[index]  # split_files checked it
    if full_batches and count < settings.batch_size:
        raise RecordsError(
            f"the split {split} has fewer samples than one batch",
            path=folder,
            found=f"{count} samples",
            expected=f"at least batch_size = {settings.batch_size}",
            action="Set a smaller training.batch_size, or prepare more records.",
        )
    return metadata, files


def decoded_split(
    folder: Path, split: str, files: list[Path], count: int, settings: BatchSettings
) -> list[Rasters]:
    """Decodes the so many samples of a split's shards, in the order in which tf.data reads them.

    Of a task of two steps each sample is there twice, as either step sees it.

    Raises:
        RecordsError: If a shard is damaged, samples are lost, or there is no room for them.
    """
    checked = _interleave(samples_by_shard(files, split, load_metadata(folder)))
    steps = settings.steps
    views = (task_view(sample, step) for sample in checked for step in steps)
    samples = stored(views, in_memory=settings.cache)
    held = len(samples) // len(steps)
    RecordsError.unless(held == count, f"counts.{split}", held, count, "samples are lost")
    return samples


def _interleave(shards: list[Iterator[Sample]]) -> Iterator[Sample]:
    """Takes a sample of each open shard in turn, in the order of tf.data's ``interleave``."""
    waiting = deque(shards)
    slots: list[Iterator[Sample] | None] = [None] * min(SHARDS_AT_A_TIME, len(shards))
    while waiting or any(slots):
        for number, shard in enumerate(slots):
            if shard is None and waiting:
                shard = waiting.popleft()
            record = None if shard is None else next(shard, None)
            slots[number] = None if record is None else shard
            if record is not None:
                yield record


def input_side(metadata: DatasetMetadata, settings: BatchSettings) -> int:
    """Returns the input pixels along the side of a whole sample, filled up."""
    factor = metadata.scale_factor
    return (
        -(-metadata.patch_size // factor) if settings.task == "4km_to_1km" else metadata.patch_size
    )
