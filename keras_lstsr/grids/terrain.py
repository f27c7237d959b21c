"""What an elevation model tells of the ground: slope, aspect, and how the sun meets it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from pyproj import CRS, Geod, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.sun import solar_position, solar_position_at_view_time

Float64Array = NDArray[np.float64]

_ELLIPSOID = Geod(ellps="WGS84")


def slope_and_aspect(elevation: xr.DataArray) -> xr.Dataset:
    """Finds slope and aspect from central differences, in whatever CRS.

    Args:
        elevation: ``[y, x]`` in metres with CRS and coordinates, 2 × 2 pixels or more; NaN where
            missing.

    Returns:
        On the same pixels ``slope``, 0 to 90 degrees, and ``aspect``, the direction in which the
        ground falls, 0 to 360 degrees from north over east; float32. NaN where a pixel or a direct
        neighbour is missing; aspect also where the ground is level.

    Raises:
        GridError: If it is no raster with a CRS and a regular grid, or is too small.
    """
    given = placed(elevation, "elevation")
    east, north, _, _ = _gradient(np.asarray(given.raster.values, np.float64), given.grid)
    steepness = np.hypot(east, north)
    aspect = np.where(steepness > 0, np.rad2deg(np.arctan2(-east, -north)) % 360, np.nan)
    angles = {"slope": np.rad2deg(np.arctan(steepness)), "aspect": aspect}
    variables = {
        name: xr.Variable(("y", "x"), values.astype(np.float32), {"units": "degree"})
        for name, values in angles.items()
    }
    return given.as_given(given.grid.dataset(variables))


def sun_incidence(
    elevation: xr.DataArray, when: dt.datetime | dt.date, solar_hours: ArrayLike | None = None
) -> xr.DataArray:
    """Finds the cosine of the angle between the sun and the ground's normal at an overpass.

    On level ground it is the cosine of the sun's zenith angle. Shadows that other ground casts are
    not in it.

    Args:
        elevation: As of ``slope_and_aspect``.
        when: The time in UTC; or the day, with ``solar_hours``.
        solar_hours: Local mean solar time in hours, as MODIS's view time: a number, or ``[H, W]``
            of the raster turned north-up.

    Returns:
        ``sun_incidence`` on the same pixels, float32, 0 to 1; 0 where the ground turns away from
        the sun or the sun is down. NaN where slope is, or the time.

    Raises:
        GridError: As ``slope_and_aspect``; or if neither a time nor solar hours are given.
    """
    timed = solar_hours is not None or isinstance(when, dt.datetime)
    GridError.unless(timed, "when", when, "a time in UTC, or a day and solar_hours")
    given = placed(elevation, "elevation")
    values = np.asarray(given.raster.values, np.float64)
    east, north, longitude, latitude = _gradient(values, given.grid)
    if solar_hours is not None:
        zenith, azimuth = solar_position_at_view_time(when, solar_hours, latitude)
    else:
        assert isinstance(when, dt.datetime)
        zenith, azimuth = solar_position(when, longitude, latitude)
    zenith, azimuth = np.deg2rad(zenith), np.deg2rad(azimuth)
    # The normal is (−∂z/∂east, −∂z/∂north, 1), and the sun a vector of length 1.
    level = np.sin(zenith) * (np.sin(azimuth) * -east + np.cos(azimuth) * -north)
    cosine = (level + np.cos(zenith)) / np.sqrt(1 + east**2 + north**2)
    shining = np.where(zenith < np.pi / 2, np.clip(cosine, 0.0, 1.0), 0.0)
    result = np.where(np.isfinite(cosine), shining, np.nan).astype(np.float32)
    return given.as_given(given.grid.raster(result, name="sun_incidence", attrs={"units": "1"}))


def _gradient(values: Float64Array, grid: Grid) -> tuple[Float64Array, ...]:
    """Returns the rise towards east and north, without a unit, and longitude and latitude.

    Rows and columns run neither north nor east in most CRSs (MODIS's is sheared by more than 45°
    far from its meridian), so steps along them are taken as they lie on the ellipsoid.
    """
    fits, expected = min(grid.shape) >= 2, "2 × 2 pixels or more"
    GridError.unless(fits, "elevation", f"{grid.height} × {grid.width} pixels", expected)
    x, y = (grid.coordinates()[axis].values for axis in ("x", "y"))
    geographic = CRS.from_epsg(4326)
    transformer = Transformer.from_crs(grid.crs, geographic, always_xy=True)
    longitude, latitude = map(np.asarray, transformer.transform(*np.meshgrid(x, y)))
    phi = np.deg2rad(latitude)
    squeezed = 1 - _ELLIPSOID.es * np.sin(phi) ** 2
    metres_east = np.deg2rad(_ELLIPSOID.a * np.cos(phi) / np.sqrt(squeezed))
    metres_north = np.deg2rad(_ELLIPSOID.a * (1 - _ELLIPSOID.es) / squeezed**1.5)
    turned = np.unwrap(longitude, axis=1, period=360)
    (east_row, east_column), (north_row, north_column) = (
        [metres * step for step in np.gradient(angle)]
        for metres, angle in ((metres_east, turned), (metres_north, latitude))
    )
    there = np.isfinite(values)
    rise_row, rise_column = np.gradient(np.where(there, values, np.nan))
    area = east_column * north_row - east_row * north_column
    east = (rise_column * north_row - rise_row * north_column) / area
    north = (rise_row * east_column - rise_column * east_row) / area
    return np.where(there, east, np.nan), np.where(there, north, np.nan), longitude, latitude
