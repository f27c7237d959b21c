"""TsHARP, ATPRK and AATPRK: a linear trend of the guides, and its residual on the fine grid.

All three take coarse LST ``[h, w]``, NaN where missing; a guide ``[H, W]`` or guides ``[K, H, W]``
on the fine grid, NaN where missing; and how many fine pixels lie along a coarse pixel's side. They
return ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
missing and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import unknown
from keras_lstsr.grids.resample import coarse_guide_and_share
from keras_lstsr.sharpening.kriging import kriged_residual
from keras_lstsr.sharpening.regression import (
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


def tsharp(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    residual: str = "bicubic",
    regression: str = "scene",
    regression_radius: int = 2,
    prior_pixels: float = 2.0,
    min_lst_kelvin: float | None = None,
) -> NDArray[np.floating]:
    """Sharpens LST by its linear relation to the guides; see the module for arrays.

    Args:
        lst_kelvin: Coarse LST.
        guide: One or several guides.
        factor: Fine pixels along a coarse pixel's side.
        residual: How what the guides leave unexplained comes onto the fine grid:
            ``"bicubic"``, ``"bilinear"``, ``"block"`` (as published) or ``"kriging"``.
        regression: ``"scene"`` fits one relation (as published), ``"local"`` one for each window.
        regression_radius: Local windows have ``2 · regression_radius + 1`` coarse pixels along a
            side.
        prior_pixels: Draws local slopes towards the scene's; see ``regression.local_fits``.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.

    Raises:
        ConfigError: If an option is unknown or out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Agam et al. (2007), "A vegetation index based technique for spatial sharpening of
    thermal imagery"; the residual is replicated there.
    """
    if regression not in ("scene", "local"):
        raise unknown("option", regression, ("scene", "local"), field="regression")
    return _trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: upsampled_residual(left, factor, residual),
        radius_pixels=regression_radius if regression == "local" else None,
        prior_pixels=prior_pixels,
        min_lst_kelvin=min_lst_kelvin,
    )


def atprk(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    radius: int = 2,
    range_pixels: float | None = None,
    min_lst_kelvin: float | None = None,
    report: Deconvolution | None = None,
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

    Raises:
        ConfigError: If an option is out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Wang et al. (2015), "Downscaling MODIS images with area-to-point regression kriging".
    """
    return _trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: kriged_residual(
            left, factor, radius=radius, range_pixels=range_pixels, report=report
        ),
        min_lst_kelvin=min_lst_kelvin,
    )


def aatprk(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int = 4,
    *,
    regression_radius: int = 2,
    prior_pixels: float = 2.0,
    radius: int = 2,
    range_pixels: float | None = None,
    min_lst_kelvin: float | None = None,
    report: Deconvolution | None = None,
) -> NDArray[np.floating]:
    """Sharpens LST by adaptive area-to-point regression kriging: a regression for each window.

    Errors and the mean over a coarse pixel are as of ``atprk``; see the module for arrays.

    Args:
        lst_kelvin: Coarse LST.
        guide: One or several guides.
        factor: Fine pixels along a coarse pixel's side.
        regression_radius: Regression windows have ``2 · regression_radius + 1`` coarse pixels
            along a side; those with too few pixels or no contrast take the scene's regression.
        prior_pixels: Draws the windows' slopes towards the scene's, as that many further pixels
            of the scene would, so that a window of little contrast decides little; 0 is
            ordinary least squares, as published.
        radius: As of ``atprk``.
        range_pixels: As of ``atprk``.
        min_lst_kelvin: As of ``atprk``.
        report: As of ``atprk``; then the outer ``regression_radius`` coarse rows and columns have
            the scene's regression, too.

    Source: Wang, Shi & Atkinson (2016), "Area-to-point regression kriging for pan-sharpening":
    the adaptive scheme.
    """
    return _trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: kriged_residual(
            left, factor, radius=radius, range_pixels=range_pixels, report=report
        ),
        radius_pixels=regression_radius,
        prior_pixels=0.0 if report else prior_pixels,
        whole_windows=report is not None,
        min_lst_kelvin=min_lst_kelvin,
    )


def _trend_and_residual(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int,
    upsample: Callable[[NDArray[np.floating]], NDArray[np.floating]],
    *,
    radius_pixels: int | None = None,
    prior_pixels: float = 0.0,
    whole_windows: bool = False,
    min_lst_kelvin: float | None = None,
) -> NDArray[np.floating]:
    """Carries the relation of LST to the guides to the fine grid, and adds what it leaves."""
    bands = guide_bands(lst_kelvin, guide, factor)
    coarse, share = coarse_guide_and_share(bands, factor)
    usable = pixels_of_fit(lst_kelvin, coarse, min_lst_kelvin=min_lst_kelvin, share=share)
    scene = global_fit(lst_kelvin, coarse, usable=usable)
    fit: LinearFit | LocalFits = scene
    if radius_pixels is not None:
        fit = local_fits(
            lst_kelvin,
            coarse,
            scene,
            usable=usable,
            radius_pixels=radius_pixels,
            whole_windows=whole_windows,
            prior_pixels=prior_pixels,
        )
    left = (lst_kelvin - fit.trend(coarse)).astype(lst_kelvin.dtype)
    result = upsample(left)
    result += fine_trend(fit, bands, factor, result.dtype)
    return result
