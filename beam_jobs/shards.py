"""Records dealt out to shards and written, the same bytes whatever worker does it."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from beam_jobs.publish import COUNTERS
from keras_lstsr.records.schema import SPLITS, Split
from keras_lstsr.records.summary import ShardReport
from keras_lstsr.records.writer import packed_shard, shard_count, shard_of

Shard = tuple[Split, int]


def _to_shard(
    element: tuple[Split, tuple[str, bytes]],
    counts: dict[Split, int],
    num_shards: int | None,
    records_per_shard: int,
) -> tuple[Shard, tuple[str, bytes]]:
    split, (key, record) = element
    shards = shard_count(counts[split], num_shards, records_per_shard)
    return (split, shard_of(key, shards)), (key, record)


def _all_shards(
    _pulse: None, counts: dict[Split, int], num_shards: int | None, records_per_shard: int
) -> Iterator[tuple[Shard, tuple[str, bytes] | None]]:
    for split in SPLITS:
        for number in range(shard_count(counts.get(split, 0), num_shards, records_per_shard)):
            yield (split, number), None


class WriteShardFn(beam.DoFn):
    """Writes one shard into the staging folder and reports it."""

    def __init__(self, staging: str, num_shards: int | None, records_per_shard: int) -> None:
        self._staging = staging
        self._num_shards = num_shards
        self._records_per_shard = records_per_shard

    def process(
        self,
        element: tuple[Shard, Iterable[tuple[str, bytes] | None]],
        counts: dict[Split, int],
    ) -> Iterator[ShardReport]:
        """Packs a shard's records and writes them."""
        (split, number), entries = element
        shards = shard_count(counts[split], self._num_shards, self._records_per_shard)
        known = (entry for entry in entries if entry is not None)
        content, report = packed_shard(split, number, shards, known)
        # A runner may work a bundle twice: each attempt writes a file of its own.
        written = FileSystems.join(self._staging, f"{uuid.uuid4().hex}-{report.info.file}")
        with FileSystems.create(written, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            stream.write(content)
        Metrics.counter(COUNTERS, f"records_{split}").inc(report.info.records)
        yield replace(report, written=written)


@beam.ptransform_fn
def WriteShards(records: Any, staging: str, num_shards: int | None, records_per_shard: int) -> Any:
    """``(split, (key, record))`` to compressed TFRecord shards in the staging folder.

    Returns a ``ShardReport`` per shard. Shards are numbered without gaps, even where chance
    leaves one without records.
    """
    sharding = num_shards, records_per_shard
    counts = beam.pvalue.AsDict(records | beam.combiners.Count.PerKey())
    dealt = records | beam.Map(_to_shard, counts, *sharding)
    empty = (
        records.pipeline
        | beam.Create([None], reshuffle=False)
        | beam.FlatMap(_all_shards, counts, *sharding)
    )
    return (
        (dealt, empty)
        | beam.Flatten()
        | beam.GroupByKey()
        | beam.ParDo(WriteShardFn(staging, *sharding), counts)
    )
