"""Rasters and guides brought onto other grids, with exact coordinates and honest gaps.

GDAL's warper approximates coordinates to an eighth of a pixel and lets a gap fade into its
neighbours. For figures that hang on a tenth of a pixel both matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from pyproj import Transformer
from scipy import ndimage

from keras_lstsr.errors import GridError
from keras_lstsr.grids.axes import raster_name
from keras_lstsr.grids.grid import Grid, Placed, placed, target_grid

Float64Array = NDArray[np.float64]

# Corners are delivered with rounding noise of about 1e-6 of a pixel; a position this close to a
# pixel's centre or edge is taken to be on it, so that no neighbour gets a weight by accident.
_SAME_POSITION = 1e-5
# Share of a target pixel that may be missing by rounding.
_SHARE_TOLERANCE = 1e-4
# Positions that are worked on at a time, which bounds the memory (about 100 bytes each).
_POSITIONS_AT_A_TIME = 1_000_000
# A guide whose pixels are wider than this many fine pixels holds no detail of the fine grid.
COARSEST_GUIDE = 1.5
CLEARLY_FINER = 1 / COARSEST_GUIDE
"""Pixels narrower than this many fine pixels are averaged by area instead of interpolated."""


def warp_bilinear(source: xr.DataArray, like: xr.DataArray | Grid) -> xr.DataArray:
    """Interpolates a raster bilinearly at the pixel centres of another.

    Coordinates go through PROJ pixel by pixel. Up to half a pixel beyond the outermost centres,
    that is up to the raster's edge, the outermost value holds; what lies beyond is NaN. It
    interpolates and does not average: for a target that is clearly coarser than the source take
    ``warp_area``.

    Args:
        source: ``[y, x]`` with CRS and coordinates; NaN where missing.
        like: The grid, or a raster ``[H, W]`` that lies on it and whose values are not read.

    Returns:
        ``[H, W]`` of the source's float type, its name and attributes, on the grid of ``like``.
        NaN where any source pixel with a weight above zero is NaN.

    Raises:
        GridError: If a raster has no CRS or no regular north-up grid.
    """
    given = placed(source, "source")
    target, turned_back = target_grid(like, "like")
    positions = _Positions(given.grid, target)
    values = _floating(given.raster)
    height, width = target.shape
    result = np.empty((height, width), values.dtype)
    columns = np.arange(width) + 0.5
    for top, bottom in _strips(height, width):
        row, column = positions.of(np.arange(top, bottom) + 0.5, columns)
        result[top:bottom] = bilinear_samples(values, row, column)
    return turned_back(target.raster(result, name=source.name, attrs=source.attrs))


def warp_spline(source: xr.DataArray, like: xr.DataArray | Grid, *, order: int = 3) -> xr.DataArray:
    """Interpolates a raster at the pixel centres of another by a spline through its values.

    Smooths less than ``warp_bilinear``, which takes detail of a pixel or two away. The spline
    needs values everywhere: in gaps it runs through the nearest valid ones, which shows, fading
    fast, in a few pixels beside a gap. Erode the source's mask where that matters.

    Args:
        source: As for ``warp_bilinear``.
        like: Likewise.
        order: Of the spline, 1 to 5.

    Returns:
        ``[H, W]`` of the source's float type, its name and attributes, on the grid of ``like``.
        NaN where ``warp_bilinear`` gives NaN.

    Raises:
        GridError: If a raster has no CRS or no regular north-up grid.
    """
    given = placed(source, "source")
    target, turned_back = target_grid(like, "like")
    positions = _Positions(given.grid, target)
    values = _floating(given.raster)
    valid = np.isfinite(values)
    height, width = target.shape
    result = np.full((height, width), np.nan, values.dtype)
    if valid.any():
        nearest = ndimage.distance_transform_edt(
            ~valid, return_distances=False, return_indices=True
        )
        filled = values[tuple(nearest)].astype(np.float64)
        middle = filled.mean()
        spline = ndimage.spline_filter(filled - middle, order) if order > 1 else filled - middle
        columns = np.arange(width) + 0.5
        for top, bottom in _strips(height, width):
            row, column = positions.of(np.arange(top, bottom) + 0.5, columns)
            usable = np.isfinite(bilinear_samples(values, row, column))
            places = [np.where(usable, place - 0.5, 0.0) for place in (row, column)]
            samples = ndimage.map_coordinates(
                spline, places, order=order, mode="nearest", prefilter=False
            )
            result[top:bottom] = np.where(usable, samples + middle, np.nan)
    return turned_back(target.raster(result, name=source.name, attrs=source.attrs))


def bilinear_samples(
    values: NDArray[np.floating], row: Float64Array, column: Float64Array
) -> NDArray[np.floating]:
    """Interpolates an image bilinearly.

    Args:
        values: ``[h, w]``; NaN where missing.
        row: Positions in pixels from the upper edge, so that the first centre lies at 0.5; any
            shape. May be infinite.
        column: Likewise from the left edge.

    Returns:
        The samples, in the positions' shape and the image's type. NaN beyond the edges and where
        a pixel with a weight above zero is NaN.
    """
    height, width = values.shape
    edge = _SAME_POSITION
    inside = (row >= -edge) & (row <= height + edge) & (column >= -edge) & (column <= width + edge)
    top, down = _between(np.where(inside, row, 0.5), height)
    left, right = _between(np.where(inside, column, 0.5), width)
    flat = values.ravel()
    total = np.zeros(row.shape, np.float64)
    for i, row_weight in ((top, 1.0 - down), (np.minimum(top + 1, height - 1), down)):
        for j, column_weight in ((left, 1.0 - right), (np.minimum(left + 1, width - 1), right)):
            weight = row_weight * column_weight
            # Zero times NaN is NaN: a pixel without weight must not spoil the sum.
            total += np.where(weight > 0, weight * flat[i * width + j], 0.0)
    total[~inside] = np.nan
    return total.astype(values.dtype)


def _between(position: Float64Array, length: int) -> tuple[NDArray[np.intp], Float64Array]:
    """Returns the centre before each position and the next one's weight."""
    centred = np.clip(position - 0.5, 0.0, length - 1.0)
    nearest = np.rint(centred)
    centred = np.where(np.abs(centred - nearest) < _SAME_POSITION, nearest, centred)
    before = np.floor(centred)
    return before.astype(np.intp), centred - before


def warp_area(
    source: xr.DataArray, like: xr.DataArray | Grid, *, min_valid_fraction: float = 1.0
) -> xr.DataArray:
    """Averages a raster over the pixels of another, each source pixel by the area it shares.

    This is first-order conservative remapping: what the target pixels hold adds up to what the
    source held on the same ground. A target pixel is taken as the quadrilateral of its four
    corners on the source's grid; its sides, slightly curved there, are taken as straight. On
    pixels of 1 km that is less than 0.1 m off. The integral over it is taken along its sides by
    Green's theorem, and along a side it is exact.

    Args:
        source: As for ``warp_bilinear``; it may be finer or coarser than the target.
        like: Likewise.
        min_valid_fraction: Share of a target pixel's area, 0 to 1, that must lie on valid source
            pixels. The average is over the valid part.

    Returns:
        ``[H, W]`` of the source's float type, its name and attributes, on the grid of ``like``.
        NaN where less than ``min_valid_fraction`` is valid (one part in 10⁴ may be missing by
        rounding), and where nothing is.

    Raises:
        GridError: If a raster has no CRS or no regular north-up grid, or the share is not within
            0 to 1.

    Source: Jones (1999), Monthly Weather Review 127, 2204-2210, eq. 6-8 with n = 1.
    """
    possible = 0 <= min_valid_fraction <= 1
    GridError.unless(possible, "min_valid_fraction", min_valid_fraction, "0 to 1")
    given = placed(source, "source")
    target, turned_back = target_grid(like, "like")
    positions = _Positions(given.grid, target)
    values = _floating(given.raster)
    valid = np.isfinite(values)
    # Sums run over a whole row: small numbers keep the rounding small.
    middle = float(values[valid].mean(dtype=np.float64)) if valid.any() else 0.0
    anomaly = _RowSums(np.where(valid, values.astype(np.float64) - middle, 0.0))
    share = _RowSums(valid.astype(np.float64))
    height, width = target.shape
    result = np.empty((height, width), values.dtype)
    columns = np.arange(width + 1.0)
    for top, bottom in _strips(height, 4 * (width + 1)):
        corners = positions.of(np.arange(top, bottom + 1.0), columns)
        total, covered, area = _integrals(*corners, (anomaly, share))
        with np.errstate(divide="ignore", invalid="ignore"):
            mean = total / covered + middle
            fraction = covered / area
        enough = (fraction >= min_valid_fraction - _SHARE_TOLERANCE) & (fraction > _SHARE_TOLERANCE)
        result[top:bottom] = np.where(enough, mean, np.nan)
    return turned_back(target.raster(result, name=source.name, attrs=source.attrs))


class _RowSums:
    """The integral of an image of constant pixels from the left edge to any position in a row."""

    def __init__(self, values: Float64Array) -> None:
        self.height, self.width = values.shape
        # A column of nothing at the right, where positions beyond the edge are put.
        self._values = np.pad(values, ((0, 0), (0, 1))).ravel()
        self._before = np.pad(np.cumsum(values, axis=1), ((0, 0), (1, 0))).ravel()

    def at(self, row: NDArray[np.intp], column: Float64Array) -> Float64Array:
        """Integral up to ``column`` in pixel row ``row``; zero in rows that are not there."""
        there = (row >= 0) & (row < self.height)
        position = np.clip(column, 0.0, self.width)
        pixel = position.astype(np.intp)
        index = np.where(there, row, 0) * (self.width + 1) + pixel
        inside = self._before[index] + (position - pixel) * self._values[index]
        return np.where(there, inside, 0.0)


def _integrals(
    row: Float64Array, column: Float64Array, fields: tuple[_RowSums, ...]
) -> tuple[Float64Array, ...]:
    """Integrates fields over the quadrilaterals of a mesh ``[H + 1, W + 1]`` of corners.

    Returns:
        The integral of each field and, last, the area, all ``[H, W]`` and of the mesh's sign; NaN
        where a corner is not finite.
    """
    finite = np.isfinite(row) & np.isfinite(column)
    whole = finite[:-1, :-1] & finite[1:, :-1] & finite[:-1, 1:] & finite[1:, 1:]
    row, column = np.where(finite, row, 0.0), np.where(finite, column, 0.0)
    across = _along_sides(row[:, :-1], column[:, :-1], row[:, 1:], column[:, 1:], fields)
    down = _along_sides(row[:-1], column[:-1], row[1:], column[1:], fields)
    # Green: the area integral of f is the integral of F dy round the boundary, dF/dx = f.
    return tuple(
        np.where(whole, a[:-1] + d[:, 1:] - a[1:] - d[:, :-1], np.nan)
        for a, d in zip(across, down, strict=True)
    )


def _along_sides(
    row0: Float64Array,
    column0: Float64Array,
    row1: Float64Array,
    column1: Float64Array,
    fields: tuple[_RowSums, ...],
) -> list[Float64Array]:
    """Integrates F dy along straight sides; F is linear between the lines of the source's grid."""
    cuts = [_crossings(row0, row1), _crossings(column0, column1)]
    ends = np.broadcast_to(np.array([0.0, 1.0]), (*row0.shape, 2))
    cuts_sorted = np.sort(np.concatenate([*cuts, ends], axis=-1), axis=-1)
    middle = (cuts_sorted[..., 1:] + cuts_sorted[..., :-1]) / 2
    step = np.diff(cuts_sorted, axis=-1) * (row1 - row0)[..., None]
    rows = np.floor(row0[..., None] + middle * (row1 - row0)[..., None]).astype(np.intp)
    columns = column0[..., None] + middle * (column1 - column0)[..., None]
    integrals = [(field.at(rows, columns) * step).sum(axis=-1) for field in fields]
    return [*integrals, (column0 + column1) / 2 * (row1 - row0)]


def _crossings(start: Float64Array, end: Float64Array) -> Float64Array:
    """Returns where sides cross whole numbers, as parts of their length; unused places are 0."""
    low, high = np.minimum(start, end), np.maximum(start, end)
    first = np.floor(low) + 1
    count = max(0, int(np.max(np.ceil(high) - first, initial=0)))
    lines = first[..., None] + np.arange(count)
    length = np.where(end == start, 1.0, end - start)[..., None]
    part = (lines - start[..., None]) / length
    return np.where(lines < high[..., None], np.clip(part, 0.0, 1.0), 0.0)


class _Positions:
    """Where positions on another grid lie on a raster, in pixels from its upper left corner."""

    def __init__(self, source: Grid, target: Grid) -> None:
        self._source, self._target = source.transform, target.transform
        self._transformer = (
            None
            if source.crs == target.crs
            else Transformer.from_crs(target.crs, source.crs, always_xy=True)
        )

    def of(
        self, rows: NDArray[np.floating], columns: NDArray[np.floating]
    ) -> tuple[Float64Array, Float64Array]:
        """Returns rows and columns, each ``[len(rows), len(columns)]``; infinite off the map."""
        target, source = self._target, self._source
        y, x = np.meshgrid(target.f + target.e * rows, target.c + target.a * columns, indexing="ij")
        if self._transformer is not None:
            x, y = self._transformer.transform(x, y)
        return (y - source.f) / source.e, (x - source.c) / source.a


def _strips(height: int, width: int) -> Iterator[tuple[int, int]]:
    rows = max(1, _POSITIONS_AT_A_TIME // width)
    for top in range(0, height, rows):
        yield top, min(top + rows, height)


def _floating(raster: xr.DataArray) -> NDArray[np.floating]:
    values = np.asarray(raster.values)
    return values if values.dtype.kind == "f" else values.astype(np.float32)


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
    guide: xr.DataArray,
    lst: Grid,
    factor: int,
    *,
    field: str = "guide",
    onto: Callable[[xr.DataArray, Grid], xr.DataArray] | None = None,
) -> xr.DataArray:
    """Brings a guide onto LST's fine grid, and makes sure that it has a valid pixel there.

    ``onto`` brings it onto the fine grid; None is ``guide_on_fine_grid``.

    Raises:
        GridError: As of that; or if all of the guide is NaN there.
    """
    fine = onto(guide, lst.finer(factor)) if onto else guide_on_fine_grid(guide, lst, factor)
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
    if relative > COARSEST_GUIDE:
        raise GridError(
            "the guide is coarser than the fine grid",
            path=guide.raster.encoding.get("source"),
            field=raster_name(guide.raster, "guide"),
            found=f"pixels {relative:.2f} times as wide",
            expected=f"at most {COARSEST_GUIDE} times",
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
