"""The guide of a scene: brought onto the fine grid, and what it can and cannot say of LST."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.georeference import raster_on_grid
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.regression import global_fit, pixels_of_fit
from keras_lstsr.sharpening.residual import coarse_guide

WITHOUT_GUIDE = (
    "Without NDVI the model works from LST alone: what a 1 km image tells of its own 250 m detail "
    "is next to nothing, so the result is about bicubic upsampling; give NDVI of the same time "
    "for real detail."
)


@dataclass(frozen=True)
class GuideUse:
    """What a guide can do for a scene.

    Attributes:
        missing_share: Share of the fine pixels with LST that have no guide, 0…1.
        constant: Whether the guide is the same in all coarse pixels with LST.
        explained_share: Share of the variance of coarse LST that one regression on the guide
            over the whole scene explains, 0…1; NaN where too few pixels have both.
    """

    missing_share: float
    constant: bool
    explained_share: float

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
        return notes

    def as_attributes(self) -> dict[str, float]:
        """Returns the figures as attributes of a raster; those unknown are left out."""
        attributes = {"guide_missing_share": round(self.missing_share, 6)}
        if not math.isnan(self.explained_share):
            attributes["guide_explained_share"] = round(self.explained_share, 6)
        return attributes


def share_text(share: float) -> str:
    """Writes a share in percent, so that only none is 0 %."""
    if 0 < share < _LEAST_SHARE_SHOWN:
        return f"less than {_LEAST_SHARE_SHOWN:.1%}"
    return f"{share:.1%}" if share else "0%"


_LEAST_SHARE_SHOWN = 0.001

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
    explained, constant = float("nan"), False
    if usable.sum() >= _FEWEST_PIXELS_OF_A_FIT:
        try:
            explained = global_fit(lst_kelvin, coarse, usable=usable).correlation ** 2
        except ConstantGuideError:
            explained, constant = 0.0, True
    return GuideUse(missing_share, constant, explained)


# A line through fewer pixels explains all of them.
_FEWEST_PIXELS_OF_A_FIT = 3
