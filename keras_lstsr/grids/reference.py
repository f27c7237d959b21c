"""The detail that fine LST has on a ground, date by date and in the mean of several dates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from keras_lstsr.errors import GridError
from keras_lstsr.grids.degradation import GaussianPsf
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.warp import guide_on_fine_grid

# What MODIS sees in a 1 km pixel, over all view angles, is about as wide as this many pixels.
_FWHM_COARSE_PIXELS = 1.6
# Share of the Gaussian's weight that must lie on valid pixels.
_LEAST_WEIGHT = 0.5
# Fewer dates than this cannot say which of them is wrong.
_FEWEST_DATES = 3
_CLIP_DEVIATIONS = 3.0
# Between clear dates of one ground the detail scatters by about as much.
_LEAST_DEVIATION_KELVIN = 0.5
# Standard deviation of a normal distribution, in median absolute deviations.
_NORMAL_OF_MAD = 1.482602218505602
# Correlations with the median of the others from which on a date counts, and counts in full.
_CORRELATIONS = (0.1, 0.3)
_FEWEST_PIXELS = 25
# Values of the stack that are sorted at a time, which bounds the memory.
_VALUES_AT_A_TIME = 4_000_000


def detail_of(fine_lst: xr.DataArray, factor: int = 4) -> xr.DataArray:
    """Returns fine LST less itself as seen at about 1 km.

    That is a mean over valid pixels, weighted by a Gaussian with a full width at half maximum of
    1.6 coarse pixels.

    Args:
        fine_lst: ``[y, x]`` in kelvin with CRS and coordinates, pixels of about 250 m; NaN where
            missing.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[y, x]`` in kelvin, of the same float type, on the same grid. NaN where the pixel is
        missing or less than half of the Gaussian's weight lies on valid pixels.

    Raises:
        GridError: If it is no raster with a CRS and a regular grid, or the factor is not
            positive.
    """
    GridError.unless(factor > 0, "factor", factor, "1 or more")
    given = placed(fine_lst, "fine_lst")
    values = np.asarray(given.raster.values)
    valid = np.isfinite(values)
    sigma = GaussianPsf.of_fwhm(_FWHM_COARSE_PIXELS).sigma_pixels * factor
    # Small numbers keep the rounding small.
    middle = float(values[valid].mean(dtype=np.float64)) if valid.any() else 0.0
    known = np.where(valid, values.astype(np.float64) - middle, 0.0)
    weight = gaussian_filter(valid.astype(np.float64), sigma, mode="constant")
    seen = gaussian_filter(known, sigma, mode="constant")
    enough = valid & (weight >= _LEAST_WEIGHT)
    smooth = np.divide(seen, weight, out=np.zeros_like(seen), where=enough)
    detail = np.where(enough, known - smooth, np.nan).astype(values.dtype)
    attributes = {"units": "kelvin", "long_name": "detail of LST"}
    return given.as_given(given.grid.raster(detail, name="detail", attrs=attributes))


def mean_detail(details: Sequence[xr.DataArray], grid: Grid) -> xr.Dataset:
    """Averages the detail of several dates, robust against clouds that were not masked.

    Where three dates or more are there, values further than three robust standard deviations
    (1.48 median absolute deviations, 0.5 K or more) from their median are left out. A date whose
    detail does not agree with the median of the others, where at least two of them are there,
    counts less from a correlation of 0.3 downwards, and not at all from 0.1 downwards.

    Args:
        details: Detail of each date in kelvin, ``[y, x]`` with CRS and coordinates, of
            ``detail_of``; pixels at most 1.5 times as wide as the grid's; NaN where missing.
        grid: Where the mean is wanted.

    Returns:
        ``reference`` ``[y, x]`` float32 in kelvin, NaN where no date counts; and ``date_count``
        ``[y, x]`` uint16, the number of dates in it. The attribute ``date_weights`` says how far
        each date counts, 0 to 1.

    Raises:
        GridError: If there is no detail, or one cannot be brought onto the grid.
    """
    GridError.unless(bool(details), "details", "none", "one or more", "there is no detail")
    # What lies on the grid's pixels is not copied.
    layers = [np.asarray(guide_on_fine_grid(detail, grid, 1).values) for detail in details]
    weights = np.ones(len(layers))
    if len(layers) >= _FEWEST_DATES:
        weights = _agreement(layers)
    mean = np.full(grid.shape, np.nan, np.float32)
    count = np.zeros(grid.shape, np.uint16)
    kept = [layer for layer, weight in zip(layers, weights, strict=True) if weight > 0]
    for rows, strip in _strips(kept):
        there = _plausible(strip)
        total = np.einsum("n,nij->ij", weights[weights > 0], np.where(there, strip, 0.0))
        weight = np.einsum("n,nij->ij", weights[weights > 0], there.astype(np.float64))
        count[rows] = there.sum(axis=0)
        np.divide(total, weight, out=mean[rows], where=weight > 0, casting="same_kind")
    variables = {
        "reference": xr.Variable(
            ("y", "x"), mean, {"units": "kelvin", "long_name": "the detail of LST on other dates"}
        ),
        "date_count": xr.Variable(("y", "x"), count, {"long_name": "number of dates"}),
    }
    return grid.dataset(variables, {"date_weights": weights.tolist()})


def _strips(
    layers: Sequence[NDArray[np.floating]],
) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yields rows, and all layers there as ``[N, rows, W]``."""
    if not layers:
        return
    height, width = layers[0].shape
    step = max(1, _VALUES_AT_A_TIME // (len(layers) * width))
    for top in range(0, height, step):
        rows = slice(top, top + step)
        yield rows, np.stack([layer[rows] for layer in layers]).astype(np.float64)


def _plausible(stack: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Marks the values ``[N, H, W]`` that are there and not far from their pixel's others."""
    there = np.isfinite(stack)
    if len(stack) < _FEWEST_DATES:
        return there
    count = there.sum(axis=0)
    distance = np.abs(stack - _median(stack, count))
    deviation = np.fmax(_NORMAL_OF_MAD * _median(distance, count), _LEAST_DEVIATION_KELVIN)
    limit = np.where(count >= _FEWEST_DATES, _CLIP_DEVIATIONS * deviation, np.inf)
    return there & (distance <= limit)


def _median(stack: NDArray[np.float64], count: NDArray[np.intp]) -> NDArray[np.float64]:
    """Median over the dates of the values that are there; NaN where none is."""
    ordered = np.sort(stack, axis=0)  # NaN comes last
    below, above = (_at(ordered, place) for place in ((count - 1) // 2, count // 2))
    return (below + above) / 2


def _median_without(
    own: NDArray[np.float64], ordered: NDArray[np.float64], others: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Median of ``others`` values, which are all in ``ordered`` but one that equals ``own``."""
    parts = []
    for place in ((others - 1) // 2, others // 2):
        value = _at(ordered, place)
        parts.append(np.where(value < own, value, _at(ordered, place + 1)))
    return np.asarray((parts[0] + parts[1]) / 2)


def _at(ordered: NDArray[np.float64], place: NDArray[np.intp]) -> NDArray[np.float64]:
    inside = np.clip(place, 0, len(ordered) - 1)[None]
    return np.asarray(np.take_along_axis(ordered, inside, 0)[0])


def _agreement(layers: Sequence[NDArray[np.floating]]) -> NDArray[np.float64]:
    """Weights of the dates, 0…1, by the correlation of each with the median of the others.

    A date that can't be compared, as too few pixels are shared or it is flat, has the weight 1.
    """
    moments = np.zeros((len(layers), 6))
    for _, strip in _strips(layers):
        ordered = np.sort(strip, axis=0)
        count = np.isfinite(strip).sum(axis=0)
        for date, own in enumerate(strip):
            shared = np.isfinite(own) & (count >= _FEWEST_DATES)
            a, others = own[shared], ordered[:, shared]
            b = _median_without(a, others, count[shared] - 1)
            moments[date] += a.size, a.sum(), b.sum(), a @ a, b @ b, a @ b
    n, a, b, aa, bb, ab = moments.T
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt((aa - a * a / n) * (bb - b * b / n))
        correlation = (ab - a * b / n) / spread
    comparable = (n >= _FEWEST_PIXELS) & (spread > 1e-9 * np.sqrt(aa * bb)) & (spread > 0)
    low, high = _CORRELATIONS
    return np.where(comparable, np.clip((correlation - low) / (high - low), 0.0, 1.0), 1.0)
