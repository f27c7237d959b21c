"""Which rasters show the same ground, whatever grids they lie on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import SAME_PIXEL, Grid
from keras_lstsr.grids.modis import (
    MODIS_TILE_COLUMNS,
    MODIS_TILE_SIZE_M,
    modis_sinusoidal_crs,
)

# Straight edges in one CRS are curves in another: so many segments follow them.
_SEGMENTS_PER_SIDE = 16
# Pixels: corners of grids on one lattice differ by rounding.
_TOUCHING = 1e-3
# What lies further apart than this on the ground does not touch, however edges bend.
_MARGIN_PIXELS = 4
# The globe in the sinusoidal projection is so wide, from the middle, and half as high.
_HALF_EQUATOR_M = MODIS_TILE_SIZE_M * MODIS_TILE_COLUMNS / 2
_EDGE_M = 1000.0


def share_ground(grids: Sequence[Grid]) -> list[int]:
    """Numbers the groups of grids, on any CRSs, that share ground, directly or through others.

    Grids that only touch, to a hundredth of a pixel, share nothing. The first one's group is 0.

    Raises:
        GridError: If a grid reaches beyond the globe.
    """
    outlines = []
    for grid in grids:
        inset = SAME_PIXEL * min(grid.pixel_size)
        west, south, east, north = grid.bounds
        box = shapely.box(west + inset, south + inset, east - inset, north - inset)
        outlines += on_ground([box], grid.crs).tolist()
    return connected(outlines)


def connected(outlines: Sequence[shapely.Geometry] | NDArray[np.object_]) -> list[int]:
    """Numbers the groups of outlines, in one CRS, that intersect, directly or through others.

    The groups are numbered as they first appear.
    """
    outlines = np.asarray(outlines, dtype=object)
    first, second = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    links = coo_array((np.ones(first.size, bool), (first, second)), shape=(len(outlines),) * 2)
    _, labels = connected_components(links, directed=False)
    order = {label: number for number, label in enumerate(dict.fromkeys(labels.tolist()))}
    return [order[label] for label in labels.tolist()]


def on_ground(
    boxes: Sequence[shapely.Polygon] | NDArray[np.object_], crs: CRS
) -> NDArray[np.object_]:
    """Brings boxes of one CRS and size into the MODIS sinusoidal projection, edges followed.

    Raises:
        GridError: If the projection does not reach there.
    """
    boxes = np.asarray(boxes, dtype=object)
    longest = float(np.sqrt(shapely.area(boxes)).max(initial=0.0))
    outlines = shapely.segmentize(boxes, max(longest, 1e-9) / _SEGMENTS_PER_SIDE)
    points = shapely.get_coordinates(outlines)
    x, y = _to_sinusoidal(crs.srs).transform(points[:, 0], points[:, 1])
    moved = np.column_stack([x, y])
    # From the sinusoidal projection into itself nothing is checked, and some others wrap round.
    inside = np.abs(moved) <= (_HALF_EQUATOR_M + _EDGE_M, _HALF_EQUATOR_M / 2 + _EDGE_M)
    whole = (np.isfinite(moved) & inside).all()
    if whole and crs.is_projected and crs != modis_sinusoidal_crs():
        # Far beyond its zone a projection's inverse gives a place, but not the one it came from.
        back = _to_sinusoidal(crs.srs).transform(x, y, direction="INVERSE")
        whole = np.abs(np.column_stack(back) - points[:, :2]).max() <= longest / 100
    if not whole:
        raise GridError(
            "the raster reaches beyond the globe",
            field="crs",
            action="Crop it to where its CRS is defined.",
        )
    return shapely.make_valid(shapely.set_coordinates(outlines, moved))


@lru_cache(maxsize=256)
def _to_sinusoidal(crs_wkt: str) -> Transformer:
    # Making one takes longer than all the points of a raster.
    return Transformer.from_crs(crs_wkt, modis_sinusoidal_crs(), always_xy=True)


def covered(grid: Grid, others: Sequence[Grid]) -> NDArray[np.bool_]:
    """Marks the pixels of a grid whose ground other grids cover, even in part.

    Across CRSs a pixel is taken as the box around its four projected corners, so that pixels which
    just do not touch may be marked, and none that touch are left.

    Returns:
        ``[H, W]``, True where any of the others lies.
    """
    marked = np.zeros(grid.shape, np.bool_)
    for other in others:
        if _may_touch(grid, other):
            marked |= _covered_by(grid, other)
    return marked


def _may_touch(grid: Grid, other: Grid) -> bool:
    """Tells at a glance whether grids lie apart; most of a large set do."""
    ours, theirs = _outline(grid), _outline(other)
    if ours is None or theirs is None:
        return True
    margin = _MARGIN_PIXELS * (ours.area / (grid.height * grid.width)) ** 0.5
    return bool(shapely.dwithin(ours, theirs, margin))


@lru_cache(maxsize=1024)
def _outline(grid: Grid) -> shapely.Geometry | None:
    try:
        return on_ground([grid.footprint], grid.crs)[0]
    except GridError:
        return None  # beyond the globe in parts


def _covered_by(grid: Grid, other: Grid) -> NDArray[np.bool_]:
    if grid.crs == other.crs:
        # Between north-up grids of one CRS rows follow from rows alone, and columns from columns.
        ours, theirs = grid.transform, ~other.transform
        rows = theirs.f + theirs.e * (ours.f + ours.e * np.arange(grid.height + 1.0))
        columns = theirs.c + theirs.a * (ours.c + ours.a * np.arange(grid.width + 1.0))
        row_inside = _reaches_into(rows[:-1], rows[1:], other.height)
        column_inside = _reaches_into(columns[:-1], columns[1:], other.width)
        return row_inside[:, None] & column_inside
    transformer = Transformer.from_crs(grid.crs, other.crs, always_xy=True)
    column, row = np.meshgrid(np.arange(grid.width + 1.0), np.arange(grid.height + 1.0))
    x, y = transformer.transform(*(grid.transform @ (column, row)))
    column, row = ~other.transform @ (np.asarray(x), np.asarray(y))
    return _reaches_into(*_corner_range(row), other.height) & _reaches_into(
        *_corner_range(column), other.width
    )


def _corner_range(mesh: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    corners = np.stack([mesh[:-1, :-1], mesh[1:, :-1], mesh[:-1, 1:], mesh[1:, 1:]])
    return corners.min(axis=0), corners.max(axis=0)


def _reaches_into(
    low: NDArray[np.float64], high: NDArray[np.float64], length: int
) -> NDArray[np.bool_]:
    """Whether ranges of pixels share more than a border with 0 to ``length``."""
    return np.asarray((high > _TOUCHING) & (low < length - _TOUCHING), dtype=np.bool_)
