"""Guides as bands on LST's fine grid, their linear trend, and what it leaves unexplained there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import coarse_guide_and_share, interpolated, upsample_nearest
from keras_lstsr.sharpening.regression import (
    LinearFit,
    LocalFits,
    fine_trend,
    global_fit,
    local_fits,
    pixels_of_fit,
)

Residual = Literal["block", "bilinear", "bicubic", "kriging"]
RESIDUALS: tuple[Residual, ...] = ("block", "bilinear", "bicubic", "kriging")


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
        raise GridError(
            "LST is not a single band", found=f"shape {lst_kelvin.shape}", expected="h, w"
        )
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
