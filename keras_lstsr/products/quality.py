"""QC bit fields, named QC policies, and the reasons for which pixels are rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import unknown


class Rejection(IntEnum):
    """Why a pixel has no value. Where several reasons hold, the smallest code is given."""

    VALID = 0
    CLOUD = 1
    NOT_PRODUCED = 2
    FILL = 3
    OUT_OF_RANGE = 4
    QUALITY = 5
    UNDEFINED = 6


REASONS: dict[int, str] = {int(reason): reason.name.lower() for reason in Rejection}
"""Code -> name: valid, cloud, not_produced (sea and other), fill, out_of_range, quality (rejected
by the QC policy), undefined (NDVI where NIR + red is not positive)."""

POLICIES: dict[str, str] = {
    "strict": "good only: mandatory QC 00",
    "default": "good, and other quality with an LST error of at most 2 K",
    "lenient": "all that was produced",
}
"""QC policy -> what it accepts; see the look-up functions for reflectance."""


@dataclass(frozen=True)
class BitField:
    """Some bits of a QC number.

    Attributes:
        name: What the bits tell.
        shift: Position of the lowest bit, from 0.
        width: Number of bits.
        meanings: Code -> meaning; codes that are not listed are undefined.
    """

    name: str
    shift: int
    width: int
    meanings: dict[int, str] = dataclasses.field(hash=False)

    @property
    def bits(self) -> str:
        """The bits' positions as the user guides write them, e.g. ``"0-1"``."""
        last = self.shift + self.width - 1
        return str(self.shift) if self.width == 1 else f"{self.shift}-{last}"

    def decode(self, qc: NDArray[Any]) -> NDArray[Any]:
        """Returns the field's code for each QC number, same shape and type."""
        return (qc >> self.shift) & ((1 << self.width) - 1)


_NOT_PRODUCED = {2: "not produced, cloud", 3: "not produced, other reasons"}
_PRODUCED = {0: "produced, good quality", 1: "produced, other quality"}
MANDATORY = BitField("mandatory QA", 0, 2, _PRODUCED | _NOT_PRODUCED)
LST_ERROR = BitField("LST error", 6, 2, {0: "<= 1 K", 1: "<= 2 K", 2: "<= 3 K", 3: "> 3 K"})

# MODIS Land Surface Temperature Products User Guide (Wan), collections 6 and 6.1, QC_Day.
MOD11_QC: tuple[BitField, ...] = (
    MANDATORY,
    BitField("data quality", 2, 2, {0: "good", 1: "other"}),
    BitField("emissivity error", 4, 2, {0: "<= 0.01", 1: "<= 0.02", 2: "<= 0.04", 3: "> 0.04"}),
    LST_ERROR,
)

_BAND_QUALITY = {
    0: "highest quality",
    7: "noisy detector",
    8: "dead detector, interpolated in L1B",
    9: "solar zenith >= 86 degrees",
    10: "solar zenith >= 85 and < 86 degrees",
    11: "missing input",
    12: "climatology used for an atmospheric constant",
    13: "correction out of bounds, pixel constrained",
    14: "L1B data faulty",
    15: "not processed, deep ocean or cloud",
}
_IDEAL = {0: "ideal quality, all bands", 1: "less than ideal quality, some or all bands"}
MODLAND = BitField("MODLAND QA", 0, 2, _IDEAL | _NOT_PRODUCED)
RED_QUALITY = BitField("band 1 (red) quality", 4, 4, _BAND_QUALITY)
NIR_QUALITY = BitField("band 2 (NIR) quality", 8, 4, _BAND_QUALITY)

# MODIS Surface Reflectance User's Guide, collections 6 and 6.1, QC_250m_1.
MOD09GQ_QC: tuple[BitField, ...] = (
    MODLAND,
    RED_QUALITY,
    NIR_QUALITY,
    BitField("atmospheric correction", 12, 1, {0: "not done", 1: "done"}),
    BitField("adjacency correction", 13, 1, {0: "not done", 1: "done"}),
    BitField("different from 500 m product", 14, 1, {0: "no", 1: "yes"}),
)

# A band was measured, if not perfectly: noise, interpolation, climatology. A sun within 5 degrees
# of the horizon, missing input, an out-of-bounds correction and faulty L1B data are no measurement.
_BAND_CODES_BY_DEFAULT = (0, 7, 8, 12)


def check_policy(qc_policy: str) -> str:
    """Returns the policy's name, or raises.

    Raises:
        ConfigError: If there is no QC policy of that name.
    """
    if qc_policy not in POLICIES:
        raise unknown("QC policy", qc_policy, POLICIES, field="qc_policy")
    return qc_policy


def _by_production(qc: NDArray[Any], accepted: NDArray[np.bool_]) -> NDArray[np.uint8]:
    # Mandatory QA and MODLAND QA share position and meaning of "not produced".
    produced = MANDATORY.decode(qc)
    codes = np.where(accepted, Rejection.VALID, Rejection.QUALITY)
    codes = np.where(produced == 2, Rejection.CLOUD, codes)
    table = np.where(produced == 3, Rejection.NOT_PRODUCED, codes).astype(np.uint8)
    table.flags.writeable = False  # the tables are cached and shared
    return table


@cache
def mod11_rejection_table(qc_policy: str) -> NDArray[np.uint8]:
    """Tabulates the rejection code of each MOD11 QC number.

    Mandatory 00 is good whatever the other bits say. ``default`` also takes mandatory 01 with an
    LST error of at most 2 K (bits 6-7 are 00 or 01), ``lenient`` every mandatory 01.

    Returns:
        ``[256]``, to be indexed with QC_Day or QC_Night.

    Raises:
        ConfigError: If the policy is unknown.

    Source: MODIS LST Products User Guide, collection 6, QC bit definitions of MOD11A1.
    """
    check_policy(qc_policy)
    qc = np.arange(256)
    mandatory = MANDATORY.decode(qc)
    good = mandatory == 0
    accepted = {
        "strict": good,
        "default": good | ((mandatory == 1) & (LST_ERROR.decode(qc) <= 1)),
        "lenient": mandatory <= 1,
    }[qc_policy]
    return _by_production(qc, accepted)


@cache
def mod09gq_rejection_table(qc_policy: str, band_quality: BitField) -> NDArray[np.uint8]:
    """Tabulates the rejection code of each MOD09GQ QC number for one band.

    ``strict`` takes MODLAND 00 with the band's highest quality; ``default`` takes MODLAND 00 and
    01 where the band was measured (highest quality, noisy or interpolated detector, climatology
    for an atmospheric constant); ``lenient`` takes all that was produced.

    Returns:
        ``[65536]``, to be indexed with QC_250m_1.

    Raises:
        ConfigError: If the policy is unknown.

    Source: MODIS Surface Reflectance User's Guide, collection 6, 250 m QC description.
    """
    check_policy(qc_policy)
    qc = np.arange(65536)
    modland = MODLAND.decode(qc)
    band = band_quality.decode(qc)
    accepted = {
        "strict": (modland == 0) & (band == 0),
        "default": (modland <= 1) & np.isin(band, _BAND_CODES_BY_DEFAULT),
        "lenient": modland <= 1,
    }[qc_policy]
    return _by_production(qc, accepted)


def first_reason(codes: Iterable[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Combines rejection codes pixel by pixel: valid where all are, else the smallest reason."""
    # Valid (0) becomes 255 by wrapping round, so that the minimum is the smallest reason.
    shifted = [array - np.uint8(1) for array in codes]
    combined: NDArray[np.uint8] = np.minimum.reduce(shifted) + np.uint8(1)
    return combined


def count_reasons(codes: NDArray[np.uint8]) -> dict[str, int]:
    """Counts the rejected pixels by reason; reasons without a pixel are left out."""
    counts = np.bincount(codes.ravel(), minlength=len(REASONS))
    return {REASONS[code]: int(counts[code]) for code in list(REASONS)[1:] if counts[code]}


def quality_table(qc: NDArray[Any], fields: Sequence[BitField]) -> list[dict[str, Any]]:
    """Decodes a QC layer ``[H, W]`` and counts its codes.

    The first field says whether the pixel was produced; the others mean something, and are
    counted, only where it was.

    Returns:
        A row per bit field and code that is defined or occurs: ``field``, ``bits`` (positions,
        e.g. ``"0-1"``), ``code`` (bits as text, e.g. ``"01"``), ``meaning`` and ``pixels``.
    """
    numbers, pixels = np.unique(qc, return_counts=True)
    rows = []
    for field in fields:
        counts = np.bincount(field.decode(numbers), weights=pixels, minlength=1 << field.width)
        if field is fields[0]:
            produced = field.decode(numbers) <= 1
            numbers, pixels = numbers[produced], pixels[produced]
        for code, count in enumerate(counts.astype(int)):
            if code in field.meanings or count:
                row = {"field": field.name, "bits": field.bits, "code": f"{code:0{field.width}b}"}
                meaning = field.meanings.get(code, "undefined")
                rows.append({**row, "meaning": meaning, "pixels": int(count)})
    return rows
