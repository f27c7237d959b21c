"""From the reports of a job's workers to ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeVar

from keras_lstsr import __version__
from keras_lstsr.records.cutting import CutSettings, CutTally
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import (
    SCALE_FACTOR,
    SCHEMA_VERSION,
    SPLITS,
    DatasetMetadata,
    Origin,
    SceneInfo,
    ShardInfo,
    SourceInfo,
    Split,
    in_order,
)
from keras_lstsr.records.statistics import SampleStatistics

Key = TypeVar("Key")

# A place with more than this share of the records leaves the hash little to share out.
_DOMINANT_PLACE = 0.5


@dataclass(frozen=True)
class SceneReport:
    """What became of one LST raster or scene.

    Attributes:
        source: Its entry in ``dataset.json``; None where there is none.
        statistics: Of its training samples.
        places: Records by split and place.
        by_day_night: Records by split and ``day``, ``night`` or ``unknown``.
        by_origin: Records by split and origin.
        by_sensor: Records by split and instrument.
        by_season: Records by split and season.
        scenes: Entries of the scenes that its records show, by name.
        longest_side: LST pixels along the longest side of its samples; 0 without any.
    """

    source: SourceInfo | None
    statistics: SampleStatistics = field(default_factory=SampleStatistics)
    places: Mapping[tuple[Split, str], int] = field(default_factory=dict)
    by_day_night: Mapping[tuple[Split, str], int] = field(default_factory=dict)
    by_origin: Mapping[tuple[Split, Origin], int] = field(default_factory=dict)
    by_sensor: Mapping[tuple[Split, str], int] = field(default_factory=dict)
    by_season: Mapping[tuple[Split, str], int] = field(default_factory=dict)
    scenes: Mapping[str, SceneInfo] = field(default_factory=dict)
    longest_side: int = 0

    @classmethod
    def of(
        cls,
        source: SourceInfo | None,
        samples: Sequence[Sample],
        scenes: Mapping[str, SceneInfo],
        tally: CutTally | None = None,
    ) -> SceneReport:
        """Reports samples of a raster, or of many if ``source`` is None.

        ``scenes`` are entries of the scenes that they may show, ``tally`` what became of all
        samples that were looked at.
        """
        if tally is not None and source is not None:
            counts = {
                "candidates": dict(tally.candidates),
                "accepted": {layer: tally.accepted[layer] for layer in tally.candidates},
                "rejected": {layer: dict(reasons) for layer, reasons in tally.rejected.items()},
            }
            source = source.model_copy(update=counts)
        shown: dict[str, Counter[Split]] = {}
        for sample in samples:
            shown.setdefault(sample.scene, Counter())[sample.split] += 1
        return cls(
            source,
            merged_statistics(
                SampleStatistics.of(sample) for sample in samples if sample.split == "train"
            ),
            Counter((sample.split, sample.place) for sample in samples),
            Counter((sample.split, sample.day_night) for sample in samples),
            Counter((sample.split, sample.origin) for sample in samples),
            Counter((sample.split, sample.sensor) for sample in samples),
            Counter((sample.split, sample.season) for sample in samples),
            {
                name: scenes[name].model_copy(update={"records": dict(counts)})
                for name, counts in shown.items()
            },
            max((side for sample in samples for side in sample.grid.shape), default=0),
        )


def merged_statistics(parts: Iterable[SampleStatistics]) -> SampleStatistics:
    """Merges statistics, exactly and in any order."""
    return reduce(SampleStatistics.merge, parts, SampleStatistics())


@dataclass(frozen=True)
class ShardReport:
    """One shard: its entry, where it lies until the job is done, and its ``records_digest``."""

    split: Split
    number: int
    info: ShardInfo
    written: str
    digest: int


def records_digest(records: Iterable[bytes]) -> int:
    """Returns the sum of the records' SHA-256 digests, modulo 2²⁵⁶.

    A sum depends neither on the order of the records nor on how they are dealt out to shards.
    """
    total = sum(int.from_bytes(hashlib.sha256(record).digest(), "big") for record in records)
    return total % 2**256


def fingerprint(shards: Iterable[ShardReport]) -> str:
    """Returns the SHA-256 that stands for the content of a records folder."""
    totals: dict[str, int] = dict.fromkeys(SPLITS, 0)
    for shard in shards:
        totals[shard.split] = (totals[shard.split] + shard.digest) % 2**256
    content = {
        "schema_version": SCHEMA_VERSION,
        "records": {split: f"{total:064x}" for split, total in totals.items()},
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _merged_sources(sources: Iterable[SourceInfo]) -> list[SourceInfo]:
    """Puts the entries of one raster together, from which several scenes were made."""
    known: dict[tuple[str, str, str], SourceInfo] = {}
    for source in sources:
        key = (source.role, source.path, source.sha256)
        known[key] = _together(known[key], source) if key in known else source
    return [known[key] for key in sorted(known)]


def _together(first: SourceInfo, second: SourceInfo) -> SourceInfo:
    candidates = Counter(first.candidates) + Counter(second.candidates)
    accepted = Counter(first.accepted) + Counter(second.accepted)
    rejected = {
        layer: dict(
            Counter(first.rejected.get(layer, {})) + Counter(second.rejected.get(layer, {}))
        )
        for layer in {**first.rejected, **second.rejected}
    }
    return first.model_copy(
        update={
            "candidates": dict(candidates),
            "accepted": {layer: accepted[layer] for layer in candidates},
            "rejected": rejected,
            "partners": first.partners | second.partners,
        }
    )


def rejected_by_reason(sources: Iterable[SourceInfo]) -> dict[str, int]:
    """Sums rejected samples over sources and layers, in the order of precedence."""
    total: Counter[str] = Counter()
    for source in sources:
        for reasons in source.rejected.values():
            total.update(reasons)
    return in_order(total)


def dataset_metadata(
    reports: Sequence[SceneReport],
    other_sources: Sequence[SourceInfo],
    shards: Sequence[ShardReport],
    statistics: SampleStatistics,
    dead_letters: int,
    settings: CutSettings,
    described_settings: dict[str, Any],
) -> DatasetMetadata:
    """Puts ``dataset.json`` together.

    Args:
        reports: One per LST raster or scene that was cut.
        other_sources: Entries of the other rasters.
        shards: One per shard.
        statistics: Of the whole training split.
        dead_letters: Inputs that could not be used.
        settings: What was cut.
        described_settings: All options that determine the content, for the reader.
    """
    by_time = _by_split(report.by_day_night for report in reports)
    by_origin = _by_split(report.by_origin for report in reports)
    by_sensor = _by_split(report.by_sensor for report in reports)
    by_season = _by_split(report.by_season for report in reports)
    places = _by_split(report.places for report in reports)
    scenes = {name: scene for report in reports for name, scene in report.scenes.items()}
    counts = {split: by_time[split].total() for split in SPLITS}
    listed: dict[Split, list[ShardInfo]] = {split: [] for split in SPLITS}
    for shard in sorted(shards, key=lambda shard: (shard.split, shard.number)):
        listed[shard.split].append(shard.info)
    cut = (report.source for report in reports if report.source is not None)
    sources = _merged_sources([*cut, *other_sources])
    return DatasetMetadata(
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        fingerprint=fingerprint(shards),
        patch_size=max((report.longest_side for report in reports), default=0)
        or settings.patch_size,
        stride=settings.stride,
        scale_factor=SCALE_FACTOR,
        guides=list(settings.guides),
        has_truth=settings.truth,
        counts=counts,
        counts_by_day_night={split: dict(sorted(by_time[split].items())) for split in SPLITS},
        counts_by_origin={split: dict(by_origin[split]) for split in SPLITS},
        counts_by_sensor={split: dict(sorted(by_sensor[split].items())) for split in SPLITS},
        counts_by_season={split: dict(sorted(by_season[split].items())) for split in SPLITS},
        places={split: len(places[split]) for split in SPLITS},
        rejected=rejected_by_reason(sources),
        dead_letters=dead_letters,
        warnings=_warnings(counts, places, settings),
        settings=described_settings,
        statistics=statistics.summaries(),
        guide_relations=statistics.relations(),
        shards=listed,
        sources=sources,
        scenes=scenes,
    )


def _by_split(counts: Iterable[Mapping[tuple[Split, Key], int]]) -> dict[Split, Counter[Key]]:
    total: dict[Split, Counter[Key]] = {split: Counter() for split in SPLITS}
    for each in counts:
        for (split, key), number in each.items():
            total[split][key] += number
    return total


def _warnings(
    counts: dict[Split, int], places: dict[Split, Counter[str]], settings: CutSettings
) -> list[str]:
    total = sum(counts.values())
    if total == 0:
        return []
    remedy = (
        "Try another --split_seed, other --split_fractions, a smaller --patch_size or more data."
    )
    warnings = []
    for split, fraction in zip(SPLITS, settings.split.fractions, strict=True):
        if fraction > 0 and not counts[split]:
            number = len(set().union(*places.values()))
            warnings.append(
                f"The split {split} is empty: {number} places were assigned by their hash. "
                + remedy
            )
    together = sum(places.values(), Counter())
    place, most = max(together.items(), key=lambda entry: (entry[1], entry[0]))
    if most > _DOMINANT_PLACE * total and len(together) > 1:
        warnings.append(
            f"The place {place} holds {most} of {total} records, and a place is never divided. "
            "Places merge where rasters on different grids overlap: prepare such rasters "
            "separately, or warp them onto one grid first."
        )
    return warnings
