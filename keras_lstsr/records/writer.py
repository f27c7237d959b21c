"""Records packed into shards, and small records folders written without a Beam job."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_lstsr.errors import ConfigError
from keras_lstsr.files import written_whole
from keras_lstsr.records.codec import encode_sample
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import (
    DATASET_FILE,
    DEAD_LETTER_FILE,
    SPLITS,
    DatasetMetadata,
    SceneInfo,
    ShardInfo,
    SourceInfo,
    Split,
)
from keras_lstsr.records.summary import (
    SceneReport,
    ShardReport,
    dataset_metadata,
    records_digest,
)
from keras_lstsr.records.tfrecord import shard_bytes

RECORDS_PER_SHARD = 256


def shard_count(records: int, num_shards: int | None, records_per_shard: int) -> int:
    """Returns how many shards a split has: none for no records, never more than records."""
    wanted = num_shards if num_shards else -(-records // records_per_shard)
    return min(wanted, records)


def shard_of(key: str, shards: int) -> int:
    """Returns the shard of a record: by a hash of its key, so that every shard is a mixture."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % shards


def packed_shard(
    split: Split, number: int, shards: int, records: Iterable[tuple[str, bytes]]
) -> tuple[bytes, ShardReport]:
    """Packs records, by key, into a shard, sorted by a hash of the keys: always the same bytes.

    The hash mixes places and dates, which spares training a large shuffle buffer. Returns the
    file's content, and its report, not yet written.
    """
    ordered = sorted(
        records, key=lambda entry: (hashlib.sha256(entry[0].encode()).digest(), entry[0])
    )
    content = shard_bytes(record for _, record in ordered)
    info = ShardInfo(
        file=f"{split}-{number:05d}-of-{shards:05d}.tfrecord.gz",
        records=len(ordered),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    digest = records_digest(record for _, record in ordered)
    return content, ShardReport(split, number, info, "", digest)


def write_records(
    output: str | PathLike[str],
    samples: Sequence[Sample],
    scenes: Mapping[str, SceneInfo],
    settings: CutSettings,
    *,
    described_settings: Mapping[str, Any] | None = None,
    sources: Sequence[SourceInfo] = (),
    num_shards: int | None = None,
) -> DatasetMetadata:
    """Writes a records folder, whole or not at all.

    Args:
        output: The folder; a new or empty one.
        samples: All samples; memory holds them.
        scenes: Entries of the scenes that they show.
        settings: What they hold.
        described_settings: What ``dataset.json`` tells of how they came about.
        sources: Entries of the rasters that they were made of.
        num_shards: Shards of each split; by the number of records by default.

    Raises:
        ConfigError: If there is something in the output.
    """
    output = Path(output)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ConfigError(
            "the output folder is not empty", path=output, expected="a new or empty folder"
        )
    report = SceneReport.of(None, samples, scenes)
    with written_whole(output) as folder:
        folder.mkdir()
        shards = []
        for split in SPLITS:
            own = [sample for sample in samples if sample.split == split]
            count = shard_count(len(own), num_shards, RECORDS_PER_SHARD)
            dealt: list[list[tuple[str, bytes]]] = [[] for _ in range(count)]
            for sample in own:
                dealt[shard_of(sample.name, count)].append((sample.name, encode_sample(sample)))
            for number, records in enumerate(dealt):
                content, packed = packed_shard(split, number, count, records)
                (folder / packed.info.file).write_bytes(content)
                shards.append(packed)
        metadata = dataset_metadata(
            [report],
            sources,
            shards,
            report.statistics,
            0,
            settings,
            dict(described_settings or {}),
        )
        (folder / DEAD_LETTER_FILE).write_text("[]\n", encoding="utf-8")
        (folder / DATASET_FILE).write_text(metadata.to_json(), encoding="utf-8")
    return metadata
