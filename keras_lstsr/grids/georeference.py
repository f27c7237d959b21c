"""Where a raster lies: its CRS and its transform, read with care and written onto results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from keras_lstsr.errors import GridError


def raster_name(raster: xr.DataArray, role: str) -> str:
    """Returns the raster's own name, or its role in the call where it has none."""
    return role if raster.name is None else str(raster.name)


def raster_crs(raster: xr.DataArray, role: str) -> CRS:
    """Returns the raster's CRS.

    Args:
        raster: Any raster.
        role: What the raster is in the call, e.g. ``"guide"``; names it if it has no name.

    Returns:
        The CRS.

    Raises:
        GridError: If the raster has none.
    """
    if raster.rio.crs is None:
        raise GridError(
            "the raster has no CRS",
            path=raster.encoding.get("source"),
            field=raster_name(raster, role),
            action="Write one with gdal_edit.py -a_srs.",
        )
    return CRS.from_user_input(raster.rio.crs)


def north_up_transform(raster: xr.DataArray, role: str) -> Affine:
    """Returns the raster's transform from pixel corners to its CRS.

    Args:
        raster: ``[y, x]``.
        role: What the raster is in the call; names it if it has no name.

    Returns:
        The transform; ``transform @ (column, row)`` is the upper left corner of a pixel.

    Raises:
        GridError: If the raster is not two-dimensional over ``y`` and ``x``, or is rotated.
    """
    if raster.dims != ("y", "x"):
        raise GridError(
            "the raster is not one band",
            path=raster.encoding.get("source"),
            field=raster_name(raster, role),
            found=f"dimensions {', '.join(map(str, raster.dims))}",
            expected="dimensions y, x",
            action="Select one band.",
        )
    transform = raster.rio.transform()
    if transform.b or transform.d:
        raise GridError(
            "the raster is rotated",
            path=raster.encoding.get("source"),
            field=raster_name(raster, role),
            expected="a north-up grid",
            action="Warp it with gdalwarp.",
        )
    return transform


def raster_on_grid(
    values: NDArray[np.floating],
    like: xr.DataArray,
    crs: CRS,
    transform: Affine,
    encoding: Mapping[str, Any] | None = None,
) -> xr.DataArray:
    """Makes a raster of values that lie on a grid.

    Args:
        values: ``[H, W]``.
        like: Gives the name and the attributes.
        crs: CRS of the grid.
        transform: North-up transform of the grid.
        encoding: How the values are to be stored; nothing by default.

    Returns:
        The raster, with coordinates of the pixels' centres.
    """
    height, width = values.shape
    x = transform.c + transform.a * (np.arange(width) + 0.5)
    y = transform.f + transform.e * (np.arange(height) + 0.5)
    result = xr.DataArray(
        values, dims=("y", "x"), coords={"y": y, "x": x}, name=like.name, attrs=dict(like.attrs)
    )
    result = result.rio.write_crs(crs).rio.write_transform(transform)
    result.encoding = {**(encoding or {}), "grid_mapping": "spatial_ref"}
    return result
