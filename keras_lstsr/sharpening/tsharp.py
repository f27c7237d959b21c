"""TsHARP: a linear regression of LST on the guides, and the residual added back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.residual import Windows, trend_and_residual, upsampled_residual


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
    """Sharpens LST by its linear relation to the guides.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``; NaN where missing.
        guide: ``[H, W]`` or ``[K, H, W]`` on the fine grid; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        residual: How what the guides leave unexplained comes onto the fine grid:
            ``"bicubic"``, ``"bilinear"``, ``"block"`` (as published) or ``"kriging"``.
        regression: ``"scene"`` fits one relation (as published), ``"local"`` one for each window.
        regression_radius: Local windows have ``2 · regression_radius + 1`` coarse pixels along a
            side.
        prior_pixels: Draws local slopes towards the scene's; see
            ``keras_lstsr.sharpening.regression.local_fits``.
        min_lst_kelvin: Pixels as cold as this or colder are left out of the regression.

    Returns:
        ``[h · factor, w · factor]`` in kelvin, of LST's float type; NaN where LST or a guide is
        missing and nowhere else.

    Raises:
        ConfigError: If an option is unknown or out of its range.
        GridError: If the guide does not lie on LST's fine grid.
        ConstantGuideError: If the guides cannot explain LST.

    Source: Agam et al. (2007), "A vegetation index based technique for spatial sharpening of
    thermal imagery"; the residual is replicated there.
    """
    if regression not in ("scene", "local"):
        raise ConfigError(
            "unknown option", field="regression", found=repr(regression), expected="scene or local"
        )
    windows = Windows(regression_radius, prior_pixels) if regression == "local" else None
    return trend_and_residual(
        lst_kelvin,
        guide,
        factor,
        lambda left: upsampled_residual(left, factor, residual),
        windows=windows,
        min_lst_kelvin=min_lst_kelvin,
    )
