"""Rasters brought onto each other's grids by their transforms, never by array index."""

from __future__ import annotations

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.axes import raster_name
from keras_lstsr.grids.door import Placed, placed, target_grid
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.warp import warp_area, warp_bilinear

# A guide whose pixels are wider than this many fine pixels holds no detail of the fine grid.
_COARSEST_GUIDE = 1.5
CLEARLY_FINER = 1 / _COARSEST_GUIDE
"""Pixels narrower than this many fine pixels are averaged by area instead of interpolated."""


def guide_on_fine_grid(
    guide: xr.DataArray, lst: xr.DataArray | Grid, factor: int = 4
) -> xr.DataArray:
    """Brings a guide, e.g. NDVI or albedo, onto the grid that divides LST's pixels by ``factor``.

    Where the guide's pixels are those of the fine grid, they are taken as they are; ground that
    the guide does not cover is NaN. Otherwise it is warped with exact coordinates (GDAL
    approximates them to an eighth of a pixel): bilinearly, or by area where its pixels are clearly
    finer than the fine grid's. A fine pixel is NaN where any guide pixel that goes into it is.

    Args:
        guide: ``[y, x]`` with CRS and coordinates; NaN where missing.
        lst: ``[H, W]`` with CRS and coordinates, or its grid.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        The guide as float32 ``[H · factor, W · factor]``, exactly nested in LST's pixels. Where
        its pixels are those of the fine grid its ``.encoding`` is kept, and float32 values that
        cover all of the grid are not copied.

    Raises:
        GridError: If a raster has no CRS or no regular north-up grid, or the guide is clearly
            coarser than the fine grid. The error names the raster that is at fault.
    """
    source = placed(guide, "guide")
    coarse, turned_back = target_grid(lst, "lst")
    fine = coarse.finer(factor)
    offset = fine.offset_in(source.grid)
    if offset is not None:
        values = _window(np.asarray(source.raster.values), offset, fine.shape)
    else:
        values = _warp(source, fine)
    return turned_back(
        fine.raster(
            values,
            name=guide.name,
            attrs=guide.attrs,
            encoding=guide.encoding if offset is not None else None,
        )
    )


def guide_over_lst(
    guide: xr.DataArray, lst: Grid, factor: int, *, field: str = "guide"
) -> xr.DataArray:
    """Brings a guide onto LST's fine grid, and makes sure that it has a valid pixel there.

    Raises:
        GridError: As of ``guide_on_fine_grid``; or if all of the guide is NaN there.
    """
    fine = guide_on_fine_grid(guide, lst, factor)
    if not np.isfinite(fine.values).any():
        raise GridError(
            "the guide does not overlap LST, or holds no valid pixel there",
            path=guide.encoding.get("source"),
            field=field,
            found=_place_text(placed(guide, field).grid),
            expected=f"some of LST's: {_place_text(lst)}",
            action="Check that both show the same place and that their CRSs are right.",
        )
    return fine


def _place_text(grid: Grid) -> str:
    bounds = ", ".join(f"{edge:.10g}" for edge in grid.bounds)
    return f"bounds ({bounds}), CRS {grid.crs.to_string()}"


def _window(
    values: NDArray[np.floating], offset: tuple[int, int], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """Cuts a window that may reach beyond the raster; what lies beyond is NaN."""
    row, column = offset
    height, width = shape
    rows = slice(max(row, 0), max(min(row + height, values.shape[0]), 0))
    columns = slice(max(column, 0), max(min(column + width, values.shape[1]), 0))
    inside = values[rows, columns].astype(np.float32, copy=False)
    if inside.shape == shape:
        return inside
    result = np.full(shape, np.nan, np.float32)
    if inside.size:
        top, left = rows.start - row, columns.start - column
        result[top : top + inside.shape[0], left : left + inside.shape[1]] = inside
    return result


def _warp(guide: Placed, fine: Grid) -> NDArray[np.float32]:
    relative = relative_pixel_size(guide.grid, fine)
    if relative > _COARSEST_GUIDE:
        raise GridError(
            "the guide is coarser than the fine grid",
            path=guide.raster.encoding.get("source"),
            field=raster_name(guide.raster, "guide"),
            found=f"pixels {relative:.2f} times as wide",
            expected=f"at most {_COARSEST_GUIDE} times",
            action="Use a guide of about the fine grid's pixels, e.g. 250 m for LST of 1 km.",
        )
    warp = warp_area if relative < CLEARLY_FINER else warp_bilinear
    return np.asarray(warp(guide.raster.astype(np.float32), fine).values)


def relative_pixel_size(grid: Grid, fine: Grid) -> float:
    """Returns the width of a grid's middle pixel, the square root of its area, in fine pixels."""
    row, column = grid.height / 2, grid.width / 2
    x, y = grid.transform @ (np.array([column, column + 1, column]), np.array([row, row, row + 1]))
    transformer = Transformer.from_crs(grid.crs, fine.crs, always_xy=True)
    moved_x, moved_y = (np.asarray(axis) for axis in transformer.transform(x, y))
    east = (moved_x[1] - moved_x[0], moved_y[1] - moved_y[0])
    south = (moved_x[2] - moved_x[0], moved_y[2] - moved_y[0])
    area = abs(east[0] * south[1] - east[1] * south[0])
    return float(np.sqrt(area / np.prod(fine.pixel_size)))
