"""Guides as bands on LST's fine grid, and what they leave unexplained there."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import GridError, unknown
from keras_lstsr.grids.resample import interpolated, upsample_nearest

RESIDUALS = ("block", "bilinear", "bicubic", "kriging")


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
