"""Area-to-point kriging of a coarse residual: weights solved once, applied as a convolution.

The weights of a whole window are the same everywhere. Where pixels of the window are missing,
in a gap or beyond the border, the system is that of the remaining pixels. It need not be set up
anew: with ``Q`` the inverse of the whole system, kriging from the remaining pixels is the same
as filling the missing ones with ``−Q_MM⁻¹ Q_MV · r_V`` and applying the whole window's weights
(block inversion). That is one small system per coarse pixel, solved in batches of equal size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, unknown
from keras_lstsr.sharpening.fallback import warn
from keras_lstsr.sharpening.variogram import (
    DEFAULT_RANGE_PIXELS,
    LONGEST_RANGE_PIXELS,
    SHORTEST_RANGE_PIXELS,
    Deconvolution,
    PointVariogram,
    block_semivariance,
    empirical_semivariogram,
    fit_as_published,
    fit_point_variogram,
    point_to_block_semivariance,
)

# Windows that are held at a time, and numbers in a batch of small systems; both bound memory.
_WINDOWS_AT_A_TIME = 1 << 16
_NUMBERS_AT_A_TIME = 1 << 21


@dataclass(frozen=True)
class KrigingWeights:
    """Area-to-point kriging within one window.

    Attributes:
        weights: ``[factor², n]``: weights of the window's ``n`` coarse pixels for each fine pixel
            of the middle one, both in row-major order. Rows sum to one; the mean of the rows is
            one at the middle pixel and zero elsewhere, so that block means are kept.
        inverse: ``[n, n]``, the upper left part of the kriging system's inverse.
        factor: Fine pixels along a coarse pixel's side.
        radius: The window has ``2 · radius + 1`` pixels along a side.
    """

    weights: NDArray[np.float64]
    inverse: NDArray[np.float64]
    factor: int
    radius: int


def kriging_weights(range_pixels: float, factor: int, radius: int = 2) -> KrigingWeights:
    """Solves ordinary area-to-point kriging for the middle pixel of a window.

    The sill cancels, so only the range of the exponential point model matters, in coarse pixels.

    Source: Kyriakidis (2004), "A geostatistical framework for area-to-point spatial
    interpolation".
    """
    side = 2 * radius + 1
    positions = np.argwhere(np.ones((side, side)))
    count = len(positions)
    steps = np.abs(positions[:, None] - positions[None])
    # Lags are the positions themselves, counted from the window's corner.
    between = block_semivariance(positions, range_pixels, factor)
    blocks = between[steps[..., 0] * side + steps[..., 1]]
    points = point_to_block_semivariance(radius, range_pixels, factor)
    # With a long range all semivariances are small beside the sill: scaled, the system is sound.
    scale = blocks.max()
    system: NDArray[np.float64] = np.ones((count + 1, count + 1))
    system[:count, :count] = blocks / scale
    system[count, count] = 0.0
    inverse = np.asarray(np.linalg.inv(system), np.float64)
    right = np.ones((count + 1, factor**2))
    right[:count] = points.T / scale
    weights = np.asarray(np.linalg.solve(system, right)[:count].T, np.float64)
    return KrigingWeights(weights, inverse[:count, :count], factor, radius)


def apply_weights(
    residual_kelvin: NDArray[np.floating], kriging: KrigingWeights, *, border: bool = True
) -> NDArray[np.floating]:
    """Kriges every fine pixel from the coarse pixels of its window that are there.

    ``residual_kelvin`` is ``[h, w]``, or ``[N, h, w]`` for several rasters with the same gaps,
    whose systems are then solved at once. Without ``border`` windows that reach beyond the raster
    are not solved for the pixels inside: the outer ``radius`` coarse rows and columns get 0, as in
    the two papers.

    Returns:
        ``[h · factor, w · factor]``, or several, of the same float type. NaN over the fine pixels
        of a gap and nowhere else; the block means are the coarse residual.
    """
    radius, factor = kriging.radius, kriging.factor
    height, width = residual_kelvin.shape[-2:]
    planes = residual_kelvin.reshape(-1, height, width)
    margin = ((0, 0), (radius, radius), (radius, radius))
    padded = np.pad(planes.astype(np.float64), margin, constant_values=np.nan)
    side = 2 * radius + 1
    windows = sliding_window_view(padded, (side, side), axis=(1, 2))
    result = np.empty((len(planes), height, factor, width, factor), residual_kelvin.dtype)
    rows_at_a_time = max(1, _WINDOWS_AT_A_TIME // max(width, 1))
    for top in range(0, height, rows_at_a_time):
        rows = slice(top, min(top + rows_at_a_time, height))
        pixels = _krige(windows[:, rows].reshape(len(planes), -1, side**2), kriging)
        blocks = pixels.reshape(len(planes), -1, width, factor, factor)
        result[:, rows] = np.swapaxes(blocks, 2, 3)
    if not border:
        inside = np.zeros((height, width), bool)
        inside[radius : height - radius, radius : width - radius] = True
        outside = ~inside & ~np.isnan(planes)
        result[np.broadcast_to(outside[:, :, None, :, None], result.shape)] = 0.0
    return result.reshape(*residual_kelvin.shape[:-2], height * factor, width * factor)


def _krige(windows: NDArray[np.float64], kriging: KrigingWeights) -> NDArray[np.float64]:
    """Kriges the middle pixels of windows ``[K, N, n]``; returns ``[K, N, factor²]``."""
    result = np.full((*windows.shape[:2], len(kriging.weights)), np.nan)
    there = ~np.isnan(windows[0, :, windows.shape[2] // 2])
    values = windows[:, there]
    missing = np.isnan(values[0])
    counts = missing.sum(axis=1)
    values[:, missing] = 0.0
    for count in np.unique(counts[counts > 0]):
        members = np.flatnonzero(counts == count)
        batch = max(1, _NUMBERS_AT_A_TIME // int(count) ** 2)
        for start in range(0, len(members), batch):
            chosen = members[start : start + batch]
            values[:, chosen] = _completed(values[:, chosen], missing[chosen], kriging.inverse)
    result[:, there] = values @ kriging.weights.T
    return result


def _completed(
    values: NDArray[np.float64], missing: NDArray[np.bool_], inverse: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Fills the missing pixels, equally many in each window, from those that are there."""
    count = int(missing[0].sum())
    where = np.nonzero(missing)[1].reshape(-1, count)
    systems = inverse[where[:, :, None], where[:, None, :]]
    right = np.take_along_axis(values @ inverse, where[None], axis=2)
    found = -np.linalg.solve(systems, np.moveaxis(right, 0, -1))
    filled = values.copy()
    filled[:, missing] = np.moveaxis(found, -1, 0).reshape(len(values), -1)
    return filled


def kriged_residual(
    residual_kelvin: NDArray[np.floating],
    factor: int,
    *,
    radius: int = 2,
    range_pixels: float | None = None,
    report: Deconvolution | None = None,
) -> NDArray[np.floating]:
    """Measures the variogram of a residual ``[h, w]``, deconvolves it and kriges the residual.

    Args:
        residual_kelvin: NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        radius: Windows have ``2 · radius + 1`` coarse pixels along a side.
        range_pixels: Range of the exponential point model in coarse pixels; by default fitted.
        report: Works as the routines of the two papers do: mean variogram over windows, free
            fits (``"averaged"``, or ``"verbatim"`` with the routines' slip), and no residual in
            the outer ``radius`` coarse rows and columns.

    Returns:
        ``[h · factor, w · factor]`` in kelvin of the same float type; NaN over the fine pixels of
        a gap and nowhere else.

    Raises:
        ConfigError: If an option is out of its range.
    """
    kriging = weights_for(
        residual_kelvin, factor, radius=radius, range_pixels=range_pixels, report=report
    )
    return apply_weights(residual_kelvin, kriging, border=report is None)


def weights_for(
    residual_kelvin: NDArray[np.floating],
    factor: int,
    *,
    radius: int = 2,
    range_pixels: float | None = None,
    report: Deconvolution | None = None,
) -> KrigingWeights:
    """Returns the weights that ``kriged_residual`` applies; see there for arguments and errors."""
    ConfigError.unless(radius >= 1, "radius", radius, "at least 1")
    ConfigError.unless(
        range_pixels is None or range_pixels > 0, "range_pixels", range_pixels, "> 0"
    )
    if report not in (None, *get_args(Deconvolution)):
        raise unknown("option", report, get_args(Deconvolution), field="report")
    if range_pixels is None:
        range_pixels = residual_variogram(residual_kelvin, factor, radius, report).range_pixels
    return kriging_weights(range_pixels, factor, radius)


def residual_variogram(
    residual_kelvin: NDArray[np.floating],
    factor: int,
    radius: int = 2,
    report: Deconvolution | None = None,
) -> PointVariogram:
    """Returns the point variogram behind a coarse residual; see ``kriged_residual``."""
    if report is None:
        return fit_point_variogram(empirical_semivariogram(residual_kelvin, radius), factor)
    measured = empirical_semivariogram(residual_kelvin, radius, "windows")
    point = fit_as_published(measured, factor, report)[1]
    usable = SHORTEST_RANGE_PIXELS <= point.range_pixels < np.inf
    if not usable:
        warn(
            f"the variogram's fit ended at a range of {point.range_pixels:.3g} coarse pixels: "
            f"kriging continues with {DEFAULT_RANGE_PIXELS:g}"
        )
        return PointVariogram(point.sill_kelvin2, DEFAULT_RANGE_PIXELS)
    # Beyond the longest range the model is a straight line, whatever its range.
    return PointVariogram(point.sill_kelvin2, min(point.range_pixels, 10 * LONGEST_RANGE_PIXELS))
