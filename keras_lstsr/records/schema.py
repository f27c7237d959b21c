"""The format of a records folder: features of a record, fields of ``dataset.json``, their version.

A records folder holds ``{train,validation,test}-?????-of-?????.tfrecord.gz``, ``dataset.json`` and
``dead_letter.json``. Each record is a ``tf.train.Example`` that holds one sample. This module is
the only place that knows the names; it imports no TensorFlow.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from affine import Affine
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt
from pyproj import CRS

from keras_lstsr.errors import RecordsError
from keras_lstsr.files import read_mapping, validated
from keras_lstsr.grids.grid import Grid

# Raised whenever a reader of the former version would misread the new one.
SCHEMA_VERSION = 2

DATASET_FILE = "dataset.json"
DEAD_LETTER_FILE = "dead_letter.json"
REJECTED_FILE = "rejected.json"
SHARD_GLOB = "{split}-?????-of-?????.tfrecord.gz"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Origin = Literal["observed", "degraded"]
ORIGINS: tuple[Origin, ...] = ("observed", "degraded")

# LST is cut together with its guides on the grid that is this much finer: 1 km to 250 m.
SCALE_FACTOR = 4

# LST pixels along a sample's side; a MODIS tile has 1200.
_MOST_SIDE = 4096

PREPARE_AGAIN = "Prepare the records again with keras-lstsr prepare."


class Feature:
    """Names of the features of a ``tf.train.Example``.

    ``LST``, ``TRUTH`` and ``GUIDE`` with a guide's name are prefixes: a raster is stored as five
    features, ``<prefix>/values`` (bytes, little-endian, row-major), ``<prefix>/dtype`` (one of
    ``STORED_DTYPES``), ``<prefix>/scale_offset`` (two little-endian float64), ``<prefix>/fill``
    (int64) and ``<prefix>/shape`` (two int64). The value in physical units is
    ``float32(integer * scale + offset)``, computed in float64; kelvin for LST and truth, the
    guide's own unit for guides. The integer ``fill`` (NaN for float32) marks missing pixels. The
    truth's features are absent where there is no truth. ``TEXTS`` (bytes) and ``NUMBERS`` (int64)
    are attributes of a sample; those of ``OPTIONAL`` (bytes) are left out where they are empty.
    """

    SCHEMA_VERSION = "schema_version"
    LST = "lst_kelvin"
    TRUTH = "truth_kelvin"
    GUIDE = "guide/{}"
    CRS_WKT = "crs_wkt"
    TRANSFORM = "transform"
    ORIGIN, SPLIT = "origin", "split"
    IDENTITY = (
        "name",
        "scene",
        "group",
        "product",
        "tile",
        "acquisition_date",
        "day_night",
        "place",
    )
    TEXTS = (*IDENTITY, ORIGIN, SPLIT)
    OPTIONAL = ("sensor",)
    NUMBERS = ("row", "column", "scale_factor")


# The types in which a raster is stored; both readers know just these.
STORED_DTYPES = ("uint16", "int16", "float32")

# Why a sample is rejected. It counts once, under the first reason that applies in this order:
# what the LST pixels lack, then what the guides lack (``no_partner:NAME`` before
# ``missing:NAME``), then the truth, then the split.
_LST_REASONS = ("cloud", "not_produced", "fill", "out_of_range", "quality")
_LAST_REASONS = ("straddles_splits", "split_mismatch")


def no_partner(role: str) -> str:
    """Names the reason that no raster of a role belongs to the LST raster."""
    return f"no_partner:{role}"


def missing(role: str) -> str:
    """Names the reason that too many pixels of a role's raster are missing."""
    return f"missing:{role}"


def in_order(reasons: dict[str, int]) -> dict[str, int]:
    """Sorts counts by reason in the order of precedence; leaves out those of zero."""

    def place(reason: str) -> tuple[int, str]:
        if reason in _LST_REASONS:
            return _LST_REASONS.index(reason), ""
        if reason in _LAST_REASONS:
            return len(_LST_REASONS) + 2 + _LAST_REASONS.index(reason), ""
        kind, _, role = reason.partition(":")
        return len(_LST_REASONS) + (kind == "missing"), role

    return {reason: reasons[reason] for reason in sorted(reasons, key=place) if reasons[reason]}


def first_reason(reasons: set[str]) -> str:
    """Returns the first reason in the order of precedence."""
    return next(iter(in_order(dict.fromkeys(reasons, 1))))


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Summary(_Document):
    """Count, mean, population standard deviation and range of the valid pixels of a variable."""

    count: int
    mean: float
    std: float
    min: float
    max: float


class Relation(_Document):
    """How LST goes with a guide on the LST's own grid (the guide averaged over 4 × 4 pixels).

    Attributes:
        count: Pixels where both are valid.
        covariance_kelvin: Population covariance in kelvin times the guide's unit.
        slope_kelvin: Least-squares slope in kelvin per unit of the guide; 0 where the guide does
            not vary.
        correlation: Pearson's correlation; 0 where either does not vary.
        lst_std_kelvin: Standard deviation of LST over these pixels.
        guide_std: Standard deviation of the guide over these pixels.
    """

    count: int
    covariance_kelvin: float
    slope_kelvin: float
    correlation: float
    lst_std_kelvin: float
    guide_std: float


class ShardInfo(_Document):
    """One shard: its file name, number of records and checksum."""

    file: str
    records: NonNegativeInt
    sha256: str


class SourceInfo(_Document):
    """One input raster and what became of it.

    Attributes:
        path: As the job was given it.
        role: ``"lst"``, ``"truth"`` or a guide's name.
        valid_pixels: Valid pixels of the whole raster by layer (``day``, ``night``, ``unknown``,
            or the guide) after the quality policy.
        missing_pixels: Missing pixels by layer and reason.
        candidates: Samples that were looked at, by layer.
        accepted: Samples that became records, by layer.
        rejected: Samples by layer and reason; each counts once (see ``in_order``).
        partners: Of an LST raster: role → granule id of the raster used.
    """

    path: str
    role: str
    sha256: str
    granule_id: str
    product: str
    version: str
    tile: str
    acquisition_date: str
    pixels: int
    valid_pixels: dict[str, int] = Field(default_factory=dict)
    missing_pixels: dict[str, dict[str, int]] = Field(default_factory=dict)
    candidates: dict[str, int] = Field(default_factory=dict)
    accepted: dict[str, int] = Field(default_factory=dict)
    rejected: dict[str, dict[str, int]] = Field(default_factory=dict)
    partners: dict[str, str] = Field(default_factory=dict)


def with_rejection(source: SourceInfo, layer: str, reason: str) -> SourceInfo:
    """Returns the entry of a raster of which one sample was rejected."""
    counts = {"candidates": {layer: 1}, "accepted": {layer: 0}, "rejected": {layer: {reason: 1}}}
    return source.model_copy(update=counts)


class GridInfo(_Document):
    """A grid in JSON; the transform is the affine coefficients a to f."""

    crs_wkt: str
    transform: tuple[float, float, float, float, float, float]
    shape: tuple[int, int]

    @classmethod
    def of(cls, grid: Grid) -> GridInfo:
        """Describes a grid."""
        a, b, c, d, e, f = grid.transform[:6]
        return cls(crs_wkt=grid.crs_wkt, transform=(a, b, c, d, e, f), shape=grid.shape)

    @property
    def grid(self) -> Grid:
        """The grid."""
        return Grid(CRS.from_wkt(self.crs_wkt), Affine(*self.transform), self.shape)


class SceneInfo(_Document):
    """A scene from which records were made.

    Attributes:
        group: Scenes of one group share ground.
        origin: ``"observed"`` or ``"degraded"``.
        day_night: ``day``, ``night`` or ``unknown``.
        grid: Of its LST.
        files: Name of each file that it was read from → SHA-256.
        truth_shift_pixels: By how many rows and columns of its own the truth was moved.
        own_shift: Whether that was found for this scene alone, and not for the whole set.
        records: Records by split.
    """

    group: str
    origin: Origin
    day_night: str
    grid: GridInfo
    files: dict[str, str]
    truth_shift_pixels: tuple[float, float] | None = None
    own_shift: bool = False
    records: dict[Split, int] = Field(default_factory=dict)


class DeadLetter(_Document):
    """An input that could not be used, and why."""

    path: str
    reason: str


class DatasetMetadata(_Document):
    """``dataset.json``: what a records folder holds and how it came about.

    Attributes:
        schema_version: ``SCHEMA_VERSION`` of the writer.
        package_version: keras-lstsr's version that wrote the folder.
        fingerprint: SHA-256 over the schema version and the records of each split; independent of
            clock, paths, shard count and the order of work.
        patch_size: LST pixels along the longest side of any sample.
        stride: LST pixels between the corners of neighbouring samples of a scene.
        scale_factor: Fine pixels along an LST pixel's side.
        guides: The guides that every record holds.
        has_truth: Whether every record holds the fine truth.
        counts: Records by split.
        counts_by_day_night: Records by split and ``day``, ``night`` or ``unknown``.
        counts_by_origin: Records by split and origin.
        counts_by_sensor: Records by split and instrument, see ``Sample.sensor``; "" where it is
            not known. Empty in records of before.
        counts_by_season: Records by split and season, likewise.
        places: Distinct places by split.
        rejected: Samples by reason over all sources.
        dead_letters: Inputs that could not be used; ``dead_letter.json`` says why.
        warnings: What an operator should know, e.g. an empty split.
        settings: Options of the job that determine the content.
        statistics: Of the training split alone: ``lst_kelvin``, ``lst_kelvin_day``,
            ``lst_kelvin_night``, ``lst_kelvin_unknown``, ``truth_kelvin`` and the guides, where
            there are such pixels.
        guide_relations: Of the training split alone: guide → ``all``, ``day``, ``night`` or
            ``unknown``.
        shards: Shards by split.
        sources: All inputs that could be read.
        scenes: The scenes of the records, by name.
    """

    schema_version: int
    package_version: str
    fingerprint: str
    patch_size: int = Field(ge=1, le=_MOST_SIDE)
    stride: int = Field(ge=1)
    scale_factor: Literal[4]  # SCALE_FACTOR
    guides: list[str]
    has_truth: bool
    counts: dict[Split, NonNegativeInt]
    counts_by_day_night: dict[Split, dict[str, int]]
    counts_by_origin: dict[Split, dict[Origin, int]]
    counts_by_sensor: dict[Split, dict[str, int]] = Field(default_factory=dict)
    counts_by_season: dict[Split, dict[str, int]] = Field(default_factory=dict)
    places: dict[Split, int]
    rejected: dict[str, int]
    dead_letters: int
    warnings: list[str]
    settings: dict[str, Any]
    statistics: dict[str, Summary]
    guide_relations: dict[str, dict[str, Relation]]
    shards: dict[Split, list[ShardInfo]]
    sources: list[SourceInfo]
    scenes: dict[str, SceneInfo]

    def to_json(self) -> str:
        """Returns the text of ``dataset.json``: sorted keys, the same for the same content."""
        return json.dumps(self.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def load_metadata(records_dir: str | PathLike[str]) -> DatasetMetadata:
    """Reads and checks ``dataset.json`` of a records folder.

    Raises:
        RecordsError: If the folder or the file is missing, is no valid metadata or is of another
            schema version.
    """
    folder = Path(records_dir)
    path = folder / DATASET_FILE
    if not folder.is_dir():
        raise RecordsError(
            "there is no records folder",
            path=folder,
            action="Make one with `keras-lstsr prepare --input GLOB --output DIR`.",
        )
    if not path.is_file():
        raise RecordsError(
            f"the folder holds no {DATASET_FILE}, so it is not a complete records folder",
            path=folder,
            action="Run `keras-lstsr prepare` again; it writes this file last.",
        )
    content = read_mapping(path, RecordsError, action=PREPARE_AGAIN)
    version = content.get("schema_version")
    if version != SCHEMA_VERSION:
        raise RecordsError(
            "the records have another schema",
            path=path,
            field="schema_version",
            found=version,
            expected=SCHEMA_VERSION,
            action=_making_anew(content) if version == 1 else PREPARE_AGAIN,
        )
    metadata = validated(DatasetMetadata, content, RecordsError, path=path, action=PREPARE_AGAIN)
    _check_counts(metadata, path)
    return metadata


def _check_counts(metadata: DatasetMetadata, path: Path) -> None:
    """Compares what ``dataset.json`` says with itself."""
    problem = "the metadata contradict themselves"
    for name in ("counts", "shards"):
        found = sorted(getattr(metadata, name))
        RecordsError.unless(
            found == sorted(SPLITS), name, found, sorted(SPLITS), problem, path=path
        )
    for split in SPLITS:
        shards = metadata.shards[split]
        for number, shard in enumerate(shards):
            # A bare name: whoever made the folder, no other file is read.
            RecordsError.unless(
                re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,200}", shard.file) is not None,
                f"shards.{split}.{number}.file",
                repr(shard.file[:100]),
                "a bare file name",
                "the metadata are damaged",
                path=path,
                action=PREPARE_AGAIN,
            )
        total = sum(shard.records for shard in shards)
        RecordsError.unless(
            metadata.counts[split] == total,
            f"counts.{split}",
            metadata.counts[split],
            f"{total}, the sum over its shards",
            problem,
            path=path,
            action=PREPARE_AGAIN,
        )
    files = Counter(shard.file for split in SPLITS for shard in metadata.shards[split])
    twice = sorted(name for name, times in files.items() if times > 1)
    RecordsError.unless(not twice, "shards", ", ".join(twice), "each file once", problem, path=path)


def require_truth(metadata: DatasetMetadata, folder: str | PathLike[str], purpose: str) -> None:
    """Raises a RecordsError, which names the purpose, if the records hold no fine truth."""
    if not metadata.has_truth:
        problem = f"the records hold no fine truth, which {purpose}"
        action = "Prepare the records again with --truth GLOB, or from pairs or fine scenes."
        raise RecordsError(problem, path=folder, field="has_truth", action=action)


def _making_anew(content: dict[str, Any]) -> str:
    """Says how to make records of version 1 anew, from what they tell of their sources."""
    words = ["keras-lstsr", "prepare", "--input"]
    for role, prefix in (("lst", ""), ("ndvi", "ndvi=")):
        paths = [Path(each["path"]) for each in content.get("sources", ()) if each["role"] == role]
        # All files of the same folder and kind.
        patterns = dict.fromkeys(f"{prefix}{path.parent}/*{path.suffix}" for path in paths)
        words += [*(["--guide"] if prefix and patterns else []), *patterns]
    command = shlex.join([*words, "--output", "DIR"])
    return f"Make them again, with the same options (settings in the file): {command}"
