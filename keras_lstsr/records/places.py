"""Places on the ground, and which split they belong to, so that no ground is in two splits.

Rasters that share pixels form a family, a ``PixelGrid``: all subsets of MODIS sinusoidal tiles of
one pixel size, or else all rasters with the same CRS, pixel size and corner. Each family is cut
into blocks of ``patch_size`` × ``patch_size`` pixels, counted from the tile's corner or the
raster's. Such a block is a place. Where blocks of two families overlap on the ground, they are
merged into one place, and so are all blocks that hang together by overlaps. The place's name is
hashed, and the hash decides the split.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from pyproj import CRS, Transformer
from rasterio.crs import CRS as RasterioCRS
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.modis import (
    MODIS_TILE_COLUMNS,
    MODIS_TILE_ROWS,
    MODIS_TILE_SIZE_M,
    canonical_crs,
    modis_sinusoidal_crs,
)
from keras_lstsr.records.schema import SPLITS, Split

# Corners are told apart down to this part of a pixel; delivered corners carry rounding noise.
_PIXEL_TOLERANCE = 0.01
# Straight edges in one CRS are curves in another: so many segments follow them.
_SEGMENTS_PER_SIDE = 16

Block = tuple[int, int, int, int]  # tile row v, tile column h, block row, block column


@dataclass(frozen=True)
class PixelGrid:
    """An endless grid of pixels that a family of rasters shares.

    Attributes:
        name: Names the family, e.g. ``modis1200`` or ``epsg32633-1000x1000@360141.5,5156649.3``.
        crs_wkt: The CRS.
        x_origin: West edge of column 0, in units of the CRS.
        y_origin: North edge of row 0.
        pixel_width: In units of the CRS.
        pixel_height: In units of the CRS, positive.
        pixels_per_tile: Pixels along a MODIS tile's side; 0 where the grid has no tiles.
    """

    name: str
    crs_wkt: str
    x_origin: float
    y_origin: float
    pixel_width: float
    pixel_height: float
    pixels_per_tile: int = 0


@dataclass(frozen=True)
class RasterWindow:
    """Where a raster lies in its family's grid: corner and size in pixels."""

    grid: PixelGrid
    row: int
    column: int
    height: int
    width: int


@dataclass(frozen=True)
class SplitSettings:
    """How places and dates are shared out.

    Attributes:
        fractions: Expected shares of train, validation and test; they sum to 1.
        by: ``place``; ``date`` (the same ground may then be in several splits); or
            ``place_and_date``, which keeps a patch only if place and date fall into one split.
        seed: Another seed shares them out anew.
    """

    fractions: tuple[float, float, float] = (0.75, 0.125, 0.125)
    by: str = "place"
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.fractions) != 3 or min(self.fractions) < 0:
            raise ConfigError(
                "the shares of the splits are invalid",
                field="split_fractions",
                found=self.fractions,
                expected="three shares ≥ 0 of train, validation and test",
            )
        if not math.isclose(sum(self.fractions), 1.0, abs_tol=1e-6):
            raise ConfigError(
                "the shares of the splits do not sum to 1",
                field="split_fractions",
                found=self.fractions,
                expected="e.g. 0.75,0.125,0.125",
            )
        if self.by not in ("place", "date", "place_and_date"):
            raise ConfigError(
                "unknown way to split",
                field="split_by",
                found=self.by,
                expected="place, date or place_and_date",
            )


def hash_to_unit(key: str, seed: int) -> float:
    """Returns a number in [0, 1) that depends on ``key`` and ``seed`` alone, on any machine."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    # 53 bits are what a float64 holds exactly.
    return (int.from_bytes(digest[:8], "big") >> 11) / 2.0**53


def split_of(key: str, settings: SplitSettings) -> Split:
    """Returns the split that a place's or date's key falls into."""
    position = hash_to_unit(key, settings.seed)
    edge = 0.0
    for split, fraction in zip(SPLITS, settings.fractions, strict=True):
        edge += fraction
        if position < edge:
            return split
    # Rounding may leave the last edge a hair below 1.
    return next(s for s, f in zip(SPLITS[::-1], settings.fractions[::-1], strict=True) if f > 0)


def _is_modis_sinusoidal(crs_wkt: str) -> bool:
    return canonical_crs(RasterioCRS.from_wkt(crs_wkt)) == modis_sinusoidal_crs()


def _crs_name(crs: CRS) -> str:
    authority = crs.to_authority(min_confidence=100)
    if authority is not None:
        return "".join(authority).lower()
    return "crs" + hashlib.sha256(crs.to_wkt().encode()).hexdigest()[:12]


def locate(
    crs_wkt: str,
    transform: Sequence[float],
    height: int,
    width: int,
    *,
    anchor: str = "tile",
) -> RasterWindow:
    """Finds a raster's family and its place in the family's grid.

    Args:
        crs_wkt: The raster's CRS.
        transform: Affine coefficients (a, b, c, d, e, f): x = a·col + b·row + c,
            y = d·col + e·row + f.
        height: Rows.
        width: Columns.
        anchor: ``"tile"`` counts from the corner of the MODIS tile where the pixels are MODIS
            pixels; ``"raster"`` always counts from the raster's own corner.

    Raises:
        GridError: If the raster is rotated or not north-up.
    """
    a, b, c, d, e, f = transform[:6]
    if b != 0 or d != 0 or a <= 0 or e >= 0:
        raise GridError(
            "the raster is rotated or not north-up",
            field="transform",
            found=tuple(transform[:6]),
            expected="b = d = 0, a > 0 and e < 0",
            action="Warp it onto a north-up grid first (gdalwarp).",
        )
    if anchor == "tile" and _is_modis_sinusoidal(crs_wkt):
        per_tile = round(MODIS_TILE_SIZE_M / a)
        size = MODIS_TILE_SIZE_M / per_tile
        west = -MODIS_TILE_SIZE_M * MODIS_TILE_COLUMNS / 2
        north = MODIS_TILE_SIZE_M * MODIS_TILE_ROWS / 2
        column, row = (c - west) / size, (north - f) / size
        noise = max(
            abs(a / size - 1) * per_tile,
            abs(-e / size - 1) * per_tile,
            abs(column - round(column)),
            abs(row - round(row)),
        )
        if noise < _PIXEL_TOLERANCE:
            grid = PixelGrid(
                f"modis{per_tile}",
                modis_sinusoidal_crs().srs,
                west,
                north,
                size,
                size,
                per_tile,
            )
            return RasterWindow(grid, round(row), round(column), height, width)
    step = _PIXEL_TOLERANCE * a
    corner = f"{round(c / step)},{round(f / step)}"
    name = f"{_crs_name(CRS.from_wkt(crs_wkt))}-{a:.9g}x{-e:.9g}@{corner}"
    return RasterWindow(PixelGrid(name, crs_wkt, c, f, a, -e), 0, 0, height, width)


def _starts(first: int, length: int, per_tile: int, size: int, stride: int) -> list[int]:
    """Positions along an axis, counted from the raster's corner, at which patches begin."""
    if not per_tile:
        return list(range(0, length - size + 1, stride))
    positions = np.arange(first, first + length - size + 1)
    in_tile = positions % per_tile
    # No patch crosses a tile's edge: a mosaic gives the patches of its tiles.
    fits = (in_tile % stride == 0) & (in_tile + size <= per_tile)
    return [int(position) - first for position in positions[fits]]


def patch_corners(window: RasterWindow, size: int, stride: int) -> list[tuple[int, int]]:
    """Lists the corners (row, column in the raster) of all whole patches of a raster.

    In MODIS tiles they are counted from the tile's corner, so that every subset of a tile gives
    the same patches as the tile; elsewhere from the raster's corner.
    """
    per_tile = window.grid.pixels_per_tile
    rows = _starts(window.row, window.height, per_tile, size, stride)
    columns = _starts(window.column, window.width, per_tile, size, stride)
    return [(row, column) for row in rows for column in columns]


def patch_blocks(window: RasterWindow, corner: tuple[int, int], size: int) -> list[Block]:
    """Lists the blocks that a patch touches: one to four, the one of its corner first."""
    per_tile = window.grid.pixels_per_tile
    row, column = window.row + corner[0], window.column + corner[1]
    tile_row, tile_column = (row // per_tile, column // per_tile) if per_tile else (0, 0)
    row, column = row - tile_row * per_tile, column - tile_column * per_tile
    block_rows = range(row // size, (row + size - 1) // size + 1)
    block_columns = range(column // size, (column + size - 1) // size + 1)
    return [(tile_row, tile_column, r, c) for r in block_rows for c in block_columns]


def place_name(grid: PixelGrid, block: Block) -> str:
    """Returns the name of a block that is a place by itself."""
    tile_row, tile_column, row, column = block
    tile = f"h{tile_column:02d}v{tile_row:02d}/" if grid.pixels_per_tile else ""
    return f"{grid.name}/{tile}r{row:03d}c{column:03d}"


def _block_outlines(grid: PixelGrid, blocks: Sequence[Block], size: int) -> NDArray[np.object_]:
    """Returns the blocks' outlines in the MODIS sinusoidal projection."""
    index = np.asarray(blocks, dtype=np.int64)
    per_tile = grid.pixels_per_tile
    tops, lefts = index[:, 2] * size, index[:, 3] * size
    bottoms, rights = tops + size, lefts + size
    if per_tile:
        bottoms, rights = np.minimum(bottoms, per_tile), np.minimum(rights, per_tile)
    # Neighbours touch; only a share of more than a hundredth of a pixel is common ground.
    inset = _PIXEL_TOLERANCE
    row, column = index[:, 0] * per_tile, index[:, 1] * per_tile
    boxes = shapely.box(
        grid.x_origin + (column + lefts + inset) * grid.pixel_width,
        grid.y_origin - (row + bottoms - inset) * grid.pixel_height,
        grid.x_origin + (column + rights - inset) * grid.pixel_width,
        grid.y_origin - (row + tops + inset) * grid.pixel_height,
    )
    return on_sinusoidal_ground(boxes, grid.crs_wkt)


@lru_cache(maxsize=256)
def _to_sinusoidal(crs_wkt: str) -> Transformer:
    # Making one takes longer than all the points of a raster.
    return Transformer.from_crs(crs_wkt, modis_sinusoidal_crs(), always_xy=True)


def on_sinusoidal_ground(boxes: NDArray[np.object_], crs_wkt: str) -> NDArray[np.object_]:
    """Brings boxes of one CRS and size into the MODIS sinusoidal projection, edges followed.

    Raises:
        GridError: If the projection does not reach there.
    """
    longest = float(np.sqrt(shapely.area(boxes)).max(initial=0.0))
    outlines = shapely.segmentize(boxes, max(longest, 1e-9) / _SEGMENTS_PER_SIDE)
    points = shapely.get_coordinates(outlines)
    x, y = _to_sinusoidal(crs_wkt).transform(points[:, 0], points[:, 1])
    moved = np.column_stack([x, y])
    if not np.isfinite(moved).all():
        raise GridError(
            "the raster reaches beyond the globe",
            field="crs",
            action="Crop it to where its CRS is defined.",
        )
    return shapely.make_valid(shapely.set_coordinates(outlines, moved))


def check_on_globe(window: RasterWindow, size: int, stride: int) -> None:
    """Raises ``GridError`` if a raster's blocks cannot be placed on the ground."""
    blocks = _touched(window, size, stride)
    if blocks:
        _block_outlines(window.grid, blocks, size)


def _touched(window: RasterWindow, size: int, stride: int) -> list[Block]:
    corners = patch_corners(window, size, stride)
    return sorted({block for corner in corners for block in patch_blocks(window, corner, size)})


def merge_places(windows: Iterable[RasterWindow], size: int, stride: int) -> dict[str, str]:
    """Merges places of different families that share ground.

    Args:
        windows: All rasters of a job. Only their geometry counts, so that clouds do not change
            the split.
        size: Pixels along a patch's and a block's side.
        stride: Pixels between neighbouring patches' corners.

    Returns:
        The smallest name of the merged place, by the name of each block that was merged with
        another; all other blocks are places by themselves.
    """
    blocks_of: dict[PixelGrid, set[Block]] = {}
    for window in sorted(set(windows), key=_window_order):
        blocks_of.setdefault(window.grid, set()).update(_touched(window, size, stride))
    if len(blocks_of) < 2:
        return {}
    names: list[str] = []
    outlines = []
    for grid, touched in blocks_of.items():
        if touched:
            blocks = sorted(touched)
            names += [place_name(grid, block) for block in blocks]
            outlines.append(_block_outlines(grid, blocks, size))
    return dict(_components(names, np.concatenate(outlines))) if outlines else {}


def _window_order(window: RasterWindow) -> tuple[str, int, int, int, int]:
    return (window.grid.name, window.row, window.column, window.height, window.width)


def _components(names: list[str], outlines: NDArray[np.object_]) -> Iterator[tuple[str, str]]:
    first, second = shapely.STRtree(outlines).query(outlines, predicate="intersects")
    links = coo_array((np.ones(first.size, bool), (first, second)), shape=(len(names),) * 2)
    count, component = connected_components(links, directed=False)
    members: list[list[str]] = [[] for _ in range(count)]
    for name, label in zip(names, component, strict=True):
        members[label].append(name)
    for group in members:
        if len(group) > 1:
            smallest = min(group)
            yield from ((name, smallest) for name in group)
