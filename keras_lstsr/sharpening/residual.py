"""The guide on the coarse grid, and what the guide leaves unexplained on the fine grid."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import upsample_nearest
from keras_lstsr.sharpening.interpolation import interpolated

Residual = Literal["block", "bilinear", "bicubic", "kriging"]
RESIDUALS: tuple[Residual, ...] = ("block", "bilinear", "bicubic", "kriging")
# Coarse rows that are averaged at a time, which bounds the memory for the guide in float64.
_STRIP_ROWS = 64


def guide_bands(
    lst_kelvin: NDArray[np.floating], guide: NDArray[np.floating], factor: int
) -> NDArray[np.floating]:
    """Returns the guide as ``[K, H, W]`` after checking that it lies on LST's fine grid.

    Args:
        lst_kelvin: Coarse LST ``[h, w]``.
        guide: ``[H, W]`` or ``[K, H, W]``.
        factor: Fine pixels along a coarse pixel's side.

    Raises:
        GridError: If a shape does not fit.
    """
    if lst_kelvin.ndim != 2:
        raise GridError("LST is no single band", found=f"shape {lst_kelvin.shape}", expected="h, w")
    bands = guide[None] if guide.ndim == 2 else guide
    expected = tuple(factor * length for length in lst_kelvin.shape)
    if bands.ndim != 3 or len(bands) == 0 or bands.shape[1:] != expected:
        raise GridError(
            "the guide does not lie on LST's fine grid",
            field="guide",
            found=f"shape {guide.shape}",
            expected=f"{expected[0]} × {expected[1]} pixels, {factor} times LST's",
            action="Bring it there with keras_lstsr.grids.align.guide_on_fine_grid.",
        )
    return bands


def coarse_guide(guide: NDArray[np.floating], factor: int) -> NDArray[np.float64]:
    """Averages guides over LST's pixels.

    Args:
        guide: ``[H, W]`` or ``[K, H, W]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.

    Returns:
        ``[K, h, w]`` float64: the mean over the fine pixels where all guides are there; NaN
        where there is none. A linear trend of the result is the mean of the trend over those
        pixels, so that what is predicted for a coarse pixel adds up to it.

    Raises:
        GridError: If a side is no multiple of ``factor``.
    """
    return coarse_guide_and_share(guide, factor)[0]


def coarse_guide_and_share(
    guide: NDArray[np.floating], factor: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Returns ``coarse_guide`` and the share of fine pixels in 0…1 behind it, ``[h, w]``.

    Raises:
        GridError: If a side is no multiple of ``factor``.
    """
    bands = guide[None] if guide.ndim == 2 else guide
    count, height, width = bands.shape
    if factor < 1 or height % factor or width % factor:
        raise GridError(
            "the guide cannot be cut into whole blocks",
            found=f"{height} × {width} pixels",
            expected=f"multiples of {factor}",
        )
    h, w = height // factor, width // factor
    mean = np.empty((count, h, w))
    share = np.empty((h, w))
    for top in range(0, h, _STRIP_ROWS):
        rows = slice(top, min(top + _STRIP_ROWS, h))
        strip = bands[:, rows.start * factor : rows.stop * factor]
        strip = strip.reshape(count, -1, factor, w, factor).astype(np.float64)
        there = np.isfinite(strip).all(axis=0)
        pixels = there.sum(axis=(1, 3))
        share[rows] = pixels / factor**2
        total = np.where(there, strip, 0.0).sum(axis=(2, 4))
        with np.errstate(invalid="ignore"):
            mean[:, rows] = np.where(pixels > 0, total / np.where(pixels > 0, pixels, 1), np.nan)
    return mean, share


def upsampled_residual(
    residual_kelvin: NDArray[np.floating], factor: int, how: str = "bicubic"
) -> NDArray[np.floating]:
    """Brings the coarse residual onto the fine grid.

    Args:
        residual_kelvin: ``[h, w]``; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        how: ``"block"`` repeats it, ``"bilinear"`` and ``"bicubic"`` interpolate it,
            ``"kriging"`` is area-to-point kriging with the residual's own variogram.

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
    raise ConfigError(
        "unknown way to upsample the residual",
        field="residual",
        found=repr(how),
        expected=" or ".join(RESIDUALS),
    )
