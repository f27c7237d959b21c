"""Places on the ground, and which split they belong to, so that no ground is in two splits.

Rasters that share pixels form a ``Family``: all subsets of MODIS sinusoidal tiles of
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

import numpy as np
import shapely
from affine import Affine
from numpy.typing import NDArray
from pyproj import CRS

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import connected, on_ground
from keras_lstsr.grids.modis import (
    MODIS_TILE_COLUMNS,
    MODIS_TILE_ROWS,
    MODIS_TILE_SIZE_M,
    modis_sinusoidal_crs,
)
from keras_lstsr.records.schema import SPLITS, Split

# Corners are told apart down to this part of a pixel; delivered corners carry rounding noise.
_PIXEL_TOLERANCE = 0.01

Block = tuple[int, int, int, int]  # tile row v, tile column h, block row, block column


@dataclass(frozen=True)
class Family:
    """An endless lattice of pixels that rasters share.

    Attributes:
        name: Names it, e.g. ``modis1200`` or ``epsg32633-1000x1000@360141.5,5156649.3``.
        first: The grid of its pixel in row 0 and column 0.
        pixels_per_tile: Pixels along a MODIS tile's side; 0 where the lattice has no tiles.
    """

    name: str
    first: Grid
    pixels_per_tile: int = 0


@dataclass(frozen=True)
class RasterWindow:
    """Where a raster lies in its family's lattice: corner and size in pixels."""

    family: Family
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
        fits = len(self.fractions) == 3 and min(self.fractions) >= 0
        fits = fits and math.isclose(sum(self.fractions), 1.0, abs_tol=1e-6)
        expected = "shares of train, validation and test that sum to 1, e.g. 0.75,0.125,0.125"
        ConfigError.unless(fits, "split_fractions", self.fractions, expected)
        fits = self.by in ("place", "date", "place_and_date")
        ConfigError.unless(fits, "split_by", self.by, "place, date or place_and_date")


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


def _crs_name(crs: CRS) -> str:
    authority = crs.to_authority(min_confidence=100)
    if authority is not None:
        return "".join(authority).lower()
    return "crs" + hashlib.sha256(crs.to_wkt().encode()).hexdigest()[:12]


def locate(grid: Grid, *, anchor: str = "tile") -> RasterWindow:
    """Finds a raster's family and its place in the family's lattice.

    Args:
        grid: The raster's grid.
        anchor: ``"tile"`` counts from the corner of the MODIS tile where the pixels are MODIS
            pixels; ``"raster"`` always counts from the raster's own corner.
    """
    a, _, c, _, e, f = grid.transform[:6]
    if anchor == "tile" and grid.crs == modis_sinusoidal_crs():
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
            first = Grid(grid.crs, Affine(size, 0, west, 0, -size, north), (1, 1))
            family = Family(f"modis{per_tile}", first, per_tile)
            return RasterWindow(family, round(row), round(column), *grid.shape)
    step = _PIXEL_TOLERANCE * a
    corner = f"{round(c / step)},{round(f / step)}"
    name = f"{_crs_name(grid.crs)}-{a:.9g}x{-e:.9g}@{corner}"
    return RasterWindow(Family(name, Grid(grid.crs, grid.transform, (1, 1))), 0, 0, *grid.shape)


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
    per_tile = window.family.pixels_per_tile
    rows = _starts(window.row, window.height, per_tile, size, stride)
    columns = _starts(window.column, window.width, per_tile, size, stride)
    return [(row, column) for row in rows for column in columns]


def patch_blocks(window: RasterWindow, corner: tuple[int, int], size: int) -> list[Block]:
    """Lists the blocks that a patch touches: one to four, the one of its corner first."""
    per_tile = window.family.pixels_per_tile
    row, column = window.row + corner[0], window.column + corner[1]
    tile_row, tile_column = (row // per_tile, column // per_tile) if per_tile else (0, 0)
    row, column = row - tile_row * per_tile, column - tile_column * per_tile
    block_rows = range(row // size, (row + size - 1) // size + 1)
    block_columns = range(column // size, (column + size - 1) // size + 1)
    return [(tile_row, tile_column, r, c) for r in block_rows for c in block_columns]


def place_name(family: Family, block: Block) -> str:
    """Returns the name of a block that is a place by itself."""
    tile_row, tile_column, row, column = block
    tile = f"h{tile_column:02d}v{tile_row:02d}/" if family.pixels_per_tile else ""
    return f"{family.name}/{tile}r{row:03d}c{column:03d}"


def _block_outlines(family: Family, blocks: Sequence[Block], size: int) -> NDArray[np.object_]:
    """Returns the blocks' outlines in the MODIS sinusoidal projection."""
    index = np.asarray(blocks, dtype=np.int64)
    per_tile = family.pixels_per_tile
    tops, lefts = index[:, 2] * size, index[:, 3] * size
    bottoms, rights = tops + size, lefts + size
    if per_tile:
        bottoms, rights = np.minimum(bottoms, per_tile), np.minimum(rights, per_tile)
    # Neighbours touch; only a share of more than a hundredth of a pixel is common ground.
    inset = _PIXEL_TOLERANCE
    row, column = index[:, 0] * per_tile, index[:, 1] * per_tile
    (west, _, _, north), (width, height) = family.first.bounds, family.first.pixel_size
    boxes = shapely.box(
        west + (column + lefts + inset) * width,
        north - (row + bottoms - inset) * height,
        west + (column + rights - inset) * width,
        north - (row + tops + inset) * height,
    )
    return on_ground(boxes, family.first.crs)


def check_on_globe(window: RasterWindow, size: int, stride: int) -> None:
    """Raises ``GridError`` if a raster's blocks cannot be placed on the ground."""
    blocks = _touched(window, size, stride)
    if blocks:
        _block_outlines(window.family, blocks, size)


def _touched(window: RasterWindow, size: int, stride: int) -> list[Block]:
    corners = patch_corners(window, size, stride)
    return sorted({block for corner in corners for block in patch_blocks(window, corner, size)})


def merge_places(windows: Iterable[RasterWindow], size: int, stride: int) -> dict[str, str]:
    """Merges places of different families that share ground.

    Of the windows, all rasters of a job, only the geometry counts, so that clouds do not change
    the split. Sizes and strides are of patches, in pixels.

    Returns:
        The smallest name of the merged place, by the name of each block that was merged with
        another; all other blocks are places by themselves.
    """
    blocks_of: dict[Family, set[Block]] = {}
    for window in sorted(set(windows), key=_window_order):
        blocks_of.setdefault(window.family, set()).update(_touched(window, size, stride))
    if len(blocks_of) < 2:
        return {}
    names: list[str] = []
    outlines = []
    for family, touched in blocks_of.items():
        if touched:
            blocks = sorted(touched)
            names += [place_name(family, block) for block in blocks]
            outlines.append(_block_outlines(family, blocks, size))
    return dict(_components(names, np.concatenate(outlines))) if outlines else {}


def _window_order(window: RasterWindow) -> tuple[str, int, int, int, int]:
    return (window.family.name, window.row, window.column, window.height, window.width)


def _components(names: list[str], outlines: NDArray[np.object_]) -> Iterator[tuple[str, str]]:
    members: dict[int, list[str]] = {}
    for name, label in zip(names, connected(outlines), strict=True):
        members.setdefault(label, []).append(name)
    for group in members.values():
        if len(group) > 1:
            smallest = min(group)
            yield from ((name, smallest) for name in group)
