"""The guide of a scene: brought onto the fine grid, and what it can and cannot say of LST."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from scipy import ndimage

from keras_lstsr.config import LEAST_GUIDE_VARIANCE, LEAST_LST_VARIANCE, GuidedModelConfig
from keras_lstsr.errors import GridError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.georeference import raster_on_grid
from keras_lstsr.grids.resample import block_mean, coarse_guide
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.regression import global_fit, pixels_of_fit

WITHOUT_GUIDE = (
    "Without NDVI the model works from LST alone: it gives back some of the contrast between LST "
    "pixels, but no detail below them, and is only a little better than bicubic upsampling; give "
    "NDVI of the same time for real detail."
)


@dataclass(frozen=True)
class GuideUse:
    """What a guide can do for a scene.

    Attributes:
        missing_share: Share of the fine pixels with LST that have no guide, 0…1.
        constant: Whether the guide is the same in all coarse pixels with LST.
        explained_share: Share of the variance of coarse LST that one regression on the guide
            over the whole scene explains, 0…1; NaN where too few pixels have both.
        unfollowed_share: Share of the coarse pixels with LST and guide around which LST follows
            the guide so little that the guided network gives less than half of its detail, 0…1.
    """

    missing_share: float
    constant: bool
    explained_share: float
    unfollowed_share: float = 0.0

    def notes(self) -> list[str]:
        """Says in sentences where the result is poorer than a guide promises."""
        notes = []
        if self.missing_share > 0:
            notes.append(
                f"NDVI is missing on {share_text(self.missing_share)} of the fine pixels with LST: "
                "the result is about bicubic there."
            )
        if self.constant:
            notes.append(
                "NDVI is the same in all LST pixels: it explains nothing, and the result is about "
                "bicubic."
            )
        elif self.unfollowed_share >= _SHARE_TO_TELL:
            notes.append(
                f"LST hardly follows NDVI around {share_text(self.unfollowed_share)} of the LST "
                "pixels, as by night: the guided network falls back to about bicubic there."
            )
        return notes

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster; those unknown are left out."""
        attributes = {
            "guide_missing_share": round(self.missing_share, 6),
            "guide_unfollowed_share": round(self.unfollowed_share, 6),
        }
        if not math.isnan(self.explained_share):
            attributes["guide_explained_share"] = round(self.explained_share, 6)
        return attributes


def share_text(share: float) -> str:
    """Writes a share in percent, so that only none is 0 %."""
    if 0 < share < _LEAST_SHARE_SHOWN:
        return f"less than {_LEAST_SHARE_SHOWN:.1%}"
    return f"{share:.1%}" if share else "0%"


_LEAST_SHARE_SHOWN = 0.001
# Small patches of water or rock are in every scene.
_SHARE_TO_TELL = 0.05

FallbackRule = Callable[[NDArray[np.float32], NDArray[np.float32] | None, GuideUse | None], str]
"""Decides whether a scene is better off with bicubic upsampling than with the model.

It sees coarse LST ``[h, w]`` in kelvin, the guide ``[f·h, f·w]`` and what is known of it, the last
two None without a guide. It returns the reason to fall back, a clause that follows "since", or
empty text.
"""


def guide_of_scene(
    guide: xr.DataArray,
    guide_grid: Affine,
    lst_shape: tuple[int, int],
    lst_grid: Affine,
    lst_crs: object,
    factor: int,
) -> NDArray[np.float32]:
    """Brings a guide onto the fine grid of a scene.

    Args:
        guide: ``[y, x]`` with CRS; NaN where missing.
        guide_grid: Its transform.
        lst_shape: Rows and columns of LST.
        lst_grid: The transform of LST.
        lst_crs: The CRS of LST.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        ``[f·h, f·w]``; NaN where the guide is missing or does not reach.

    Raises:
        GridError: If the guide has no CRS, is rotated or clearly coarser than the fine grid, or
            has no valid pixel anywhere in the scene.
    """
    placed = _named_dimensions(guide).rio.write_transform(guide_grid)
    nothing = np.broadcast_to(np.float32(np.nan), lst_shape)
    lst = raster_on_grid(nothing, placed, lst_crs, lst_grid)  # type: ignore[arg-type]
    aligned = np.asarray(guide_on_fine_grid(placed, lst, factor).values, np.float32)
    if np.isnan(aligned).all():
        raise GridError(
            "the guide does not overlap LST, or holds no valid pixel there",
            path=guide.encoding.get("source"),
            field=str(guide.name or "guide"),
            found=f"bounds {_bounds(placed)}, CRS {placed.rio.crs}",
            expected=f"some of LST's: bounds {_bounds(lst)}, CRS {lst.rio.crs}",
            action="Check that both show the same place and that their CRSs are right.",
        )
    return aligned


def _named_dimensions(raster: xr.DataArray) -> xr.DataArray:
    names = dict(zip(raster.dims, ("y", "x"), strict=True))
    return raster.rename({old: new for old, new in names.items() if old != new})


def _bounds(raster: xr.DataArray) -> str:
    return "(" + ", ".join(f"{edge:.10g}" for edge in raster.rio.bounds(recalc=True)) + ")"


def guide_use(
    lst_kelvin: NDArray[np.floating], guide: NDArray[np.floating], factor: int
) -> GuideUse:
    """Finds out what a guide can do for a scene.

    Args:
        lst_kelvin: ``[h, w]``; NaN where missing.
        guide: ``[f·h, f·w]``; NaN where missing.
        factor: Fine pixels along an LST pixel's side.
    """
    lacking = np.isnan(guide).reshape(lst_kelvin.shape[0], factor, lst_kelvin.shape[1], factor)
    lacking_share = lacking.mean(axis=(1, 3))[~np.isnan(lst_kelvin)]
    missing_share = float(lacking_share.mean()) if lacking_share.size else 0.0
    coarse = coarse_guide(guide, factor)
    usable = pixels_of_fit(lst_kelvin, coarse)
    explained, constant, unfollowed = float("nan"), False, 0.0
    if usable.sum() >= _FEWEST_PIXELS_OF_A_FIT:
        followed = guide_followed(lst_kelvin, block_mean(guide, factor))
        there = np.isfinite(followed)
        unfollowed = float(np.mean(followed[there] < _HALF)) if there.any() else 0.0
        try:
            explained = global_fit(lst_kelvin, coarse, usable=usable).correlation ** 2
        except ConstantGuideError:
            explained, constant = 0.0, True
    return GuideUse(missing_share, constant, explained, unfollowed)


def guide_followed(
    lst_kelvin: NDArray[np.floating],
    coarse: NDArray[np.floating],
    settings: GuidedModelConfig | None = None,
) -> NDArray[np.float64]:
    """Says how far the guided network follows its guide, as ``models.guided.GuidedFeatures`` does.

    Args:
        lst_kelvin: ``[h, w]``; NaN where missing.
        coarse: The guide's mean over each coarse pixel, ``[h, w]``; NaN where any of it is missing.
        settings: Of the network; by default those of the pretrained one.

    Returns:
        ``[h, w]``, 0 (bicubic) to 1; NaN where LST or guide is missing.
    """
    settings = settings or GuidedModelConfig()
    usable = np.isfinite(lst_kelvin) & np.isfinite(coarse)
    if not usable.any():
        return np.full(lst_kelvin.shape, np.nan)
    lst, x = (
        np.where(usable, values - values[usable].mean(dtype=np.float64), 0.0)
        for values in (lst_kelvin, coarse)
    )

    def window_sum(values: NDArray[np.floating]) -> NDArray[np.float64]:
        window = settings.wide_window_pixels
        return np.asarray(
            ndimage.uniform_filter(values, window, output=np.float64, mode="constant") * window**2
        )

    # Where nothing is usable in a window, all sums are zero and nothing is returned.
    pixels = np.maximum(window_sum(usable.astype(np.float64)), 1.0)

    def window_mean(values: NDArray[np.floating]) -> NDArray[np.float64]:
        return window_sum(values) / pixels

    covariance = window_mean(lst * x) - window_mean(lst) * window_mean(x)
    guide_variance = window_mean(x**2) - window_mean(x) ** 2 + LEAST_GUIDE_VARIANCE
    lst_variance = np.maximum(window_mean(lst**2) - window_mean(lst) ** 2, LEAST_LST_VARIANCE)
    explained = covariance**2 / (guide_variance * lst_variance)
    slope = np.abs(covariance) / guide_variance
    followed = np.minimum(explained / settings.full_explained_share, 1.0) * np.minimum(
        slope / settings.full_slope_kelvin, 1.0
    )
    return np.where(usable, followed, np.nan)


# A line through fewer pixels explains all of them.
_FEWEST_PIXELS_OF_A_FIT = 3
_HALF = 0.5
