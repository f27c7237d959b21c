"""The format of a records folder: features of a record, fields of ``dataset.json``, their version.

A records folder holds ``{train,validation,test}-?????-of-?????.tfrecord.gz``, ``dataset.json`` and
``dead_letter.json``. Each record is a ``tf.train.Example`` that holds one patch. This module is the
only place that knows the names; it imports no TensorFlow.
"""

from __future__ import annotations

import json
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keras_lstsr.errors import RecordsError

# Raised whenever a reader of the former version would misread the new one.
SCHEMA_VERSION = 1

DATASET_FILE = "dataset.json"
DEAD_LETTER_FILE = "dead_letter.json"
REJECTED_FILE = "rejected.json"
SHARD_GLOB = "{split}-?????-of-?????.tfrecord.gz"

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

Origin = Literal["observed", "degraded"]

# LST is cut together with a guide (NDVI) on the grid that is this much finer: 1 km to 250 m.
SCALE_FACTOR = 4


class Feature:
    """Names of the features of a ``tf.train.Example``.

    ``LST`` and ``NDVI`` are prefixes: a raster is stored as five features, ``<prefix>/values``
    (bytes, little-endian, row-major), ``<prefix>/dtype`` (one of ``STORED_DTYPES``),
    ``<prefix>/scale_offset`` (two little-endian float64), ``<prefix>/fill`` (int64) and
    ``<prefix>/shape`` (two int64). The value in physical units is
    ``float32(integer * scale + offset)``, computed in float64; kelvin for LST, no unit for NDVI.
    The integer ``fill`` (NaN for float32) marks missing pixels. NDVI's features are absent where a
    record has no guide.
    """

    SCHEMA_VERSION = "schema_version"
    LST = "lst_kelvin"
    NDVI = "ndvi"
    KEY = "key"
    GRANULE_ID = "granule_id"
    PRODUCT = "product"
    TILE = "tile"
    DATE = "acquisition_date"
    DAY_NIGHT = "day_night"
    ROW = "row"
    COLUMN = "column"
    PLACE = "place"
    SPLIT = "split"
    CRS_WKT = "crs_wkt"
    TRANSFORM = "transform"


# The types in which a raster is stored; both readers know just these.
STORED_DTYPES = ("uint16", "int16", "float32")

# Why a patch is rejected. A patch counts once, under the first reason that applies in this order:
# what the LST pixels lack, then the partner, then NDVI's pixels, then the split.
REJECTION_PRECEDENCE = (
    "cloud",
    "not_produced",
    "fill",
    "out_of_range",
    "quality",
    "no_ndvi_partner",
    "ndvi_missing",
    "straddles_splits",
    "split_mismatch",
)


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
    """How LST goes with NDVI on the LST's own grid (NDVI averaged over its 4 × 4 fine pixels).

    Attributes:
        count: Pixels where both are valid.
        covariance_kelvin: Population covariance in kelvin (NDVI has no unit).
        slope_kelvin: Least-squares slope dLST / dNDVI in kelvin; 0 where NDVI does not vary.
        correlation: Pearson's correlation; 0 where either does not vary.
        lst_std_kelvin: Standard deviation of LST over these pixels.
        ndvi_std: Standard deviation of NDVI over these pixels.
    """

    count: int
    covariance_kelvin: float
    slope_kelvin: float
    correlation: float
    lst_std_kelvin: float
    ndvi_std: float


class ShardInfo(_Document):
    """One shard: its file name, number of records and checksum."""

    file: str
    records: int
    sha256: str


class SourceInfo(_Document):
    """One input raster and what became of it.

    Attributes:
        path: As the job was given it.
        role: ``"lst"`` or ``"ndvi"``.
        valid_pixels: Valid pixels of the whole raster by layer (``day``, ``night``, ``unknown``,
            ``ndvi``) after the quality policy.
        missing_pixels: Missing pixels by layer and reason.
        candidates: Patches that were looked at, by layer.
        accepted: Patches that became records, by layer.
        rejected: Patches by layer and reason; each patch counts once (see
            ``REJECTION_PRECEDENCE``).
        ndvi_partner: Granule id of the NDVI raster used; "" without one.
    """

    path: str
    role: Literal["lst", "ndvi"]
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
    ndvi_partner: str = ""


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
        patch_size: LST pixels along a patch's side.
        stride: LST pixels between the corners of neighbouring patches.
        scale_factor: Guide pixels along an LST pixel's side.
        has_guide: Whether every record holds NDVI.
        counts: Records by split.
        counts_by_day_night: Records by split and ``day``, ``night`` or ``unknown``.
        places: Distinct places by split.
        rejected: Patches by reason over all sources.
        dead_letters: Inputs that could not be used; ``dead_letter.json`` says why.
        warnings: What an operator should know, e.g. an empty split.
        settings: Options of the job that determine the content.
        statistics: Of the training split alone: ``lst_kelvin``, ``lst_kelvin_day``,
            ``lst_kelvin_night``, ``lst_kelvin_unknown``, ``ndvi``, where there are such pixels.
        ndvi_relation: Of the training split alone, by ``all``, ``day``, ``night``, ``unknown``.
        shards: Shards by split.
        sources: All inputs that could be read.
    """

    schema_version: int
    package_version: str
    fingerprint: str
    patch_size: int
    stride: int
    scale_factor: int
    has_guide: bool
    counts: dict[Split, int]
    counts_by_day_night: dict[Split, dict[str, int]]
    places: dict[Split, int]
    rejected: dict[str, int]
    dead_letters: int
    warnings: list[str]
    settings: dict[str, Any]
    statistics: dict[str, Summary]
    ndvi_relation: dict[str, Relation]
    shards: dict[Split, list[ShardInfo]]
    sources: list[SourceInfo]

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
            f"the folder holds no {DATASET_FILE}, so it is no complete records folder",
            path=folder,
            action="Run `keras-lstsr prepare` again; it writes this file last.",
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise RecordsError(
            "the file cannot be read as JSON",
            path=path,
            found=str(error),
            action="Prepare the records again.",
        ) from error
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise RecordsError(
            "the records have another schema",
            path=path,
            field="schema_version",
            found=version,
            expected=SCHEMA_VERSION,
            action="Prepare the records again with this version of keras-lstsr.",
        )
    try:
        return DatasetMetadata.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise RecordsError(
            first["msg"],
            path=path,
            field=".".join(str(part) for part in first["loc"]),
            action="Prepare the records again.",
        ) from error
