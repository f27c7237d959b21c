"""How far the truth of scenes lies from where it says, found from the data alone.

Each truth is matched with the sharpened LST of the same scene. To score with, the robust centre of
the set is the shift of all: one scene alone is uncertain by some tenths of a pixel, and a shift of
its own would let each result fit its truth better than it is. To learn from, each truth is wanted
exactly where it belongs, and single scenes lie up to half a pixel off the set; so each is moved by
its own shift where that is clear, and else by the set's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr

from keras_lstsr.grids.registration import ConstantShift, Shift, constant_shift, coregister
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.records.scene_sample import (
    SampleSource,
    SceneSample,
    cropped_to_guides,
    extent_of,
    usable_truth,
)
from keras_lstsr.sharpening import sharpen
from keras_lstsr.sharpening.fallback import SharpeningWarning

Coregistration = Literal["none", "pixel", "subpixel", "both"]
"""What to score with: the truth where it says it lies (``none``), shifted by the set's shift in
whole pixels (``pixel``) or in fractions (``subpixel``), or ``none`` and ``pixel`` (``both``)."""

REFERENCE_METHOD = "tsharp"
# Where there is no guide, LST's own texture is what there is to match with.
_REFERENCE_WITHOUT_GUIDE = "bicubic"

# Of a shift's prominence. The 54 real pairs have 0.21 to 0.72; noise has next to none.
LEAST_SHIFT_QUALITY = 0.1

Reference = Callable[[xr.DataArray, xr.DataArray], xr.DataArray]
"""Coarse LST and its nested guide → fine LST whose texture the truth is matched with."""


@dataclass(frozen=True)
class SetRegistration:
    """The shifts of a set of scenes, in pixels of the truth, to be added to the truth's position.

    Attributes:
        shifts: Scene → its own shift.
        constant: The shift of the whole set, in fractions of a pixel.
        whole_pixels: The same in whole pixels, as errors of indexing are; the rest is geolocation,
            which differs from scene to scene.
    """

    shifts: dict[str, Shift]
    constant: ConstantShift
    whole_pixels: ConstantShift


def register_scenes(
    sources: Iterable[SampleSource],
    factor: int,
    *,
    reference: Reference | None = None,
    progress: Callable[[str], None] | None = None,
) -> SetRegistration:
    """Finds the shift of a set of scenes.

    The reference is by default TsHARP: its detail is the guide's, which lies on LST's grid, and
    its sign and size are LST's. With bicubic upsampling the 54 pairs give the same whole pixels.

    Args:
        sources: The scenes.
        factor: Fine pixels along a coarse pixel's side.
        reference: What to match the truth with.
        progress: Called with each scene's name once it is done.

    Raises:
        GridError: If no scene can be registered.
    """
    shifts: dict[str, Shift] = {}
    for source in sources:
        scene = cropped_to_guides(source.load(), factor)
        shift = shift_of_scene(scene, factor, reference=reference)
        if shift is not None:
            shifts[scene.name] = shift
        if progress is not None:
            progress(scene.name)
    found = list(shifts.values())
    return SetRegistration(shifts, constant_shift(found), constant_shift(found, round_to=1.0))


def shift_of_scene(
    scene: SceneSample, factor: int, *, reference: Reference | None = None
) -> Shift | None:
    """Finds how far a scene's truth lies from where it says, from this scene alone.

    Args:
        scene: As ``cropped_to_guides`` returns it; its first guide is the one that is used.
        factor: Fine pixels along a coarse pixel's side.
        reference: What to match the truth with; TsHARP by default, bicubic without a guide.

    Returns:
        The shift in the truth's pixels, of quality 0 where nothing could be found; None where
        there is no truth, or no pixel has both LST and guide.
    """
    if scene.truth is None:
        return None
    usable = np.isfinite(np.asarray(scene.lst.values))
    guide = next(iter(scene.guides.values()), None)
    if guide is not None:
        usable &= np.isfinite(block_mean(np.asarray(guide.values), factor))
    if not usable.any():
        return None
    if reference is not None and guide is not None:
        return _shift_of(scene.truth, reference(scene.lst, guide))
    method = _REFERENCE_WITHOUT_GUIDE if guide is None else REFERENCE_METHOD
    with warnings.catch_warnings():
        # A reference that fell back to bicubic still registers, and nobody reads its detail.
        warnings.simplefilter("ignore", SharpeningWarning)
        sharpened = sharpen(scene.lst, guide, method=method, factor=factor)
    return _shift_of(scene.truth, sharpened)


def _shift_of(truth: xr.DataArray, reference: xr.DataArray) -> Shift:
    usable = usable_truth(truth)
    fixed = warp_bilinear(reference, truth)
    both = usable & np.isfinite(np.asarray(fixed.values))
    if not both.any():
        return Shift(math.nan, math.nan, 0.0)
    rows, columns = extent_of(both)
    part = {"y": rows, "x": columns}
    return coregister(truth.where(usable).isel(part), fixed.isel(part))


def clear_shift(shift: Shift | None) -> Shift | None:
    """Returns a scene's own shift if it is clear enough to move its truth by, else None."""
    clear = shift is not None and shift.quality >= LEAST_SHIFT_QUALITY
    return shift if clear else None


def common_shift(shifts: Iterable[Shift | None]) -> ConstantShift | None:
    """Returns the shift of a set from the clear shifts of its scenes; None where none is clear."""
    clear = [shift for shift in map(clear_shift, shifts) if shift is not None]
    return constant_shift(clear) if clear else None
