"""ATPRK: one regression for the scene, and its residual kriged from areas to points."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.sharpening.kriging import kriged_residual
from keras_lstsr.sharpening.residual import trend_and_residual
from keras_lstsr.sharpening.variogram import Deconvolution


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
    """Sharpens LST by area-to-point regression kriging.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[H, W]`` or ``[K, H, W]`` on the fine grid; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        radius: Kriging windows have ``2 · radius + 1`` coarse pixels along a side.
        range_pixels: Range of the residual's point variogram in coarse pixels; by default fitted.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.
        report: ``"averaged"`` or ``"verbatim"`` works as the routines of the two papers do; see
            ``keras_lstsr.sharpening.kriging.kriged_residual``.

    Returns:
        ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
        missing and nowhere else. The mean over a coarse pixel is its LST.

    Raises:
        ConfigError: If an option is out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Wang et al. (2015), "Downscaling MODIS images with area-to-point regression kriging".
    """
    return trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: kriged_residual(
            left, factor, radius=radius, range_pixels=range_pixels, report=report
        ),
        min_lst_kelvin=min_lst_kelvin,
    )
