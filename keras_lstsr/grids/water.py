"""The share of water in a pixel, from what is seen of it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.errors import GridError
from keras_lstsr.grids.axes import raster_name
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.warp import warp_area

# Share of a fine pixel that must be known.
_LEAST_KNOWN = 0.5
# Averages carry rounding.
_TOLERANCE = 1e-3

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


def water_share(
    mask: xr.DataArray, grid: Grid, *, water_class: float | None = None
) -> xr.DataArray:
    """Averages a water mask of any pixel size by area over the pixels of a grid.

    Args:
        mask: ``[y, x]`` with CRS and coordinates, NaN where unknown: the share of water, 0 to 1,
            or 0 and 1 as in MOD44W; with ``water_class``, classes.
        grid: The fine grid.
        water_class: The class that is water, e.g. 17 in MCD12Q1's ``LC_Type1``.

    Returns:
        ``water`` on the grid, 0 to 1; NaN where less than half of a pixel is known.

    Raises:
        GridError: If there is no class and a value is not within 0 to 1, such as percent; or the
            mask has no CRS or no regular grid.
    """
    if water_class is not None:
        mask = (mask == water_class).astype(np.float32).where(mask.notnull())
    values = np.asarray(mask.values)
    known = values[np.isfinite(values)]
    fits = not known.size or (known.min() >= -_TOLERANCE and known.max() <= 1 + _TOLERANCE)
    found = f"{known.min():g} to {known.max():g}" if known.size else ""
    problem = "the values are not shares of water"
    action = "Divide percent by 100, mark fill values as NaN, or say which class is water."
    field = raster_name(mask, "mask")
    GridError.unless(bool(fits), field, found, "0 to 1", problem, action=action)
    share = warp_area(mask.astype(np.float32), grid, min_valid_fraction=_LEAST_KNOWN)
    return share.clip(0.0, 1.0).rename("water").assign_attrs(units="1")
