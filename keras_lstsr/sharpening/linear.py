"""TsHARP, ATPRK and AATPRK: a linear trend of the guides, and its residual on the fine grid.

All three take coarse LST ``[h, w]``, NaN where missing; a guide ``[H, W]`` or guides ``[K, H, W]``
on the fine grid, NaN where missing; and how many fine pixels lie along a coarse pixel's side. They
return ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
missing and nowhere else. A coarse pixel counts by the part of it that the guides cover. Bounded
results keep within the range of LST around and three quarters of its width: see ``bounds.bound``.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import unknown
from keras_lstsr.grids.resample import coarse_guide_and_share, upsample_nearest
from keras_lstsr.sharpening.bounds import bound
from keras_lstsr.sharpening.detail import Detail, fit_detail
from keras_lstsr.sharpening.kriging import apply_weights, kriged_residual, weights_for
from keras_lstsr.sharpening.regression import (
    COHERENT,
    LinearFit,
    LocalFits,
    fine_trend,
    global_fit,
    guide_bands,
    local_fits,
    pixels_of_fit,
    upsampled_residual,
)
from keras_lstsr.sharpening.variogram import Deconvolution

Upsampling = Callable[[NDArray[np.floating]], NDArray[np.floating]]

# Coarse rows that are worked on at a time, which bounds the memory.
_STRIP_ROWS = 64


def tsharp(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    residual: str = "bicubic",
    regression: str = "scene",
    regression_radius: int = 2,
    prior_pixels: float = 16.0,
    min_lst_kelvin: float | None = None,
    bounded: bool | None = None,
    water: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Sharpens LST by its linear relation to the guides; see the module for arrays.

    Args:
        lst_kelvin: Coarse LST.
        guide: One or several guides.
        factor: Fine pixels along a coarse pixel's side.
        residual: How what the guides leave unexplained comes onto the fine grid:
            ``"bicubic"``, ``"bilinear"``, ``"block"`` (as published) or ``"kriging"``.
        regression: ``"scene"`` fits one relation (as published), ``"local"`` one for the detail
            of each window; see ``detail.fit_detail``.
        regression_radius: Local windows have ``2 · regression_radius + 1`` coarse pixels along a
            side.
        prior_pixels: Draws local slopes towards the scene's.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.
        bounded: Whether the result is bounded; ``None``: with local regression alone, since one
            relation for the scene is as published.
        water: The share of water, 0 to 1, ``[H, W]``, which local regressions tell from land.

    Raises:
        ConfigError: If an option is unknown or out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Agam et al. (2007), "A vegetation index based technique for spatial sharpening of
    thermal imagery"; the residual is replicated there.
    """
    if regression not in ("scene", "local"):
        raise unknown("option", regression, ("scene", "local"), field="regression")
    bands = guide_bands(lst_kelvin, guide, factor)
    if regression == "local":
        detail = fit_detail(
            lst_kelvin,
            bands,
            factor,
            water=water,
            radius_pixels=regression_radius,
            prior_pixels=prior_pixels,
            min_lst_kelvin=min_lst_kelvin,
        )
        result = _with_detail(lst_kelvin, detail, factor, _upsampling(residual, factor))
    else:
        result = _with_trend(
            lst_kelvin,
            bands,
            factor,
            lambda left: upsampled_residual(left, factor, residual),
            min_lst_kelvin=min_lst_kelvin,
        )
    if regression == "local" if bounded is None else bounded:
        bound(result, lst_kelvin, factor, keep_means=residual in COHERENT)
    return result


def atprk(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    radius: int = 2,
    range_pixels: float | None = None,
    min_lst_kelvin: float | None = None,
    report: Deconvolution | None = None,
    bounded: bool = False,
) -> NDArray[np.floating]:
    """Sharpens LST by area-to-point regression kriging; see the module for arrays.

    One regression for the scene; the mean over a coarse pixel is its LST.

    Args:
        lst_kelvin: Coarse LST.
        guide: One or several guides.
        factor: Fine pixels along a coarse pixel's side.
        radius: Kriging windows have ``2 · radius + 1`` coarse pixels along a side.
        range_pixels: Range of the residual's point variogram in coarse pixels; by default fitted.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.
        report: ``"averaged"`` or ``"verbatim"`` works as the routines of the two papers do; see
            ``kriging.kriged_residual``.
        bounded: Whether the result is bounded; as published it is not.

    Raises:
        ConfigError: If an option is out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Wang et al. (2015), "Downscaling MODIS images with area-to-point regression kriging".
    """
    result = _with_trend(
        lst_kelvin,
        guide_bands(lst_kelvin, guide, factor),
        factor,
        lambda left: kriged_residual(
            left, factor, radius=radius, range_pixels=range_pixels, report=report
        ),
        min_lst_kelvin=min_lst_kelvin,
    )
    if bounded:
        bound(result, lst_kelvin, factor, keep_means=True)
    return result


def aatprk(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    regression_radius: int = 2,
    prior_pixels: float = 16.0,
    range_pixels: float | None = None,
    min_lst_kelvin: float | None = None,
    report: Deconvolution | None = None,
    bounded: bool | None = None,
    water: NDArray[np.floating] | None = None,
) -> NDArray[np.floating]:
    """Sharpens LST by adaptive area-to-point regression kriging: a regression for each window.

    Errors and the mean over a coarse pixel are as of ``atprk``; see the module for arrays.

    Args:
        lst_kelvin: Coarse LST.
        guide: One or several guides.
        factor: Fine pixels along a coarse pixel's side.
        regression_radius: Regression windows have ``2 · regression_radius + 1`` coarse pixels
            along a side. Slopes are of the windows' detail; see ``detail.fit_detail``.
        prior_pixels: Draws the windows' slopes towards the scene's.
        range_pixels: As of ``atprk``.
        min_lst_kelvin: As of ``atprk``.
        report: As of ``atprk``; then it is ordinary least squares in the windows, as published,
            and the outer ``regression_radius`` coarse rows and columns have the scene's
            regression.
        bounded: Whether the result is bounded; ``None``: unless by ``report``.
        water: As of ``tsharp``; of no effect with ``report``.

    Source: Wang, Shi & Atkinson (2016), "Area-to-point regression kriging for pan-sharpening":
    the adaptive scheme.
    """
    bands = guide_bands(lst_kelvin, guide, factor)
    if report is None:
        detail = fit_detail(
            lst_kelvin,
            bands,
            factor,
            water=water,
            radius_pixels=regression_radius,
            prior_pixels=prior_pixels,
            min_lst_kelvin=min_lst_kelvin,
        )
        upsampling = _upsampling("kriging", factor, range_pixels)
        result = _with_detail(lst_kelvin, detail, factor, upsampling)
    else:
        result = _with_trend(
            lst_kelvin,
            bands,
            factor,
            lambda left: kriged_residual(left, factor, range_pixels=range_pixels, report=report),
            radius_pixels=regression_radius,
            min_lst_kelvin=min_lst_kelvin,
        )
    if report is None if bounded is None else bounded:
        bound(result, lst_kelvin, factor, keep_means=True)
    return result


def _with_trend(
    lst_kelvin: NDArray[np.floating],
    bands: NDArray[np.floating],
    factor: int,
    upsample: Upsampling,
    *,
    radius_pixels: int | None = None,
    min_lst_kelvin: float | None = None,
) -> NDArray[np.floating]:
    """Carries the relation of LST to the guides to the fine grid, and adds what it leaves."""
    coarse, share = coarse_guide_and_share(bands, factor)
    usable = pixels_of_fit(lst_kelvin, coarse, min_lst_kelvin=min_lst_kelvin)
    scene = global_fit(lst_kelvin, coarse, usable=usable, weights=share)
    fit: LinearFit | LocalFits = scene
    if radius_pixels is not None:
        fit = local_fits(
            lst_kelvin,
            coarse,
            scene,
            usable=usable,
            radius_pixels=radius_pixels,
            whole_windows=True,
        )
    left = (lst_kelvin - fit.trend(coarse)).astype(lst_kelvin.dtype)
    result = upsample(left)
    result += fine_trend(fit, bands, factor, result.dtype)
    return result


def _upsampling(
    residual: str, factor: int, range_pixels: float | None = None
) -> Callable[[NDArray[np.floating]], Upsampling]:
    """Returns what makes of a residual the way to upsample ``[N, h, w]`` that suits it.

    That is linear.
    """
    if residual != "kriging":
        return lambda _: (
            lambda planes: np.stack(
                [upsampled_residual(plane, factor, residual) for plane in planes]
            )
        )

    def kriging(left: NDArray[np.floating]) -> Upsampling:
        weights = weights_for(left, factor, range_pixels=range_pixels)
        return lambda planes: apply_weights(planes, weights)

    return kriging


def _with_detail(
    lst_kelvin: NDArray[np.floating],
    detail: Detail,
    factor: int,
    upsampling: Callable[[NDArray[np.floating]], Upsampling],
) -> NDArray[np.floating]:
    """Upsampled LST and slopes times the guides less the guides upsampled in the same way.

    With slopes that are the same everywhere, that is the trend and its upsampled residual.
    """
    there = np.isfinite(lst_kelvin) & (detail.share > 0)
    seen = np.where(there, detail.coarse, np.nan)
    level = np.nanmean(seen, axis=(1, 2), keepdims=True)
    trend = np.sum(detail.slopes * (seen - level), axis=0)
    upsample = upsampling(lst_kelvin - trend)
    level = np.where(there, lst_kelvin, np.nan)[None]
    result, *rest = upsample(np.concatenate([level, seen]).astype(lst_kelvin.dtype))
    for band, smooth, slope in zip(detail.bands, rest, detail.slopes, strict=True):
        for top in range(0, len(slope), _STRIP_ROWS):
            rows = slice(top, top + _STRIP_ROWS)
            fine = slice(top * factor, (top + _STRIP_ROWS) * factor)
            result[fine] += upsample_nearest(slope[rows], factor) * (band[fine] - smooth[fine])
    result[~np.isfinite(result)] = np.nan
    return result
