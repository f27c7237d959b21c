"""AATPRK: ATPRK with a regression for each window instead of one for the scene."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.sharpening.kriging import kriged_residual
from keras_lstsr.sharpening.residual import Windows, trend_and_residual
from keras_lstsr.sharpening.variogram import Deconvolution


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
    """Sharpens LST by adaptive area-to-point regression kriging.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[H, W]`` or ``[K, H, W]`` on the fine grid; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        regression_radius: Regression windows have ``2 · regression_radius + 1`` coarse pixels
            along a side; those with too few pixels or no contrast take the scene's regression.
        prior_pixels: Draws the windows' slopes towards the scene's, as that many further pixels
            of the scene would, so that a window of little contrast decides little; 0 is
            ordinary least squares, as published.
        radius: Kriging windows have ``2 · radius + 1`` coarse pixels along a side.
        range_pixels: Range of the residual's point variogram in coarse pixels; by default fitted.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.
        report: ``"averaged"`` or ``"verbatim"`` works as the routines of the two papers do: the
            scene's regression in the outer ``regression_radius`` coarse rows and columns, and
            see ``keras_lstsr.sharpening.kriging.kriged_residual``.

    Returns:
        ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
        missing and nowhere else. The mean over a coarse pixel is its LST.

    Raises:
        ConfigError: If an option is out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Wang, Shi & Atkinson (2016), "Area-to-point regression kriging for pan-sharpening":
    the adaptive scheme.
    """
    return trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: kriged_residual(
            left, factor, radius=radius, range_pixels=range_pixels, report=report
        ),
        windows=Windows(
            regression_radius, 0.0 if report else prior_pixels, whole_windows=report is not None
        ),
        min_lst_kelvin=min_lst_kelvin,
    )
