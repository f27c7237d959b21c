"""Rasters brought onto each other's grids by their transforms, never by array index."""

from __future__ import annotations

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from scipy.ndimage import map_coordinates

from keras_lstsr.errors import GridError

# Pixels that agree to this part of a pixel over the whole raster are the same pixels; delivered
# corners carry rounding noise of about 1e-6.
_SAME_PIXEL = 0.01
# A guide whose pixels are wider than this many fine pixels holds no detail of the fine grid.
_COARSEST_GUIDE = 1.5
# Fine rows that are warped at a time, which bounds the memory for their coordinates.
_STRIP_ROWS = 128


def fine_transform(lst: xr.DataArray, factor: int) -> Affine:
    """Returns the transform of the grid that divides a raster's pixels by ``factor``."""
    a, b, c, d, e, f = lst.rio.transform()[:6]
    return Affine(a / factor, b / factor, c, d / factor, e / factor, f)


def _crs(raster: xr.DataArray, role: str) -> CRS:
    if raster.rio.crs is None:
        raise GridError(
            "the raster has no CRS",
            path=raster.encoding.get("source"),
            field=role,
            action="Write one with gdal_edit.py -a_srs.",
        )
    return CRS.from_user_input(raster.rio.crs)


def ndvi_on_fine_grid(ndvi: xr.DataArray, lst: xr.DataArray, factor: int = 4) -> xr.DataArray:
    """Brings NDVI onto the grid that divides LST's pixels by ``factor``.

    Where NDVI's pixels are those of the fine grid, they are copied; ground that NDVI does not
    cover is NaN. Otherwise NDVI is warped with exact coordinates (GDAL approximates them to an
    eighth of a pixel): bilinearly, or by averaging where its pixels are clearly finer than the
    fine grid's. A fine pixel is NaN where any NDVI pixel that goes into it is.

    Args:
        ndvi: ``[y, x]`` with CRS and transform; NaN where missing.
        lst: ``[H, W]`` with CRS and transform.
        factor: Fine pixels along an LST pixel's side.

    Returns:
        NDVI float32 ``[H · factor, W · factor]``, exactly nested in LST's pixels. Its
        ``.encoding`` is kept only where pixels were copied.

    Raises:
        GridError: If a raster has no CRS, is rotated, or NDVI is clearly coarser than the fine
            grid.
    """
    source, target = ndvi.rio.transform(), fine_transform(lst, factor)
    if source.b or source.d or target.b or target.d:
        raise GridError("the raster is rotated", field="ndvi or lst", expected="a north-up grid")
    height, width = lst.sizes["y"] * factor, lst.sizes["x"] * factor
    ndvi_crs, lst_crs = _crs(ndvi, "ndvi"), _crs(lst, "lst")
    offset = _pixel_offset(source, ndvi_crs, target, lst_crs, height, width)
    if offset is not None:
        values = _window(np.asarray(ndvi.values), offset, height, width)
        encoding = dict(ndvi.encoding)
    else:
        values = _warp(ndvi, ndvi_crs, source, target, lst_crs, height, width)
        encoding = {}
    return _on_grid(values, ndvi, lst_crs, target, encoding)


def _on_grid(
    values: NDArray[np.float32], like: xr.DataArray, crs: CRS, transform: Affine, encoding: dict
) -> xr.DataArray:
    height, width = values.shape
    x = transform.c + transform.a * (np.arange(width) + 0.5)
    y = transform.f + transform.e * (np.arange(height) + 0.5)
    result = xr.DataArray(
        values, dims=("y", "x"), coords={"y": y, "x": x}, name=like.name, attrs=dict(like.attrs)
    )
    result = result.rio.write_crs(crs).rio.write_transform(transform)
    result.encoding = {**encoding, "grid_mapping": "spatial_ref"}
    return result


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
    ndvi: xr.DataArray,
    ndvi_crs: CRS,
    source: Affine,
    target: Affine,
    target_crs: CRS,
    height: int,
    width: int,
) -> NDArray[np.float32]:
    relative = _relative_pixel_size(ndvi, ndvi_crs, source, target, target_crs)
    if relative > _COARSEST_GUIDE:
        raise GridError(
            "NDVI is coarser than the fine grid",
            field=str(ndvi.name),
            found=f"pixels {relative:.2f} times as wide",
            expected=f"at most {_COARSEST_GUIDE} times",
            action="Use NDVI of about 250 m for LST of 1 km.",
        )
    # Where NDVI is finer, each fine pixel is the mean of so many samples along either axis.
    samples = max(1, round(1 / relative)) if relative < 1 / _COARSEST_GUIDE else 1
    order = 1 if samples == 1 else 0
    values = np.asarray(ndvi.values, dtype=np.float32)
    transformer = Transformer.from_crs(target_crs, ndvi_crs, always_xy=True)
    steps = (np.arange(samples) + 0.5) / samples
    columns = (np.arange(width)[:, None] + steps).ravel()
    result = np.empty((height, width), np.float32)
    for top in range(0, height, _STRIP_ROWS):
        count = min(_STRIP_ROWS, height - top)
        rows = (np.arange(top, top + count)[:, None] + steps).ravel()
        y, x = np.meshgrid(target.f + target.e * rows, target.c + target.a * columns, indexing="ij")
        there_x, there_y = transformer.transform(x, y)
        row, column = (there_y - source.f) / source.e, (there_x - source.c) / source.a
        # Up to half a pixel beyond the outermost centres the outermost value holds.
        sampled = map_coordinates(values, [row - 0.5, column - 0.5], order=order, mode="nearest")
        inside = (row >= 0) & (row <= values.shape[0]) & (column >= 0) & (column <= values.shape[1])
        sampled[~inside] = np.nan
        blocks = sampled.reshape(count, samples, width, samples)
        result[top : top + count] = blocks.mean(axis=(1, 3))
    return result


def _relative_pixel_size(
    ndvi: xr.DataArray, ndvi_crs: CRS, source: Affine, target: Affine, target_crs: CRS
) -> float:
    """Width of NDVI's middle pixel, as the square root of its area, in fine pixels."""
    row, column = ndvi.sizes["y"] / 2, ndvi.sizes["x"] / 2
    x = source.c + source.a * np.array([column, column + 1, column])
    y = source.f + source.e * np.array([row, row, row + 1])
    transformer = Transformer.from_crs(ndvi_crs, target_crs, always_xy=True)
    moved_x, moved_y = (np.asarray(axis) for axis in transformer.transform(x, y))
    east = (moved_x[1] - moved_x[0], moved_y[1] - moved_y[0])
    south = (moved_x[2] - moved_x[0], moved_y[2] - moved_y[0])
    area = abs(east[0] * south[1] - east[1] * south[0])
    return float(np.sqrt(area / abs(target.a * target.e)))
