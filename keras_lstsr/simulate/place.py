"""Where and when scenes lie: MODIS tiles, their grids, and the calendar of the simulation."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import (
    MODIS_SPHERE_RADIUS_M,
    MODIS_TILE_SIZE_M,
    modis_sinusoidal_crs,
)

TILE_PIXELS = 1200
"""1 km pixels along the side of a whole tile."""

FINE_FACTOR = 4
"""250 m pixels along the side of a 1 km pixel."""

PIXEL_SIZE_M = MODIS_TILE_SIZE_M / TILE_PIXELS
"""Side of a 1 km pixel: 926.625 m."""

LAND_TILES: tuple[tuple[int, int], ...] = (
    (18, 4),  # central Europe
    (11, 5),  # southern Appalachians
    (12, 12),  # Pampas
    (27, 5),  # north China plain
    (8, 5),  # California
    (20, 4),  # Black Sea steppe
    (29, 12),  # south-eastern Australia
    (17, 5),  # Iberia
)
"""Tiles (h, v) in the order in which scenes visit them."""

# Days of the growing season, when NDVI and LST of a landscape differ most. South of the equator
# half a year is added. The stride is coprime to the number of days, so that each tile meets each.
_NORTHERN_DAYS = (191, 137, 236, 166, 259, 121, 213, 150)
_DAY_STRIDE = 3
_FIRST_YEAR = 2019
_HALF_YEAR_DAYS = 182


@dataclass(frozen=True)
class TileGrid:
    """A MODIS tile, or the square at its upper left corner.

    Attributes:
        h: Tile column.
        v: Tile row.
        pixels: 1 km pixels along a side.
    """

    h: int
    v: int
    pixels: int

    @property
    def tile(self) -> str:
        """The tile's name, e.g. ``"h18v04"``."""
        return f"h{self.h:02d}v{self.v:02d}"

    @property
    def coarse(self) -> Grid:
        """The grid of the 1 km pixels."""
        left, top = (self.h - 18) * MODIS_TILE_SIZE_M, (9 - self.v) * MODIS_TILE_SIZE_M
        transform = Affine(PIXEL_SIZE_M, 0.0, left, 0.0, -PIXEL_SIZE_M, top)
        return Grid(modis_sinusoidal_crs(), transform, (self.pixels, self.pixels))

    @property
    def fine(self) -> Grid:
        """The grid of the 250 m pixels."""
        return self.coarse.finer(FINE_FACTOR)

    def latitudes_degrees(self, factor: int = FINE_FACTOR) -> NDArray[np.float32]:
        """Latitudes of the row centres, ``[pixels · factor]``."""
        rows = (np.arange(self.pixels * factor) + 0.5) / factor
        northing = self.coarse.transform.f - rows * PIXEL_SIZE_M
        return np.degrees(northing / MODIS_SPHERE_RADIUS_M).astype(np.float32)

    def corner_degrees(self) -> tuple[list[float], list[float]]:
        """Longitudes and latitudes of the corners, clockwise from the upper left."""
        west, south, east, north = self.coarse.bounds
        eastings, northings = (west, east, east, west), (north, north, south, south)
        latitudes = [y / MODIS_SPHERE_RADIUS_M for y in northings]
        longitudes = [
            x / (MODIS_SPHERE_RADIUS_M * np.cos(latitude))
            for x, latitude in zip(eastings, latitudes, strict=True)
        ]
        return [float(np.degrees(a)) for a in longitudes], [float(np.degrees(a)) for a in latitudes]

    @property
    def centre_degrees(self) -> tuple[float, float]:
        """Longitude and latitude of the centre."""
        west, south, east, north = self.coarse.bounds
        latitude = 0.5 * (north + south) / MODIS_SPHERE_RADIUS_M
        longitude = 0.5 * (west + east) / (MODIS_SPHERE_RADIUS_M * np.cos(latitude))
        return float(np.degrees(longitude)), float(np.degrees(latitude))


def scene_place_and_date(index: int) -> tuple[int, int, dt.date]:
    """Returns tile column, tile row and date of a scene by its number, from 0.

    Scenes go round the land tiles; each time a tile comes up again it is another day, so that
    no two scenes share both.
    """
    turn, position = divmod(index, len(LAND_TILES))
    h, v = LAND_TILES[position]
    day = _NORTHERN_DAYS[(position + _DAY_STRIDE * turn) % len(_NORTHERN_DAYS)]
    date = dt.date(_FIRST_YEAR + turn // len(_NORTHERN_DAYS), 1, 1) + dt.timedelta(days=day - 1)
    if v >= 9:
        date += dt.timedelta(days=_HALF_YEAR_DAYS)
    return h, v, date


def northern_day_of_year(date: dt.date, latitude_degrees: float) -> float:
    """Day of the year, 1 to 365; south of the equator half a year is added."""
    day = date.timetuple().tm_yday
    if latitude_degrees < 0:
        day += _HALF_YEAR_DAYS
    return float((day - 1) % 365 + 1)
