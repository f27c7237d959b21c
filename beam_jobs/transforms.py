"""The steps of the jobs as PTransforms: thin nouns around ``keras_lstsr.records``.

Keys are immutable (``PatchKey``, ``(split, shard)``), so that any runner may repeat or reorder
the work; the records and ``dataset.json`` come out the same. No module here imports TensorFlow.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from beam_jobs.publish import publish, remove_staging
from keras_lstsr.errors import LstsrError
from keras_lstsr.files import sha256_of
from keras_lstsr.products import lst_layers, ndvi_layer
from keras_lstsr.records.codec import encode_patch
from keras_lstsr.records.patches import CutSettings, CutTally, Patch, SceneContext, cut_patches
from keras_lstsr.records.planning import WorkItem, outline_scene, plan_job
from keras_lstsr.records.rasters import RasterReader
from keras_lstsr.records.schema import SPLITS, DeadLetter, ShardInfo, SourceInfo, Split
from keras_lstsr.records.statistics import PatchStatistics
from keras_lstsr.records.summary import (
    SceneReport,
    ShardReport,
    dataset_metadata,
    lst_source,
    records_digest,
)
from keras_lstsr.records.tfrecord import shard_bytes

COUNTERS = "keras_lstsr"
_CHUNK_BYTES = 1 << 20

Shard = tuple[Split, int]


@contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Gives a path that libraries without Beam's file systems can open.

    A remote file is downloaded into a temporary folder under its own name, which tells product,
    tile and date.
    """
    if FileSystems.get_scheme(path) is None:
        yield Path(path)
        return
    with tempfile.TemporaryDirectory(prefix="keras-lstsr-") as folder:
        target = Path(folder) / FileSystems.split(path)[1]
        with (
            FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as source,
            target.open("wb") as copy,
        ):
            while chunk := source.read(_CHUNK_BYTES):
                copy.write(chunk)
        yield target


class OutlineRasterFn(beam.DoFn):
    """Outlines a raster; what cannot be read goes to the output ``dead``."""

    def __init__(self, reader: RasterReader) -> None:
        self._reader = reader
        self._read = Metrics.counter(COUNTERS, f"{reader.role}_rasters")
        self._dead = Metrics.counter(COUNTERS, "dead_letters")

    def process(self, element: Any) -> Iterator[Any]:
        """Takes a file's metadata from ``MatchFiles``."""
        path = element.path
        try:
            with local_copy(path) as local:
                scene = self._reader.open(local)
                yield outline_scene(scene, path, self._reader.role, sha256_of(local))
            self._read.inc()
        except (LstsrError, OSError) as error:
            self._dead.inc()
            yield beam.pvalue.TaggedOutput("dead", DeadLetter(path=path, reason=str(error)))


class OutlineRasters(beam.PTransform):
    """File patterns to outlines (main output) and dead letters (output ``dead``)."""

    def __init__(self, patterns: Iterable[str], reader: RasterReader) -> None:
        super().__init__()
        self._patterns = list(patterns)
        self._reader = reader

    def expand(self, pbegin: Any) -> Any:
        """Matches, shuffles the files over the workers, and outlines each."""
        return (
            pbegin
            | beam.Create(self._patterns, reshuffle=False)
            | fileio.MatchAll(empty_match_treatment=fileio.EmptyMatchTreatment.DISALLOW)
            # Two patterns may match one file.
            | beam.Map(lambda found: (found.path, found))
            | beam.GroupByKey()
            | beam.MapTuple(lambda _path, found: next(iter(found)))
            | beam.Reshuffle()
            | beam.ParDo(OutlineRasterFn(self._reader)).with_outputs("dead", main="outlines")
        )


class PlanWork(beam.PTransform):
    """Outlines to the job's ``Plan``, a single element."""

    def __init__(self, settings: CutSettings) -> None:
        super().__init__()
        self._settings = settings

    def expand(self, outlines: Any) -> Any:
        """Gathers the outlines, which are small, on one worker."""
        return (
            outlines
            | beam.CombineGlobally(beam.combiners.ToListCombineFn())
            | beam.Map(plan_job, settings=self._settings)
        )


class CutSceneFn(beam.DoFn):
    """Cuts one raster into encoded patches; report and failures go to outputs of their own."""

    def __init__(
        self, lst_reader: RasterReader, ndvi_reader: RasterReader, settings: CutSettings
    ) -> None:
        self._lst_reader = lst_reader
        self._ndvi_reader = ndvi_reader
        self._settings = settings

    def process(self, element: WorkItem) -> Iterator[Any]:
        """Yields ``(split, (key, record))``; ``reports``: ``SceneReport``; ``dead``."""
        tally = CutTally()
        try:
            # All or nothing: a raster that fails halfway must leave no record behind.
            patches = list(self._cut(element, tally))
        except (LstsrError, OSError) as error:
            Metrics.counter(COUNTERS, "dead_letters").inc()
            letter = DeadLetter(path=element.lst.path, reason=str(error))
            yield beam.pvalue.TaggedOutput("dead", letter)
            return
        places = Counter((patch.split, patch.place) for patch in patches)
        by_time = Counter((patch.split, patch.day_night) for patch in patches)
        self._count(tally)
        yield beam.pvalue.TaggedOutput(
            "reports",
            SceneReport(lst_source(element, tally), tally.statistics, dict(places), dict(by_time)),
        )
        while patches:
            patch = patches.pop()
            yield patch.split, (str(patch.key), encode_patch(patch))

    def _cut(self, item: WorkItem, tally: CutTally) -> Iterator[Patch]:
        with local_copy(item.lst.path) as local:
            scene = self._lst_reader.open(local)
        context = SceneContext(item.lst.sha256, item.window, item.merged_places)
        partner = item.ndvi

        def read_ndvi() -> Any:
            assert partner is not None
            with local_copy(partner.path) as local:
                return ndvi_layer(self._ndvi_reader.open(local))

        return cut_patches(
            scene,
            lst_layers(scene),
            context,
            self._settings,
            tally,
            None if partner is None else read_ndvi,
        )

    @staticmethod
    def _count(tally: CutTally) -> None:
        for layer, count in tally.accepted.items():
            Metrics.counter(COUNTERS, f"patches_accepted_{layer}").inc(count)
        for reasons in tally.rejected.values():
            for reason, count in reasons.items():
                Metrics.counter(COUNTERS, f"patches_rejected_{reason}").inc(count)


class CutScenes(beam.PTransform):
    """Work items to ``(split, (key, record))``, with outputs ``reports`` and ``dead``."""

    def __init__(
        self, lst_reader: RasterReader, ndvi_reader: RasterReader, settings: CutSettings
    ) -> None:
        super().__init__()
        self._fn = CutSceneFn(lst_reader, ndvi_reader, settings)

    def expand(self, items: Any) -> Any:
        """Shuffles the rasters over the workers and cuts each."""
        return (
            items
            | beam.Reshuffle()
            | beam.ParDo(self._fn).with_outputs("reports", "dead", main="records")
        )


def shard_count(records: int, num_shards: int | None, records_per_shard: int) -> int:
    """Returns how many shards a split has: none for no records, never more than records."""
    wanted = num_shards if num_shards else -(-records // records_per_shard)
    return min(wanted, records)


def shard_of(key: str, shards: int) -> int:
    """Returns the shard of a record: by a hash of its key, so that every shard is a mixture."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") % shards


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
        """Sorts a shard's records by a hash of their keys, so that the bytes are always the same.

        The hash mixes places and dates, which spares training a large shuffle buffer.
        """
        (split, number), entries = element
        records = sorted(
            (entry for entry in entries if entry is not None),
            key=lambda entry: (hashlib.sha256(entry[0].encode()).digest(), entry[0]),
        )
        content = shard_bytes(record for _, record in records)
        shards = shard_count(counts[split], self._num_shards, self._records_per_shard)
        name = f"{split}-{number:05d}-of-{shards:05d}.tfrecord.gz"
        # A runner may work a bundle twice: each attempt writes a file of its own.
        written = FileSystems.join(self._staging, f"{uuid.uuid4().hex}-{name}")
        with FileSystems.create(written, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            stream.write(content)
        Metrics.counter(COUNTERS, f"records_{split}").inc(len(records))
        yield ShardReport(
            split=split,
            number=number,
            info=ShardInfo(
                file=name, records=len(records), sha256=hashlib.sha256(content).hexdigest()
            ),
            written=written,
            digest=records_digest(record for _, record in records),
        )


class WriteShards(beam.PTransform):
    """``(split, (key, record))`` to compressed TFRecord shards in the staging folder.

    Returns a ``ShardReport`` per shard. Shards are numbered without gaps, even where chance
    leaves one without records.
    """

    def __init__(self, staging: str, num_shards: int | None, records_per_shard: int) -> None:
        super().__init__()
        self._staging = staging
        self._sharding: dict[str, Any] = {
            "num_shards": num_shards,
            "records_per_shard": records_per_shard,
        }

    def expand(self, records: Any) -> Any:
        """Counts the records of each split, deals them out to shards and writes these."""
        counts = beam.pvalue.AsDict(records | beam.combiners.Count.PerKey())
        dealt = records | beam.Map(_to_shard, counts, **self._sharding)
        empty = (
            records.pipeline
            | beam.Create([None], reshuffle=False)
            | beam.FlatMap(_all_shards, counts, **self._sharding)
        )
        return (
            (dealt, empty)
            | beam.Flatten()
            | beam.GroupByKey()
            | beam.ParDo(WriteShardFn(self._staging, **self._sharding), counts)
        )


class MergeStatisticsFn(beam.CombineFn):
    """Merges ``PatchStatistics``, exactly and in any order."""

    def create_accumulator(self, *args: Any, **kwargs: Any) -> PatchStatistics:
        """Returns the statistics of nothing."""
        return PatchStatistics()

    def add_input(
        self, mutable_accumulator: PatchStatistics, element: PatchStatistics, *args: Any, **kw: Any
    ) -> PatchStatistics:
        """Adds the statistics of a raster."""
        return mutable_accumulator.merge(element)

    def merge_accumulators(
        self, accumulators: Iterable[PatchStatistics], *args: Any, **kwargs: Any
    ) -> PatchStatistics:
        """Merges what several workers have."""
        total = PatchStatistics()
        for accumulator in accumulators:
            total = total.merge(accumulator)
        return total

    def extract_output(
        self, accumulator: PatchStatistics, *args: Any, **kwargs: Any
    ) -> PatchStatistics:
        """Returns the accumulator itself."""
        return accumulator


@dataclass(frozen=True)
class Publication:
    """Where a job's records go, and the options that ``dataset.json`` tells of.

    Attributes:
        staging: Folder of what is not yet complete.
        output: The records folder.
        settings: What was cut.
        described_settings: All options that determine the content.
    """

    staging: str
    output: str
    settings: CutSettings
    described_settings: dict[str, Any]


def _publish(
    _pulse: None,
    publication: Publication,
    reports: list[SceneReport],
    ndvi_sources: list[SourceInfo],
    shards: list[ShardReport],
    dead_letters: list[DeadLetter],
    statistics: PatchStatistics,
) -> None:
    dead = sorted(dead_letters, key=lambda letter: (letter.path, letter.reason))
    metadata = dataset_metadata(
        reports,
        ndvi_sources,
        shards,
        statistics,
        len(dead),
        publication.settings,
        publication.described_settings,
    )
    publish(publication.staging, publication.output, metadata, shards, dead)
    remove_staging(publication.staging)


class PublishRecords(beam.PTransform):
    """All that a job found out to a complete records folder: the last step of a job."""

    def __init__(self, publication: Publication) -> None:
        super().__init__()
        self._publication = publication

    def expand(self, inputs: dict[str, Any]) -> Any:
        """Takes ``reports``, ``ndvi_sources``, ``shards`` and ``dead_letters``."""
        reports = inputs["reports"]
        statistics = (
            reports
            | beam.Map(lambda report: report.statistics)
            | beam.CombineGlobally(MergeStatisticsFn())
        )
        return (
            reports.pipeline
            | "Pulse" >> beam.Create([None], reshuffle=False)
            | beam.Map(
                _publish,
                publication=self._publication,
                reports=beam.pvalue.AsList(reports),
                ndvi_sources=beam.pvalue.AsList(inputs["ndvi_sources"]),
                shards=beam.pvalue.AsList(inputs["shards"]),
                dead_letters=beam.pvalue.AsList(inputs["dead_letters"]),
                statistics=beam.pvalue.AsSingleton(statistics),
            )
        )
