"""A scene before nesting, each raster on a grid of its own; and how far its truth lies off.

Each truth is matched with the sharpened LST of the same scene. To score with, the robust centre of
the set is the shift of all: one scene alone is uncertain by some tenths of a pixel, and a shift of
its own would let each result fit its truth better than it is. To learn from, each truth is wanted
exactly where it belongs, and single scenes lie up to half a pixel off the set; so each is moved by
its own shift where that is clear, and else by the set's.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.config.guides import is_regressor
from keras_lstsr.errors import ProductError
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.registration import ConstantShift, Shift, constant_shift, coregister, shifted
from keras_lstsr.grids.resample import block_mean, finer_window
from keras_lstsr.grids.warp import (
    CLEARLY_FINER,
    guide_on_fine_grid,
    relative_pixel_size,
    warp_area,
    warp_bilinear,
    warp_spline,
)
from keras_lstsr.records.sample import Encoding, Sample
from keras_lstsr.records.schema import Origin
from keras_lstsr.sharpening import SharpeningWarning, sharpen

ASTER_MINIMUM_KELVIN = 270.0
"""What is colder in ASTER's LST is a ring that its resampling left."""

ASTER_ERODED_PIXELS = 6
"""By how much ASTER's usable pixels are eroded: the ring fades into good pixels."""

Coregistration = Literal["none", "pixel", "subpixel", "both"]
"""What to score with: the truth where it says it lies (``none``), shifted by the set's shift in
whole pixels (``pixel``) or in fractions (``subpixel``), or ``none`` and ``pixel`` (``both``)."""

REFERENCE_METHOD = "tsharp"
# Where there is no guide, LST's own texture is what there is to match with.
_REFERENCE_WITHOUT_GUIDE = "bicubic"

# Of a shift's prominence. The 54 real pairs have 0.21 to 0.72; noise has next to none.
LEAST_SHIFT_QUALITY = 0.1


@dataclass(frozen=True, eq=False)
class SceneSample:
    """Coarse LST, its guides and its truth as they were delivered.

    Attributes:
        name: Names the scene in its set.
        group: Scenes of one group share ground; folds and the bootstrap take whole groups.
        day_night: ``day``, ``night`` or ``unknown``.
        lst: Coarse LST in kelvin, ``[h, w]``, NaN where missing, with CRS and transform.
        guides: Name → raster on any grid of its own, NaN where missing.
        truth: True fine LST in kelvin on any grid of its own, NaN where missing; None without.
        files: Name of each file that it was read from → SHA-256.
        origin: ``observed`` where LST and truth are of two instruments; ``degraded`` where LST was
            made from this truth, which then lies in its place and needs no mask.
        product: E.g. ``MOD11A1``.
        tile: E.g. ``h18v04``; "" outside MODIS tiles.
        acquisition_date: ISO date; "" if unknown.
        sensor: Instrument that measured the truth or, without truth, LST; "" if unknown.
    """

    name: str
    group: str
    day_night: str
    lst: xr.DataArray
    guides: Mapping[str, xr.DataArray] = field(default_factory=dict)
    truth: xr.DataArray | None = None
    files: Mapping[str, str] = field(default_factory=dict)
    origin: Origin = "observed"
    product: str = ""
    tile: str = ""
    acquisition_date: str = ""
    sensor: str = ""

    def load(self) -> SceneSample:
        """Returns itself: a scene that is in memory is a source of its own."""
        return self


class SampleSource(Protocol):
    """Something that yields a scene when it is wanted, so that a large set need not be held."""

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def group(self) -> str: ...  # noqa: D102

    def load(self) -> SceneSample:
        """Reads the scene."""
        ...


class FileSource(SampleSource, Protocol):
    """A scene in local files."""

    @property
    def paths(self) -> list[Path]:
        """Its files, that of LST first."""
        ...

    @property
    def partners(self) -> Mapping[str, Path]:
        """Role → the file that belongs to LST."""
        ...

    @property
    def guide_names(self) -> list[str]:
        """Names of the guides that it may have."""
        ...


def cropped_to_guides(scene: SceneSample, factor: int) -> SceneSample:
    """Crops LST to the coarse pixels that every guide covers whole, and the guides to that ground.

    Guides that no method regresses on (``Guide.regressor``) may lack anywhere.

    LST and guides need not share corners. What is cut off is what lies beyond the outermost rows
    and columns with a wholly covered pixel; pixels inside that a gap of a guide touches stay and
    are for the method to leave out.

    Args:
        scene: Any scene; without guides nothing is cut off.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        The scene with ``lst`` ``[h, w]`` and guides float32 ``[h · factor, w · factor]``, exactly
        nested in it; the truth whole. All rasters are ``[y, x]`` and north-up.

    Raises:
        ProductError: If the guides cover no pixel of LST whole.
        GridError: If a raster has no regular grid, or a guide does not fit; see
            ``grids.warp.guide_on_fine_grid``.
    """
    lst = placed(scene.lst, "lst")
    guides = {
        name: guide_on_fine_grid(guide, lst.grid, factor) for name, guide in scene.guides.items()
    }
    covered = np.ones(lst.grid.shape, np.bool_)
    for name, guide in guides.items():
        if not is_regressor(name):
            continue
        covered &= np.isfinite(block_mean(np.asarray(guide.values), factor))
        if not covered.any():
            raise ProductError("the guide covers no pixel of LST", path=scene.name, field=name)
    window = extent_of(covered)
    return replace(
        scene,
        lst=_window(lst.raster, window, 1),
        guides={name: _window(guide, window, factor) for name, guide in guides.items()},
        truth=None if scene.truth is None else placed(scene.truth, "truth").raster,
    )


def _window(raster: xr.DataArray, window: tuple[slice, slice], factor: int) -> xr.DataArray:
    fine = finer_window(window, factor)
    grid, part = Grid.of(raster).window(*fine), raster.variable[fine]
    return grid.raster(part, name=raster.name, attrs=raster.attrs, encoding=raster.encoding)


def nested(scene: SceneSample, factor: int, shift: Shift | None = None) -> Sample:
    """Brings LST, guides and truth onto nested grids: the whole scene as one sample.

    A truth of another instrument is moved by its shift, masked (see ``usable_truth``), and
    brought onto the fine grid by a cubic spline, which smooths less than bilinear interpolation;
    by area where its pixels are clearly finer than the fine grid's.

    Args:
        scene: Any scene.
        factor: Fine pixels along a coarse pixel's side.
        shift: How far the truth lies from where it says, in its own pixels.

    Raises:
        ProductError: If the guides cover no pixel of LST.
        GridError: If a raster does not fit.
    """
    scene = cropped_to_guides(scene, factor)
    return Sample(
        name=scene.name,
        lst_kelvin=_values(scene.lst),
        guides={name: _values(guide) for name, guide in scene.guides.items()},
        truth_kelvin=None if scene.truth is None else _truth_in_place(scene, factor, shift),
        grid=Grid.of(scene.lst, "lst"),
        scale_factor=factor,
        day_night=scene.day_night,
        product=scene.product,
        tile=scene.tile,
        acquisition_date=scene.acquisition_date,
        sensor=scene.sensor,
        origin=scene.origin,
        scene=scene.name,
        group=scene.group,
        encodings={
            name: Encoding.of(layer)
            for name, layer in {"lst_kelvin": scene.lst, **scene.guides}.items()
        },
    )


def _truth_in_place(scene: SceneSample, factor: int, shift: Shift | None) -> NDArray[np.float32]:
    truth = scene.truth
    assert truth is not None
    if scene.origin == "degraded":
        return _values(guide_on_fine_grid(truth, scene.lst, factor))
    if shift is not None:
        truth = shifted(truth, shift)
    fine = Grid.of(scene.lst, "lst").finer(factor)
    finer = relative_pixel_size(Grid.of(truth, "truth"), fine) < CLEARLY_FINER
    return _values((warp_area if finer else warp_spline)(truth.where(usable_truth(truth)), fine))


def _values(raster: xr.DataArray) -> NDArray[np.float32]:
    return np.asarray(raster.values, np.float32)


def usable_truth(truth: xr.DataArray) -> NDArray[np.bool_]:
    """Marks the pixels of a truth ``[H, W]`` in kelvin that are warm enough and far from others."""
    return eroded(np.asarray(truth.values) >= ASTER_MINIMUM_KELVIN, ASTER_ERODED_PIXELS)


def eroded(usable: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """Erodes a mask ``[H, W]`` by the four neighbours, step by step; beyond the border is False."""
    if pixels == 0:
        return usable
    return np.asarray(ndimage.binary_erosion(usable, iterations=pixels), dtype=np.bool_)


def extent_of(marked: NDArray[np.bool_], margin: int = 0) -> tuple[slice, slice]:
    """Returns rows and columns of the box around all marked pixels, widened by a margin."""
    slices = []
    for axis, length in enumerate(marked.shape):
        where = np.flatnonzero(marked.any(axis=1 - axis))
        slices.append(
            slice(max(int(where[0]) - margin, 0), min(int(where[-1]) + 1 + margin, length))
        )
    return slices[0], slices[1]


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
    progress: Callable[[str], None] | None = None,
) -> SetRegistration:
    """Finds the shift of a set of scenes; ``progress`` is called with each name once it is done.

    Raises:
        GridError: If no scene can be registered.
    """
    shifts: dict[str, Shift] = {}
    for source in sources:
        scene = cropped_to_guides(source.load(), factor)
        shift = shift_of_scene(scene, factor)
        if shift is not None:
            shifts[scene.name] = shift
        if progress is not None:
            progress(scene.name)
    found = list(shifts.values())
    return SetRegistration(shifts, constant_shift(found), constant_shift(found, round_to=1.0))


def shift_of_scene(scene: SceneSample, factor: int) -> Shift | None:
    """Finds how far a scene's truth lies from where it says, from this scene alone.

    It is matched with what TsHARP makes of the first guide: its detail is the guide's, which lies
    on LST's grid, and its sign and size are LST's. Without a guide it is matched with bicubic,
    with which the 54 pairs give the same whole pixels.

    Args:
        scene: As ``cropped_to_guides`` returns it.
        factor: Fine pixels along a coarse pixel's side.

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
