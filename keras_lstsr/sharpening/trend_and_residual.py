"""What TsHARP, ATPRK and AATPRK share: a linear trend of the guides and its residual."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.resample import coarse_guide_and_share
from keras_lstsr.sharpening.regression import (
    LinearFit,
    LocalFits,
    fine_trend,
    global_fit,
    local_fits,
    pixels_of_fit,
)
from keras_lstsr.sharpening.residual import guide_bands


@dataclass(frozen=True)
class Windows:
    """How LST is regressed window by window; see ``regression.local_fits``.

    Attributes:
        radius_pixels: Windows have ``2 · radius_pixels + 1`` coarse pixels along a side.
        prior_pixels: Draws the windows' slopes towards the scene's.
        whole_windows: Take the scene's regression where a window reaches beyond the border.
    """

    radius_pixels: int
    prior_pixels: float
    whole_windows: bool = False


def trend_and_residual(
    lst_kelvin: NDArray[np.floating],
    guide: NDArray[np.floating],
    factor: int,
    upsample: Callable[[NDArray[np.floating]], NDArray[np.floating]],
    *,
    windows: Windows | None = None,
    min_lst_kelvin: float | None = None,
) -> NDArray[np.floating]:
    """Carries the relation of LST to the guides to the fine grid, and adds what it leaves.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[H, W]`` or ``[K, H, W]`` on the fine grid; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        upsample: Brings the coarse residual ``[h, w]`` onto the fine grid.
        windows: One regression for each window; None takes one for the scene.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.

    Returns:
        ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
        missing and nowhere else.

    Raises:
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.
    """
    bands = guide_bands(lst_kelvin, guide, factor)
    coarse, share = coarse_guide_and_share(bands, factor)
    usable = pixels_of_fit(lst_kelvin, coarse, min_lst_kelvin=min_lst_kelvin, share=share)
    scene = global_fit(lst_kelvin, coarse, usable=usable)
    fit: LinearFit | LocalFits = scene
    if windows is not None:
        fit = local_fits(
            lst_kelvin,
            coarse,
            scene,
            usable=usable,
            radius_pixels=windows.radius_pixels,
            whole_windows=windows.whole_windows,
            prior_pixels=windows.prior_pixels,
        )
    left = (lst_kelvin - fit.trend(coarse)).astype(lst_kelvin.dtype)
    result = upsample(left)
    result += fine_trend(fit, bands, factor, result.dtype)
    return result
