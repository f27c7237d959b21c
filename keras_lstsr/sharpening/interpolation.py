"""Upsampling without a guide that keeps a gap to its own pixels.

``keras_lstsr.grids.resample`` lets a NaN spread over the kernel's footprint. Here the gap's
neighbours stand in for it, as the border's pixels stand in for what lies beyond the border.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import upsample_bicubic, upsample_bilinear, upsample_nearest

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
# A bicubic kernel reaches two pixels from the pixel that it refines.
_REACH_PIXELS = 2
_NEIGHBOURS = np.array([[0.5, 1.0, 0.5], [1.0, 0.0, 1.0], [0.5, 1.0, 0.5]])


def interpolated(
    values: NDArray[np.floating], factor: int, method: str = "bicubic"
) -> NDArray[np.floating]:
    """Upsamples a raster; a gap stays a gap over its own fine pixels and spoils no other.

    Args:
        values: ``[h, w]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        method: ``"nearest"``, ``"bilinear"`` or ``"bicubic"`` (cubic convolution, a = −0.75).

    Returns:
        ``[h · factor, w · factor]`` of the same float type. The weights of the valid pixels sum
        to one at every fine pixel; next to a gap they are those of a raster in which the gap
        holds the mean of its valid neighbours.

    Raises:
        ConfigError: If the method is unknown.
    """
    if method not in INTERPOLATIONS:
        raise ConfigError(
            "unknown interpolation", found=repr(method), expected=" or ".join(INTERPOLATIONS)
        )
    if method == "nearest":
        return upsample_nearest(values, factor)
    upsample = upsample_bicubic if method == "bicubic" else upsample_bilinear
    gaps = np.isnan(values)
    if not gaps.any():
        return upsample(values, factor)
    result = upsample(_bridged(values), factor)
    result[upsample_nearest(gaps, factor)] = np.nan
    return result


def _bridged(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Fills gaps as far as a kernel reaches into them, ring by ring; what is left becomes 0."""
    result = values.astype(np.float64)
    for _ in range(_REACH_PIXELS):
        there = ~np.isnan(result)
        total = ndimage.convolve(np.where(there, result, 0.0), _NEIGHBOURS, mode="constant")
        weight = ndimage.convolve(there.astype(np.float64), _NEIGHBOURS, mode="constant")
        ring = ~there & (weight > 0)
        result[ring] = total[ring] / weight[ring]
    return np.nan_to_num(result, copy=False, nan=0.0).astype(values.dtype)
