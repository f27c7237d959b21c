"""How far the truth of a set of pairs lies from where it says, found from the data alone.

Each pair's truth is matched with the sharpened LST of the same pair, and the robust centre of the
set is the shift of all: one pair alone is uncertain by some tenths of a pixel, and a shift of its
own would let each pair's result fit its truth better than it is.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from keras_lstsr.grids.registration import ConstantShift, Shift, constant_shift, coregister
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.pairs.files import Pair, PairSource, cropped_to_guide
from keras_lstsr.pairs.masks import (
    ASTER_ERODED_PIXELS,
    ASTER_MINIMUM_KELVIN,
    eroded,
    extent_of,
)
from keras_lstsr.sharpening import sharpen
from keras_lstsr.sharpening.fallback import SharpeningWarning

Coregistration = Literal["none", "pixel", "subpixel", "both"]
"""What to score with: the truth where it says it lies (``none``), shifted by the set's shift in
whole pixels (``pixel``) or in fractions (``subpixel``), or ``none`` and ``pixel`` (``both``)."""

REFERENCE_METHOD = "tsharp"

Reference = Callable[[xr.DataArray, xr.DataArray], xr.DataArray]
"""Coarse LST and its nested guide → fine LST whose texture the truth is matched with."""


@dataclass(frozen=True)
class SetRegistration:
    """The shifts of a set of pairs, in pixels of the truth, to be added to the truth's position.

    Attributes:
        shifts: Pair → its own shift.
        constant: The shift of the whole set, in fractions of a pixel.
        whole_pixels: The same in whole pixels. Errors of indexing are whole pixels and the same for
            every pair; the rest is geolocation, which differs from pair to pair.
    """

    shifts: dict[str, Shift]
    constant: ConstantShift
    whole_pixels: ConstantShift


def register_pairs(
    sources: Sequence[PairSource],
    factor: int,
    *,
    reference: Reference | None = None,
    progress: Callable[[str], None] | None = None,
) -> SetRegistration:
    """Finds the shift of a set of pairs.

    The reference is by default TsHARP: its detail is the guide's, which lies on LST's grid, and
    its sign and size are LST's. With bicubic upsampling the 54 pairs give the same whole pixels.

    Args:
        sources: The pairs.
        factor: Fine pixels along a coarse pixel's side.
        reference: What to match the truth with.
        progress: Called with each pair's name once it is done.

    Returns:
        The pairs' shifts and the set's.

    Raises:
        GridError: If no pair can be registered.
    """
    shifts: dict[str, Shift] = {}
    for source in sources:
        pair = cropped_to_guide(source.load(), factor)
        shift = shift_of_pair(pair, factor, reference=reference)
        if shift is not None:
            shifts[pair.name] = shift
        if progress is not None:
            progress(pair.name)
    found = list(shifts.values())
    return SetRegistration(shifts, constant_shift(found), constant_shift(found, round_to=1.0))


def shift_of_pair(pair: Pair, factor: int, *, reference: Reference | None = None) -> Shift | None:
    """Finds how far a pair's truth lies from where it says, from this pair alone.

    Args:
        pair: As ``cropped_to_guide`` returns it.
        factor: Fine pixels along a coarse pixel's side.
        reference: What to match the truth with; TsHARP by default.

    Returns:
        The shift in the truth's pixels, without quality where nothing could be found; None where
        no pixel has both LST and guide.
    """
    guided = np.isfinite(block_mean(np.asarray(pair.guide.values), factor))
    if not (guided & np.isfinite(pair.lst.values)).any():
        return None
    if reference is not None:
        return _shift_of(pair.truth, reference(pair.lst, pair.guide))
    with warnings.catch_warnings():
        # A reference that fell back to bicubic still registers, and nobody reads its detail.
        warnings.simplefilter("ignore", SharpeningWarning)
        sharpened = sharpen(pair.lst, pair.guide, method=REFERENCE_METHOD, factor=factor)
    return _shift_of(pair.truth, sharpened)


def _shift_of(truth: xr.DataArray, reference: xr.DataArray) -> Shift:
    usable = eroded(np.asarray(truth.values) >= ASTER_MINIMUM_KELVIN, ASTER_ERODED_PIXELS)
    fixed = warp_bilinear(reference, truth)
    both = usable & np.isfinite(np.asarray(fixed.values))
    if not both.any():
        return Shift(math.nan, math.nan, 0.0)
    rows, columns = extent_of(both)
    part = {"y": rows, "x": columns}
    return coregister(truth.where(usable).isel(part), fixed.isel(part))
