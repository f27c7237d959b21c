"""The steps of the jobs as PTransforms: thin nouns around ``keras_lstsr.records``.

Keys are immutable (a sample's name, ``(split, shard)``), so that any runner may repeat or reorder
the work; the records and ``dataset.json`` come out the same. No module here imports TensorFlow.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.io import fileio
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from apache_beam.metrics import Metrics

from beam_jobs.publish import COUNTERS, publish, remove_staging
from keras_lstsr.errors import LstsrError, printable
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.raster_file import reading
from keras_lstsr.records.codec import encode_sample
from keras_lstsr.records.cutting import (
    CutSettings,
    CutTally,
    ReadGuide,
    SceneContext,
    cut_patches,
    scene_name,
)
from keras_lstsr.records.planning import Outline, WorkItem, outline_scene
from keras_lstsr.records.rasters import RasterReader
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.scene_sample import FileSource
from keras_lstsr.records.scenes import (
    RasterScene,
    SceneItem,
    plan_scenes,
    samples_of,
    survey_scene,
)
from keras_lstsr.records.schema import (
    DeadLetter,
    GridInfo,
    SceneInfo,
    SourceInfo,
)
from keras_lstsr.records.statistics import SampleStatistics
from keras_lstsr.records.summary import (
    SceneReport,
    ShardReport,
    dataset_metadata,
    merged_statistics,
)

_CHUNK_BYTES = 1 << 20

Readers = Mapping[str, RasterReader]


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
            with reading(path), local_copy(path) as local:
                scene = self._reader.open(local)
                outline = outline_scene(scene, path, self._reader, sha256_of(local))
        except LstsrError as error:
            self._dead.inc()
            letter = DeadLetter(path=printable(path), reason=str(error))
            yield beam.pvalue.TaggedOutput("dead", letter)
            return
        self._read.inc()
        yield outline


@beam.ptransform_fn
def OutlineRasters(pbegin: Any, patterns: Iterable[str], reader: RasterReader) -> Any:
    """File patterns to outlines (main output) and dead letters (output ``dead``)."""
    return (
        pbegin
        | beam.Create(list(patterns), reshuffle=False)
        | fileio.MatchAll(empty_match_treatment=fileio.EmptyMatchTreatment.DISALLOW)
        # Two patterns may match one file. Its name need not be UTF-8.
        | beam.Map(lambda found: (found.path.encode("utf-8", "surrogatepass"), found))
        | beam.GroupByKey()
        | beam.MapTuple(lambda _path, found: next(iter(found)))
        | beam.Reshuffle()
        | beam.ParDo(OutlineRasterFn(reader)).with_outputs("dead", main="outlines")
    )


@beam.ptransform_fn
def Gathered(elements: Any, decide: Callable[..., Any], settings: CutSettings) -> Any:
    """All elements, which are small, to what one worker decides on them: a single element."""
    return elements | beam.combiners.ToList() | beam.Map(decide, settings=settings)


@beam.ptransform_fn
def PlanTruths(sources: Any, settings: CutSettings) -> dict[str, Any]:
    """Scenes with truth, surveyed, to ``SceneItem``s; outputs ``rejected`` and ``dead``."""
    surveyed = (
        sources
        | beam.Reshuffle()
        | beam.ParDo(SurveySceneFn()).with_outputs("dead", main="surveys")
    )
    plan = surveyed.surveys | Gathered(plan_scenes, settings)
    dead = plan | "Unusable scenes" >> beam.FlatMap(lambda plan: plan.dead_letters)
    return {
        "items": plan | "Scenes" >> beam.FlatMap(lambda plan: plan.items),
        "rejected": plan | "Rejected scenes" >> beam.FlatMap(lambda plan: plan.rejected),
        "dead": (surveyed.dead, dead) | "Dead scenes" >> beam.Flatten(),
    }


class SurveySceneFn(beam.DoFn):
    """Surveys a scene with truth; what cannot be read goes to the output ``dead``."""

    def process(self, element: FileSource | RasterScene) -> Iterator[Any]:
        """Yields the ``SceneSurvey``."""
        try:
            yield survey_scene(element)
        except (LstsrError, OSError) as error:
            Metrics.counter(COUNTERS, "dead_letters").inc()
            if isinstance(element, RasterScene):
                path = element.item.lst.path
            else:
                path = str(element.paths[0])
            yield beam.pvalue.TaggedOutput("dead", DeadLetter(path=path, reason=str(error)))


class CutFn(beam.DoFn):
    """Cuts a raster or scene into encoded samples; report and failures go to other outputs."""

    def __init__(self, readers: Readers, settings: CutSettings) -> None:
        self._readers = dict(readers)
        self._settings = settings

    def process(self, element: WorkItem | SceneItem) -> Iterator[Any]:
        """Yields ``(split, (name, record))``; ``reports``: ``SceneReport``; ``dead``."""
        tally = CutTally()
        scenes: dict[str, SceneInfo]
        if isinstance(element, SceneItem):
            source, scenes = element.survey.info, {element.survey.name: element.scene}
            cut = samples_of(element, self._settings, tally)
        else:
            partners = {name: guide.granule_id for name, guide in element.guides.items()}
            source, scenes = element.lst.info(partners=partners), _scenes_of(element)
            cut = self._cut(element, tally)
        try:
            # All or nothing: a raster that fails halfway must leave no record behind.
            samples = list(cut)
        except (LstsrError, OSError) as error:
            Metrics.counter(COUNTERS, "dead_letters").inc()
            letter = DeadLetter(path=source.path, reason=str(error))
            yield beam.pvalue.TaggedOutput("dead", letter)
            return
        self._count(tally)
        report = SceneReport.of(source, samples, scenes, tally)
        yield beam.pvalue.TaggedOutput("reports", report)
        while samples:
            sample = samples.pop()
            yield sample.split, (sample.name, encode_sample(sample))

    def _cut(self, item: WorkItem, tally: CutTally) -> Iterator[Sample]:
        reader = self._readers["lst"]
        with local_copy(item.lst.path) as local:
            scene = reader.open(local)
        context = SceneContext(item.lst.sha256, item.window, item.merged_places, item.group)
        guides = {name: self._reading(name, guide) for name, guide in item.guides.items()}
        yield from cut_patches(scene, reader.layers(scene), context, self._settings, tally, guides)

    def _reading(self, name: str, guide: Outline) -> ReadGuide:
        def read() -> Any:
            reader = self._readers[name]
            with local_copy(guide.path) as local:
                return reader.layers(reader.open(local))[name]

        return read

    @staticmethod
    def _count(tally: CutTally) -> None:
        for layer, count in tally.accepted.items():
            Metrics.counter(COUNTERS, f"samples_accepted_{layer}").inc(count)
        for reasons in tally.rejected.values():
            for reason, count in reasons.items():
                Metrics.counter(COUNTERS, f"samples_rejected_{reason}").inc(count)


def _scenes_of(item: WorkItem) -> dict[str, SceneInfo]:
    outlines = [item.lst, *item.guides.values()]
    return {
        scene_name(item.lst.granule_id, item.lst.sha256, layer): SceneInfo(
            group=item.group,
            origin="observed",
            day_night=layer,
            grid=GridInfo.of(item.lst.grid),
            files={outline.path.rsplit("/", 1)[-1]: outline.sha256 for outline in outlines},
        )
        for layer in item.lst.valid_pixels
    }


@beam.ptransform_fn
def Cut(items: Any, readers: Readers, settings: CutSettings) -> Any:
    """Work to ``(split, (name, record))``, with outputs ``reports`` and ``dead``."""
    cut = beam.ParDo(CutFn(readers, settings))
    return items | beam.Reshuffle() | cut.with_outputs("reports", "dead", main="records")


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
    publication: Publication,
    reports: list[SceneReport],
    other_sources: list[SourceInfo],
    shards: list[ShardReport],
    dead_letters: list[DeadLetter],
    statistics: SampleStatistics,
) -> None:
    dead = sorted(dead_letters, key=lambda letter: (letter.path, letter.reason))
    metadata = dataset_metadata(
        reports,
        other_sources,
        shards,
        statistics,
        len(dead),
        publication.settings,
        publication.described_settings,
    )
    publish(publication.staging, publication.output, metadata, shards, dead)
    remove_staging(publication.staging)


@beam.ptransform_fn
def PublishRecords(inputs: dict[str, Any], publication: Publication) -> Any:
    """``reports``, ``other_sources``, ``shards`` and ``dead_letters`` to a complete folder."""
    statistics = (
        inputs["reports"]
        | beam.Map(lambda report: report.statistics)
        | beam.CombineGlobally(merged_statistics)
    )
    return (
        statistics.pipeline
        | "Pulse" >> beam.Create([publication], reshuffle=False)
        | beam.Map(
            _publish,
            statistics=beam.pvalue.AsSingleton(statistics),
            **{name: beam.pvalue.AsList(found) for name, found in inputs.items()},
        )
    )
