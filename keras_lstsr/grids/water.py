"""The share of water in a pixel, from what is seen of it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

Raster = TypeVar("Raster", xr.DataArray, NDArray[np.floating])


def water_from_ndvi(ndvi: Raster) -> Raster:
    """Estimates the share of water from NDVI: ``(0.05 − NDVI) / 0.1``, between 0 and 1.

    Water absorbs near-infrared more strongly than red light, so that its NDVI lies below zero;
    that of bare ground and of towns lies above 0.05. Snow and clouds look like water.

    Args:
        ndvi: NDVI of any shape; NaN where missing.

    Returns:
        The share of water, 0 to 1, of the same shape and float type; NaN where NDVI is. A raster
        is named ``water``.
    """
    if isinstance(ndvi, np.ndarray):
        return np.clip((0.05 - ndvi) / 0.1, 0.0, 1.0).astype(ndvi.dtype)
    share = ((0.05 - ndvi) / 0.1).clip(0.0, 1.0).astype(ndvi.dtype)
    return share.rename("water").assign_attrs(units="1", long_name="the share of water")
