"""Rasters brought onto each other's grids by their transforms, never by array index."""

from __future__ import annotations

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.georeference import (
    north_up_transform,
    raster_crs,
    raster_name,
    raster_on_grid,
)
from keras_lstsr.grids.warp import warp_area, warp_bilinear

# Pixels that agree to this part of a pixel over the whole raster are the same pixels; delivered
# corners carry rounding noise of about 1e-6.
_SAME_PIXEL = 0.01
# A guide whose pixels are wider than this many fine pixels holds no detail of the fine grid.
_COARSEST_GUIDE = 1.5


def fine_transform(lst: xr.DataArray, factor: int) -> Affine:
    """Returns the transform of the grid that divides a raster's pixels by ``factor``."""
    a, b, c, d, e, f = lst.rio.transform()[:6]
    return Affine(a / factor, b / factor, c, d / factor, e / factor, f)


def guide_on_fine_grid(guide: xr.DataArray, lst: xr.DataArray, factor: int = 4) -> xr.DataArray:
    """Brings a guide, e.g. NDVI or albedo, onto the grid that divides LST's pixels by ``factor``.

    Where the guide's pixels are those of the fine grid, they are copied; ground that the guide
    does not cover is NaN. Otherwise it is warped with exact coordinates (GDAL approximates them
    to an eighth of a pixel): bilinearly, or by area where its pixels are clearly finer than the
    fine grid's. A fine pixel is NaN where any guide pixel that goes into it is.

    Args:
        guide: ``[y, x]`` with CRS and transform; NaN where missing.
        lst: ``[H, W]`` with CRS and transform.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        The guide as float32 ``[H · factor, W · factor]``, exactly nested in LST's pixels. Its
        ``.encoding`` is kept only where pixels were copied.

    Raises:
        GridError: If a raster has no CRS, is rotated, or the guide is clearly coarser than the
            fine grid. The error names the raster that is at fault.
    """
    source = north_up_transform(guide, "guide")
    north_up_transform(lst, "lst")
    target = fine_transform(lst, factor)
    height, width = lst.sizes["y"] * factor, lst.sizes["x"] * factor
    guide_crs, lst_crs = raster_crs(guide, "guide"), raster_crs(lst, "lst")
    offset = _pixel_offset(source, guide_crs, target, lst_crs, height, width)
    if offset is not None:
        values = _window(np.asarray(guide.values), offset, height, width)
        encoding = dict(guide.encoding)
    else:
        values = _warp(guide, guide_crs, source, target, lst_crs, height, width)
        encoding = {}
    return raster_on_grid(values, guide, lst_crs, target, encoding)


def _pixel_offset(
    source: Affine, source_crs: CRS, target: Affine, target_crs: CRS, height: int, width: int
) -> tuple[int, int] | None:
    """Returns row and column of the target's corner in the source, if both share their pixels."""
    corners = np.array([(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)])
    x = target.c + target.a * corners[:, 0]
    y = target.f + target.e * corners[:, 1]
    if source_crs != target_crs:
        # Two texts may describe one CRS: then coordinates go over unchanged.
        transformer = Transformer.from_crs(target_crs, source_crs, always_xy=True)
        moved_x, moved_y = transformer.transform(x, y)
        shift = np.hypot(np.asarray(moved_x) - x, np.asarray(moved_y) - y)
        if not (shift < _SAME_PIXEL * abs(target.a)).all():
            return None
    columns = (x - source.c) / source.a
    rows = (y - source.f) / source.e
    first = np.rint([rows[0], columns[0]])
    expected = corners[:, ::-1] + first
    if np.abs(np.column_stack([rows, columns]) - expected).max() > _SAME_PIXEL:
        return None
    return int(first[0]), int(first[1])


def _window(
    values: NDArray[np.floating], offset: tuple[int, int], height: int, width: int
) -> NDArray[np.float32]:
    """Cuts a window that may reach beyond the raster; what lies beyond is NaN."""
    row, column = offset
    rows = slice(max(row, 0), max(min(row + height, values.shape[0]), 0))
    columns = slice(max(column, 0), max(min(column + width, values.shape[1]), 0))
    inside = values[rows, columns].astype(np.float32, copy=False)
    if inside.shape == (height, width):
        return inside
    result = np.full((height, width), np.nan, np.float32)
    if inside.size:
        top, left = rows.start - row, columns.start - column
        result[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return result


def _warp(
    guide: xr.DataArray,
    guide_crs: CRS,
    source: Affine,
    target: Affine,
    target_crs: CRS,
    height: int,
    width: int,
) -> NDArray[np.float32]:
    relative = _relative_pixel_size(guide, guide_crs, source, target, target_crs)
    if relative > _COARSEST_GUIDE:
        raise GridError(
            "the guide is coarser than the fine grid",
            path=guide.encoding.get("source"),
            field=raster_name(guide, "guide"),
            found=f"pixels {relative:.2f} times as wide",
            expected=f"at most {_COARSEST_GUIDE} times",
            action="Use a guide of about the fine grid's pixels, e.g. 250 m for LST of 1 km.",
        )
    nothing = np.broadcast_to(np.float32(np.nan), (height, width))
    grid = raster_on_grid(nothing, guide, target_crs, target)
    warp = warp_area if relative < 1 / _COARSEST_GUIDE else warp_bilinear
    return np.asarray(warp(guide.astype(np.float32), grid).values)


def _relative_pixel_size(
    guide: xr.DataArray, guide_crs: CRS, source: Affine, target: Affine, target_crs: CRS
) -> float:
    """Width of the guide's middle pixel, as the square root of its area, in fine pixels."""
    row, column = guide.sizes["y"] / 2, guide.sizes["x"] / 2
    x = source.c + source.a * np.array([column, column + 1, column])
    y = source.f + source.e * np.array([row, row, row + 1])
    transformer = Transformer.from_crs(guide_crs, target_crs, always_xy=True)
    moved_x, moved_y = (np.asarray(axis) for axis in transformer.transform(x, y))
    east = (moved_x[1] - moved_x[0], moved_y[1] - moved_y[0])
    south = (moved_x[2] - moved_x[0], moved_y[2] - moved_y[0])
    area = abs(east[0] * south[1] - east[1] * south[0])
    return float(np.sqrt(area / abs(target.a * target.e)))
