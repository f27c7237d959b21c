"""How far one raster lies off another, to a part of a pixel, found from the data alone.

Position errors of a pixel cost a comparison more than methods of sharpening differ by, so every
comparison of two sensors begins here:

1. ``coregister`` per pair: what lies off, against what is taken to lie right, on one grid;
2. ``constant_shift`` of the set: one pair's shift is as good as its texture, the set's is robust;
3. ``shifted``: the transform moves, no value is resampled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import RectBivariateSpline
from scipy.ndimage import gaussian_filter

from keras_lstsr.errors import GridError
from keras_lstsr.grids.axes import raster_name
from keras_lstsr.grids.grid import placed

Float64Array = NDArray[np.float64]
Sign = Literal["positive", "either"]

# A shift whose overlap holds less than this part of the valid pixels there could be tells nothing.
_LEAST_OVERLAP = 0.25
# Fewer pixels than this do not make a correlation.
_FEWEST_PIXELS = 25
# Variance below this part of the squared values is rounding noise of a constant image.
_CONSTANT = 1e-12
# The peak of a high-passed image has fallen off at this distance.
_PEAK_RADIUS_PIXELS = 3
# Median absolute deviation of a normal distribution, in standard deviations.
_MAD_OF_NORMAL = 0.6744897501960817


@dataclass(frozen=True)
class Shift:
    """What to add to a raster's position, in its own pixels, so that it lies on another.

    ``rows`` counts down, ``columns`` to the right: what ``moving[r, c]`` shows lies at
    ``(r + rows, c + columns)`` of the fixed raster. NaN where nothing could be found.

    Attributes:
        rows: Pixels to add to the row, negative for up.
        columns: Pixels to add to the column, negative for left.
        quality: How clear the finding is: the correlation at the peak minus the largest one at
            shifts three pixels or more away from it. 0 for noise, for a peak on the border of the
            search and where nothing was found; towards 1 for the same image with fine texture.
    """

    rows: float
    columns: float
    quality: float


@dataclass(frozen=True)
class ConstantShift(Shift):
    """The shift that a set of rasters has in common.

    Attributes:
        count: Shifts that it was made from.
        row_spread: Robust standard deviation of their rows, in pixels (before rounding).
        column_spread: Likewise of their columns.
    """

    count: int
    row_spread: float
    column_spread: float


def coregister(
    moving: xr.DataArray | NDArray[np.floating],
    fixed: xr.DataArray | NDArray[np.floating],
    *,
    max_shift_pixels: int = 5,
    upsample: int = 100,
    high_pass_sigma_pixels: float | None = 4.0,
    sign: Sign = "positive",
) -> Shift:
    """Finds the shift to add to ``moving`` so that it lies on ``fixed``.

    Both are high-passed, so that differences of calibration and broad gradients do not count, and
    correlated at every whole shift over the pixels valid in both there. Between whole shifts the
    correlations are interpolated by a cubic spline, which is where the sub-pixel part comes from.

    Both should show the same texture. To register fine LST to coarse LST and NDVI, sharpen the
    coarse LST with NDVI (TsHARP will do) and warp it onto the fine LST's grid: on the 54 real
    pairs this correlates at 0.73 in the median, bicubic LST at 0.56. NDVI itself, which is cold
    where it is high, serves with ``sign="either"``.

    Args:
        moving: ``[H, W]``; NaN where missing.
        fixed: ``[H, W]`` on the same grid; NaN where missing.
        max_shift_pixels: Largest shift along either axis that is tried.
        upsample: The shift is found to ``1 / upsample`` of a pixel.
        high_pass_sigma_pixels: Standard deviation of the Gaussian that is taken off; ``None``
            takes off the mean alone.
        sign: ``"positive"`` where bright is bright in both; ``"either"`` where it may be dark.

    Returns:
        The shift. Its parts are NaN and its quality 0 where an image is constant or too little is
        valid in both; its quality is 0 where the peak lies on the border of the search.

    Raises:
        GridError: If the shapes or the grids differ, or a setting is impossible.

    Source: Padfield (2012), IEEE Transactions on Image Processing 21, 2706-2718, eq. 17-24: the
    masked normalised cross-correlation, summed here directly, as only small shifts matter.
    """
    _check_settings(max_shift_pixels, upsample, high_pass_sigma_pixels, sign)
    moving, fixed = _on_one_grid(moving, fixed)
    surface = _correlations(
        _high_passed(np.asarray(moving, np.float64), high_pass_sigma_pixels),
        _high_passed(np.asarray(fixed, np.float64), high_pass_sigma_pixels),
        max_shift_pixels,
    )
    if sign == "either":
        surface = np.abs(surface)
    if not np.isfinite(surface).any():
        return Shift(math.nan, math.nan, 0.0)
    peak = np.unravel_index(np.nanargmax(surface), surface.shape)
    row, column = int(peak[0]), int(peak[1])
    on_border = {row, column} & {0, 2 * max_shift_pixels}
    # A hole in the surface (too little overlap) leaves nothing to interpolate over.
    if on_border or not np.isfinite(surface).all():
        quality = 0.0 if on_border else _prominence(surface, row, column)
        return Shift(float(row - max_shift_pixels), float(column - max_shift_pixels), quality)
    sub_row, sub_column = _between_pixels(surface, row, column, upsample)
    return Shift(
        sub_row - max_shift_pixels,
        sub_column - max_shift_pixels,
        _prominence(surface, row, column),
    )


def constant_shift(shifts: Sequence[Shift], *, round_to: float | None = None) -> ConstantShift:
    """Finds the shift that a set has in common: the median, weighted by quality, of each axis.

    Rasters of one origin are often off by one shift, e.g. where a corner was taken for a centre.
    A median over the set finds it where single pairs scatter, and a few wrong ones do no harm.

    For figures that are to stand beside published ones of the MODIS-ASTER benchmark use
    ``round_to=1.0``: those were scored after a shift of whole pixels, (−1, −1). Their 54 pairs
    give (−0.77, −1.02) with a spread of (0.10, 0.39), which rounds to it. The fraction is real:
    unrounded it lowers the bias-free error of TsHARP by a further 0.025 K, and single pairs'
    shifts by 0.075 K, of bicubic by 0.005 K and 0.015 K; so say which was applied.

    Args:
        shifts: Shifts of rasters with one pixel size. Those without quality are left out.
        round_to: Pixels that the result is a multiple of, e.g. 1.0 for whole pixels; ``None``
            leaves it as found.

    Returns:
        The shift. Its quality is the median quality of the shifts used.

    Raises:
        GridError: If no shift has any quality, or ``round_to`` is not positive.
    """
    GridError.unless(round_to is None or round_to > 0, "round_to", round_to, "above 0")
    used = [s for s in shifts if s.quality > 0 and math.isfinite(s.rows + s.columns)]
    if not used:
        raise GridError(
            "no raster could be registered",
            field="shifts",
            found=f"{len(shifts)} shifts without quality",
            action="Raise max_shift_pixels, or check whether the rasters show the same ground.",
        )
    weights = np.array([s.quality for s in used])
    middles, spreads = [], []
    for values in (np.array([s.rows for s in used]), np.array([s.columns for s in used])):
        middle = _weighted_median(values, weights)
        spreads.append(_weighted_median(np.abs(values - middle), weights) / _MAD_OF_NORMAL)
        # Adding zero makes of −0.0, which rounding may give, 0.0.
        middles.append(round(middle / round_to) * round_to + 0.0 if round_to else middle)
    return ConstantShift(
        middles[0], middles[1], float(np.median(weights)), len(used), spreads[0], spreads[1]
    )


def shifted(raster: xr.DataArray, shift: Shift) -> xr.DataArray:
    """Moves a raster by its transform and coordinates; no value is resampled.

    Args:
        raster: ``[y, x]`` with CRS and coordinates.
        shift: What to add, in the raster's own pixels.

    Returns:
        The same values (not copied), attributes and encoding, elsewhere.

    Raises:
        GridError: If the shift is not finite, or the raster has no CRS or no regular north-up grid.
    """
    if not (math.isfinite(shift.rows) and math.isfinite(shift.columns)):
        raise GridError(
            "the raster cannot be moved by an unknown shift",
            path=raster.encoding.get("source"),
            field=raster_name(raster, "raster"),
            found=shift,
        )
    given = placed(raster, "raster")
    moved = given.grid.shifted(shift.rows, shift.columns).raster(
        given.raster.variable, name=raster.name, attrs=raster.attrs, encoding=raster.encoding
    )
    return given.as_given(moved)


def _check_settings(max_shift_pixels: int, upsample: int, sigma: float | None, sign: str) -> None:
    GridError.unless(max_shift_pixels >= 2, "max_shift_pixels", max_shift_pixels, "2 or more")
    GridError.unless(upsample >= 1, "upsample", upsample, "1 or more")
    wide = sigma is None or sigma > 0
    GridError.unless(wide, "high_pass_sigma_pixels", sigma, "above 0, or None")
    GridError.unless(sign in ("positive", "either"), "sign", sign, "positive or either")


def _on_one_grid(
    moving: xr.DataArray | NDArray[np.floating], fixed: xr.DataArray | NDArray[np.floating]
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Returns the values, north-up where the rasters say which way that is."""
    if isinstance(moving, np.ndarray) or isinstance(fixed, np.ndarray):
        values = np.asarray(moving), np.asarray(fixed)
        same = values[0].ndim == 2 and values[0].shape == values[1].shape
        found, expected = f"shapes {moving.shape} and {fixed.shape}", "one shape [H, W]"
    else:
        ours, theirs = placed(moving, "moving"), placed(fixed, "fixed")
        values = np.asarray(ours.raster.values), np.asarray(theirs.raster.values)
        grids = ours.grid, theirs.grid
        same = grids[0].shape == grids[1].shape and grids[0].offset_in(grids[1]) == (0, 0)
        found = " and ".join(f"{grid.shape} pixels, {grid.transform[:6]}" for grid in grids)
        expected = "one shape, one transform and one CRS"
    problem = "the rasters to register are not on one grid"
    action = "Warp the fixed raster onto the moving one's grid."
    GridError.unless(same, "moving, fixed", found, expected, problem, action=action)
    return values


def _high_passed(
    image: Float64Array, sigma: float | None
) -> tuple[Float64Array, NDArray[np.bool_]]:
    """Returns the image less its surroundings, 0 where missing, and where it is valid."""
    valid = np.isfinite(image)
    if not valid.any():
        return np.zeros_like(image), valid
    filled = np.where(valid, image - image[valid].mean(), 0.0)
    if sigma is None:
        return filled, valid
    # Weights are renormalised over the valid pixels: a gap is no cold spot.
    weight = gaussian_filter(valid.astype(np.float64), sigma, mode="constant")
    smooth = gaussian_filter(filled, sigma, mode="constant") / np.where(valid, weight, 1.0)
    return np.where(valid, filled - smooth, 0.0), valid


def _correlations(
    moving: tuple[Float64Array, NDArray[np.bool_]],
    fixed: tuple[Float64Array, NDArray[np.bool_]],
    reach: int,
) -> Float64Array:
    """Masked normalised cross-correlation at whole shifts, ``[2 · reach + 1, 2 · reach + 1]``.

    NaN where too little overlaps or an image is constant there.
    """
    image, mask = moving
    parts_moving = (mask.astype(np.float64), image, image**2)
    image, mask = fixed
    parts_fixed = (mask.astype(np.float64), image, image**2)
    enough = max(_FEWEST_PIXELS, _LEAST_OVERLAP * min(parts_moving[0].sum(), parts_fixed[0].sum()))
    surface = np.full((2 * reach + 1, 2 * reach + 1), np.nan)
    for i, j in np.ndindex(*surface.shape):
        here, there = _overlap(parts_moving[0].shape, i - reach, j - reach)
        m, a, aa = (part[here] for part in parts_moving)
        n, b, bb = (part[there] for part in parts_fixed)
        count = _dot(m, n)
        if count < enough:
            continue
        sum_a, sum_b = _dot(a, n), _dot(m, b)
        power_a, power_b = _dot(aa, n), _dot(m, bb)
        variance_a, variance_b = power_a - sum_a**2 / count, power_b - sum_b**2 / count
        if variance_a > _CONSTANT * parts_moving[2].sum() + _CONSTANT * count and (
            variance_b > _CONSTANT * parts_fixed[2].sum() + _CONSTANT * count
        ):
            covariance = _dot(a, b) - sum_a * sum_b / count
            surface[i, j] = covariance / math.sqrt(variance_a * variance_b)
    return surface


def _overlap(
    shape: tuple[int, ...], rows: int, columns: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
    """Windows of the moving and the fixed image that lie on each other after a whole shift."""
    here, there = [], []
    for length, shift in zip(shape, (rows, columns), strict=True):
        here.append(slice(max(0, -shift), max(0, length - max(0, shift))))
        there.append(slice(max(0, shift), max(0, length - max(0, -shift))))
    return (here[0], here[1]), (there[0], there[1])


def _dot(left: Float64Array, right: Float64Array) -> float:
    return float(np.einsum("ij,ij->", left, right))


def _prominence(surface: Float64Array, row: int, column: int) -> float:
    rows, columns = np.indices(surface.shape)
    reach = surface.shape[0] // 2
    far = np.hypot(rows - row, columns - column) >= min(_PEAK_RADIUS_PIXELS, reach)
    return max(0.0, float(surface[row, column] - np.nanmax(surface[far], initial=-1.0)))


def _between_pixels(
    surface: Float64Array, row: int, column: int, upsample: int
) -> tuple[float, float]:
    """Returns where the surface's interpolation is highest within a pixel of its peak."""
    places = np.arange(surface.shape[0], dtype=np.float64)
    spline = RectBivariateSpline(places, places, surface, kx=3, ky=3)
    steps = np.arange(-upsample, upsample + 1) / upsample
    fine = spline(row + steps, column + steps)
    i, j = np.unravel_index(np.argmax(fine), fine.shape)
    return float(row + steps[i]), float(column + steps[j])


def _weighted_median(values: Float64Array, weights: Float64Array) -> float:
    """The value with half of the weight on either side; between two where it splits evenly."""
    order = np.argsort(values)
    values, below = values[order], np.cumsum(weights[order])
    half = below[-1] / 2
    first = int(np.searchsorted(below, half * (1 - 1e-12)))
    if first + 1 < len(values) and math.isclose(below[first], half, rel_tol=1e-12):
        return float((values[first] + values[first + 1]) / 2)
    return float(values[first])
