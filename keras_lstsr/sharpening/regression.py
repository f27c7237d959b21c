"""LST explained by guides: least squares at coarse resolution, and what they leave unexplained.

The fit is one for the scene, or one per window; the residual is brought onto the fine grid.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, GridError, unknown
from keras_lstsr.grids.resample import interpolated, upsample_nearest
from keras_lstsr.sharpening.fallback import ConstantGuideError

RESIDUALS = ("block", "bilinear", "bicubic", "kriging")
COHERENT = ("block", "kriging")
"""Ways to upsample whose block means are the coarse pixels."""

# A guide whose standard deviation is this small beside its size is constant but for rounding.
_CONSTANT = 1e-6
# Windows whose guides' correlation matrix has a smaller determinant decide nothing.
_SMALLEST_DETERMINANT = 1e-6
# Window rows that are solved at a time, which bounds the memory for the normal equations.
_STRIP_ROWS = 64


@dataclass(frozen=True)
class LinearFit:
    """``LST = intercept + Σ slope · guide``, for the whole scene.

    Attributes:
        intercept_kelvin: LST where all guides are zero.
        slopes: ``[K]`` kelvin per unit of each guide; 0 for a constant guide.
        constant: ``[K]``, whether the guide is constant over the pixels of the fit.
        means: ``[K]`` of the guides over the pixels of the fit.
        deviations: ``[K]`` standard deviations of the guides over the pixels of the fit.
    """

    intercept_kelvin: float
    slopes: NDArray[np.float64]
    constant: NDArray[np.bool_]
    means: NDArray[np.float64]
    deviations: NDArray[np.float64]

    def trend(self, guide: NDArray[np.floating]) -> NDArray[np.float64]:
        """Applies the fit to guides ``[K, ..., ...]``; NaN where a guide is NaN."""
        # A product of matrices may leave a slope of 0 out, and with it the guide's NaN.
        return self.intercept_kelvin + np.einsum("k,k...->...", self.slopes, guide)


@dataclass(frozen=True)
class LocalFits:
    """``LST = intercept + Σ slope · guide``, for each coarse pixel.

    Attributes:
        intercepts_kelvin: ``[h, w]``.
        slopes: ``[K, h, w]`` kelvin per unit of each guide.
        local: ``[h, w]``, false where the scene's fit had to do.
    """

    intercepts_kelvin: NDArray[np.float64]
    slopes: NDArray[np.float64]
    local: NDArray[np.bool_]

    def trend(self, guide: NDArray[np.floating]) -> NDArray[np.float64]:
        """Applies the fits to coarse guides ``[K, h, w]``; NaN where a guide is NaN."""
        return self.intercepts_kelvin + np.sum(self.slopes * guide, axis=0)


def pixels_of_fit(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    *,
    min_lst_kelvin: float | None = None,
) -> NDArray[np.bool_]:
    """Says which coarse pixels ``[h, w]`` a fit may use: those that have LST and all guides.

    Pixels as cold as ``min_lst_kelvin`` or colder are left out.
    """
    usable = np.isfinite(lst_kelvin) & np.isfinite(guide).all(axis=0)
    if min_lst_kelvin is not None:
        usable &= np.nan_to_num(lst_kelvin, nan=-np.inf) > min_lst_kelvin
    return usable


def global_fit(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    *,
    usable: NDArray[np.bool_] | None = None,
    weights: NDArray[np.floating] | None = None,
) -> LinearFit:
    """Fits LST ``[h, w]`` to coarse guides ``[K, h, w]`` by least squares.

    Constant guides get slope 0; of guides that depend linearly on each other, the solution with
    the smallest standardised slopes is taken. Pixels of the fit are the usable ones, by default
    all where LST and guides are there; ``weights`` ``[h, w]`` of 0 to 1, such as the part of a
    pixel that the guides cover, tell how much of a pixel each of them counts, by default whole.

    Raises:
        ConstantGuideError: If all guides are constant, or fewer than ``K + 2`` pixels are usable.
    """
    usable = pixels_of_fit(lst_kelvin, guide) if usable is None else usable
    y = lst_kelvin[usable].astype(np.float64)
    x = guide[:, usable].astype(np.float64)
    count = len(x)
    if y.size < count + 2:
        raise ConstantGuideError(
            "too few pixels have both LST and guide",
            field="guide",
            found=f"{y.size} coarse pixels",
            expected=f"at least {count + 2}",
        )
    w = np.ones(y.size) if weights is None else weights[usable].astype(np.float64)
    means, level = np.average(x, axis=1, weights=w), np.average(y, weights=w)
    deviations = np.sqrt(np.average((x - means[:, None]) ** 2, axis=1, weights=w))
    constant = deviations <= _CONSTANT * np.abs(x).max(axis=1)
    if constant.all():
        raise ConstantGuideError(
            "the guide is constant where LST is there", field="guide", found=str(means[0])
        )
    scale = np.where(constant, 1.0, deviations)
    standardised = np.where(constant[:, None], 0.0, (x - means[:, None]) / scale[:, None])
    root = np.sqrt(w)
    slopes = np.linalg.lstsq((root * standardised).T, root * (y - level), rcond=1e-8)[0] / scale
    return LinearFit(float(level - slopes @ means), slopes, constant, means, deviations)


def local_fits(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    scene: LinearFit,
    *,
    usable: NDArray[np.bool_] | None = None,
    radius_pixels: int = 2,
    min_share: float = 2 / 3,
    whole_windows: bool = False,
) -> LocalFits:
    """Fits LST to guides in a square window around each coarse pixel.

    Args:
        lst_kelvin: ``[h, w]``; NaN where missing.
        guide: Coarse guides ``[K, h, w]``; NaN where missing.
        scene: Stands in where a window has too few pixels or its guides are constant.
        usable: Pixels of the fits; by default all where LST and guides are there.
        radius_pixels: Windows have ``2 · radius + 1`` pixels along a side.
        min_share: A window counts if more than this part of its pixels inside the raster is
            usable.
        whole_windows: Windows that reach beyond the raster do not count.

    Returns:
        The fits, everywhere finite.

    Raises:
        ConfigError: If ``radius_pixels`` is out of its range.

    Source: Wang, Shi & Atkinson (2016), "Area-to-point regression kriging for pan-sharpening":
    the adaptive scheme.
    """
    ConfigError.unless(radius_pixels >= 1, "regression_radius", radius_pixels, "at least 1")
    usable = pixels_of_fit(lst_kelvin, guide) if usable is None else usable
    count, height, width = guide.shape
    # A guide that is constant over the scene decides nothing in a window either.
    varying = np.flatnonzero(~scene.constant)
    means, scale = (part[varying, None, None] for part in (scene.means, scene.deviations))
    # Distances from the scene's fit, in the guides' spreads: sums stay small and exact.
    x = np.where(usable, (guide[varying] - means) / scale, 0.0)
    y = np.where(usable, lst_kelvin - scene.trend(guide), 0.0)
    intercepts = np.full((height, width), scene.intercept_kelvin)
    slopes = np.broadcast_to(scene.slopes[:, None, None], guide.shape).copy()
    enough = _windows_that_count(usable, radius_pixels, min_share, count, whole_windows)
    local = np.zeros((height, width), bool)
    for top in range(0, height, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, height))
        good, departure, level = _Strip(x, y, usable, rows, radius_pixels).solve()
        good &= enough[rows]
        local[rows] = good
        # Back from standardised departures to slopes of the guides themselves.
        change = np.where(good, np.moveaxis(departure, -1, 0) / scale, 0.0)
        slopes[varying, rows] += change
        intercepts[rows] += np.where(good, level - np.sum(change * means, axis=0), 0.0)
    return LocalFits(intercepts, slopes, local)


def _windows_that_count(
    usable: NDArray[np.bool_], radius: int, min_share: float, guides: int, whole: bool
) -> NDArray[np.bool_]:
    pixels = window_sums(usable.astype(np.float64), radius)
    inside = window_sums(np.ones(usable.shape), radius)
    # Sums of ones are whole numbers; the small margin keeps a share of just 2/3 out.
    enough = (pixels > min_share * inside + 1e-9) & (pixels >= guides + 2)
    return enough & (inside == (2 * radius + 1) ** 2) if whole else enough


def window_sums(values: NDArray[np.floating], radius: int) -> NDArray[np.float64]:
    """Sums windows over the last two axes; beyond the raster there is nothing."""
    result = np.asarray(values, np.float64)
    for axis in (-2, -1):
        length = result.shape[axis]
        padding = [(0, 0)] * result.ndim
        padding[axis] = (radius, radius)
        padded = np.moveaxis(np.pad(result, padding), axis, 0)
        summed = np.zeros(padded[:length].shape)
        for start in range(2 * radius + 1):
            summed += padded[start : start + length]
        result = np.moveaxis(summed, 0, axis)
    return result


class _Strip:
    """The normal equations of all windows centred in some rows."""

    def __init__(
        self,
        x: NDArray[np.float64],
        y: NDArray[np.float64],
        usable: NDArray[np.bool_],
        rows: slice,
        radius: int,
    ) -> None:
        top, bottom = max(rows.start - radius, 0), min(rows.stop + radius, x.shape[1])
        inner = slice(rows.start - top, rows.stop - top)
        x, y = x[:, top:bottom], y[top:bottom]
        pixels = window_sums(usable[top:bottom].astype(np.float64), radius)[inner]
        self.pixels = np.maximum(pixels, 1.0)
        sum_x = np.moveaxis(window_sums(x, radius)[:, inner], 0, -1)
        sum_y = window_sums(y, radius)[inner]
        sum_xy = np.moveaxis(window_sums(x * y, radius)[:, inner], 0, -1)
        sum_xx = np.moveaxis(
            window_sums(x[:, None] * x[None], radius)[..., inner, :], (0, 1), (2, 3)
        )
        self.mean_x = sum_x / self.pixels[..., None]
        self.mean_y = sum_y / self.pixels
        self.xy = sum_xy - sum_x * self.mean_y[..., None]
        self.xx = sum_xx - sum_x[..., :, None] * self.mean_x[..., None, :]

    def solve(self) -> tuple[NDArray[np.bool_], NDArray[np.float64], NDArray[np.float64]]:
        """Returns which windows have a solution, departures of slopes, and of the intercept."""
        count = self.xx.shape[-1]
        spread = np.sqrt(np.maximum(np.diagonal(self.xx, axis1=-2, axis2=-1), 0.0))
        # x is in units of the scene's spread: smaller ones in a window are rounding.
        varies = np.all(spread > 1e-5 * np.sqrt(self.pixels)[..., None], axis=-1, keepdims=True)
        spread = np.where(varies, spread, 1.0)
        correlation = self.xx / (spread[..., :, None] * spread[..., None, :])
        good = varies[..., 0] & (np.linalg.det(correlation) > _SMALLEST_DETERMINANT)
        correlation = np.where(good[..., None, None], correlation, np.eye(count))
        departure = np.linalg.solve(correlation, (self.xy / spread)[..., None])[..., 0] / spread
        level = self.mean_y - np.sum(departure * self.mean_x, axis=-1)
        return good, departure, level


def fine_trend(
    fit: LinearFit | LocalFits,
    guide: NDArray[np.floating],
    factor: int,
    dtype: np.dtype | type = np.float64,
) -> NDArray[np.floating]:
    """Applies a fit to guides ``[K, H, W]`` on the fine grid: ``[H, W]`` in kelvin.

    NaN where any guide is. The fit of a coarse pixel holds over all its fine pixels.
    """
    _, height, width = guide.shape
    result = np.empty((height, width), dtype)
    for top in range(0, height // factor, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, height // factor))
        fine = slice(rows.start * factor, rows.stop * factor)
        strip: NDArray[np.floating]
        if isinstance(fit, LinearFit):
            strip = fit.trend(guide[:, fine])
        else:
            strip = upsample_nearest(fit.intercepts_kelvin[rows], factor)
            for slopes, band in zip(fit.slopes[:, rows], guide[:, fine], strict=True):
                strip = strip + upsample_nearest(slopes, factor) * band
        result[fine] = np.where(np.isfinite(strip), strip, np.nan)
    return result


def guide_bands(
    lst_kelvin: NDArray[np.floating], guide: NDArray[np.floating], factor: int
) -> NDArray[np.floating]:
    """Returns a guide ``[H, W]`` or ``[K, H, W]`` as the latter; it must lie on LST's fine grid.

    Raises:
        GridError: If a shape does not fit.
    """
    if lst_kelvin.ndim != 2:
        raise GridError("LST is not one band", found=f"shape {lst_kelvin.shape}", expected="h, w")
    bands = guide[None] if guide.ndim == 2 else guide
    expected = tuple(factor * length for length in lst_kelvin.shape)
    if bands.ndim != 3 or len(bands) == 0 or bands.shape[1:] != expected:
        raise GridError(
            "the guide does not lie on LST's fine grid",
            field="guide",
            found=f"shape {guide.shape}",
            expected=f"{expected[0]} × {expected[1]} pixels, {factor} times LST's",
            action="keras_lstsr.sharpen brings rasters there by their coordinates.",
        )
    return bands


def upsampled_residual(
    residual_kelvin: NDArray[np.floating], factor: int, how: str = "bicubic"
) -> NDArray[np.floating]:
    """Brings the coarse residual ``[h, w]``, NaN where missing, onto the fine grid.

    ``"block"`` repeats it, ``"bilinear"`` and ``"bicubic"`` interpolate it, ``"kriging"`` is
    area-to-point kriging with the residual's own variogram.

    Returns:
        ``[h · factor, w · factor]`` in kelvin of the same float type. A gap stays a gap over its
        own fine pixels and spoils no other; the weights of the valid pixels sum to one. The
        block means of ``"block"`` and ``"kriging"`` are the coarse residual.

    Raises:
        ConfigError: If ``how`` is unknown.
    """
    if how == "block":
        return upsample_nearest(residual_kelvin, factor)
    if how in ("bilinear", "bicubic"):
        return interpolated(residual_kelvin, factor, how)
    if how == "kriging":
        from keras_lstsr.sharpening.kriging import kriged_residual

        return kriged_residual(residual_kelvin, factor)
    raise unknown("way to upsample the residual", how, RESIDUALS, field="residual")
