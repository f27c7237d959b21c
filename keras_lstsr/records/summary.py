"""From the reports of a job's workers to ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from keras_lstsr import __version__
from keras_lstsr.records.patches import CutSettings, CutTally
from keras_lstsr.records.planning import Outline, WorkItem
from keras_lstsr.records.schema import (
    REJECTION_PRECEDENCE,
    SCALE_FACTOR,
    SCHEMA_VERSION,
    SPLITS,
    DatasetMetadata,
    ShardInfo,
    SourceInfo,
    Split,
)
from keras_lstsr.records.statistics import PatchStatistics

# A place with more than this share of the records leaves the hash little to share out.
_DOMINANT_PLACE = 0.5


@dataclass(frozen=True)
class SceneReport:
    """What became of one LST raster.

    Attributes:
        source: Its entry in ``dataset.json``.
        statistics: Of its training patches.
        places: Records by split and place.
        by_day_night: Records by split and ``day``, ``night`` or ``unknown``.
    """

    source: SourceInfo
    statistics: PatchStatistics
    places: dict[tuple[Split, str], int] = field(default_factory=dict)
    by_day_night: dict[tuple[Split, str], int] = field(default_factory=dict)


@dataclass(frozen=True)
class ShardReport:
    """One shard that was written.

    Attributes:
        split: Its split.
        number: Its number within the split.
        info: Its entry in ``dataset.json``.
        written: Where it lies until the job is done.
        digest: See ``records_digest``.
    """

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


def _outline_entry(outline: Outline) -> dict[str, Any]:
    return {
        "path": outline.path,
        "role": outline.role,
        "sha256": outline.sha256,
        "granule_id": outline.granule_id,
        "product": outline.product,
        "version": outline.version,
        "tile": outline.tile,
        "acquisition_date": outline.acquisition_date,
        "pixels": outline.height * outline.width,
        "valid_pixels": outline.valid_pixels,
        "missing_pixels": outline.missing_pixels,
    }


def lst_source(item: WorkItem, tally: CutTally) -> SourceInfo:
    """Returns the entry of an LST raster after it was cut."""
    return SourceInfo(
        **_outline_entry(item.lst),
        candidates=dict(tally.candidates),
        accepted={layer: tally.accepted[layer] for layer in tally.candidates},
        rejected={layer: dict(reasons) for layer, reasons in tally.rejected.items()},
        ndvi_partner="" if item.ndvi is None else item.ndvi.granule_id,
    )


def ndvi_source(outline: Outline) -> SourceInfo:
    """Returns the entry of an NDVI raster."""
    return SourceInfo(**_outline_entry(outline))


def rejected_by_reason(sources: Iterable[SourceInfo]) -> dict[str, int]:
    """Sums rejected patches over sources and layers, in the order of precedence."""
    total: Counter[str] = Counter()
    for source in sources:
        for reasons in source.rejected.values():
            total.update(reasons)
    return {reason: total[reason] for reason in REJECTION_PRECEDENCE if total[reason]}


def dataset_metadata(
    reports: Sequence[SceneReport],
    ndvi_sources: Sequence[SourceInfo],
    shards: Sequence[ShardReport],
    statistics: PatchStatistics,
    dead_letters: int,
    settings: CutSettings,
    described_settings: dict[str, Any],
) -> DatasetMetadata:
    """Puts ``dataset.json`` together.

    Args:
        reports: One per LST raster that was cut.
        ndvi_sources: Entries of the NDVI rasters.
        shards: One per shard.
        statistics: Of the whole training split.
        dead_letters: Inputs that could not be used.
        settings: What was cut.
        described_settings: All options that determine the content, for the reader.
    """
    counts: dict[Split, int] = dict.fromkeys(SPLITS, 0)
    by_time: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    places: dict[Split, Counter[str]] = {split: Counter() for split in SPLITS}
    for report in reports:
        for (split, day_night), number in report.by_day_night.items():
            counts[split] += number
            by_time[split][day_night] += number
        for (split, place), number in report.places.items():
            places[split][place] += number
    listed: dict[Split, list[ShardInfo]] = {split: [] for split in SPLITS}
    for shard in sorted(shards, key=lambda shard: (shard.split, shard.number)):
        listed[shard.split].append(shard.info)
    sources = sorted(
        [report.source for report in reports] + list(ndvi_sources),
        key=lambda source: (source.role, source.path),
    )
    return DatasetMetadata(
        schema_version=SCHEMA_VERSION,
        package_version=__version__,
        fingerprint=fingerprint(shards),
        patch_size=settings.patch_size,
        stride=settings.stride,
        scale_factor=SCALE_FACTOR,
        has_guide=settings.need_ndvi,
        counts=counts,
        counts_by_day_night={split: dict(sorted(by_time[split].items())) for split in SPLITS},
        places={split: len(places[split]) for split in SPLITS},
        rejected=rejected_by_reason(sources),
        dead_letters=dead_letters,
        warnings=_warnings(counts, places, settings),
        settings=described_settings,
        statistics=statistics.summaries(),
        ndvi_relation=statistics.relations(),
        shards=listed,
        sources=sources,
    )


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
                f"The split {split} is empty: {number} places were dealt out by their hash. "
                + remedy
            )
    together = sum(places.values(), Counter())
    place, most = max(together.items(), key=lambda entry: (entry[1], entry[0]))
    if most > _DOMINANT_PLACE * total and len(together) > 1:
        warnings.append(
            f"The place {place} holds {most} of {total} records, and a place is never divided. "
            "Places grow together where rasters on different grids overlap: prepare such rasters "
            "separately, or warp them onto one grid first."
        )
    return warnings
