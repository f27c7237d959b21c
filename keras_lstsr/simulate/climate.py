"""Sun, seasons, weather and the satellite's view: what a day brings to the ground."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.modis import MODIS_SPHERE_RADIUS_M
from keras_lstsr.simulate.fields import Float32Array, RandomStreams, power_law_field
from keras_lstsr.simulate.place import PIXEL_SIZE_M, TileGrid, northern_day_of_year

# Terra crosses the equator at 10:30 and 22:30 local solar time, 705 km up, and sees 2330 km.
DAY_CROSSING_HOURS = 10.6
NIGHT_CROSSING_HOURS = 22.0
_ORBIT_HEIGHT_KM = 705.0
_HALF_SWATH_KM = 1165.0
_SWATH_SPACING_KM = 2250.0
_TRACK_TILT_RADIANS = np.radians(12.0)
_EARTH_RADIUS_KM = MODIS_SPHERE_RADIUS_M / 1000

# The air is warmest three to four weeks after the solstice, water three weeks later still.
_WARMEST_AIR_DAY = 200.0
_WARMEST_WATER_DAY = 222.0


@dataclass(frozen=True)
class Sun:
    """Direction of the sun at the morning overpass, as a unit vector.

    Attributes:
        east: Component towards the east.
        north: Component towards the north.
        up: Component towards the zenith, the cosine of the solar zenith angle.
    """

    east: float
    north: float
    up: float


def sun_at_overpass(date: dt.date, latitude_degrees: float) -> Sun:
    """Computes the sun's direction at 10:36 local solar time; ``up`` is at least 0.05.

    Source: Cooper (1969) for the declination; spherical trigonometry.
    """
    day = date.timetuple().tm_yday
    declination = np.radians(23.45) * np.sin(2 * np.pi * (284 + day) / 365)
    hour_angle = np.radians(15.0 * (DAY_CROSSING_HOURS - 12.0))
    latitude = np.radians(latitude_degrees)
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.cos(latitude) * np.sin(declination)
    north -= np.sin(latitude) * np.cos(declination) * np.cos(hour_angle)
    up = np.sin(latitude) * np.sin(declination)
    up += np.cos(latitude) * np.cos(declination) * np.cos(hour_angle)
    return Sun(float(east), float(north), max(float(up), 0.05))


def illumination(elevation_km: Float32Array, grid: TileGrid, sun: Sun) -> Float32Array:
    """Computes how much sun slopes get beside level ground, ``[N, N]`` on the 250 m grid.

    It is the cosine of the incidence angle over that of the zenith angle, 0.2 to 1.8. Away from
    the prime meridian the grid's columns do not run north.
    """
    pixel_km = PIXEL_SIZE_M / 4000
    to_south, to_east = np.gradient(elevation_km, np.float32(pixel_km))
    longitude, latitude = np.radians(grid.centre_degrees)
    # x = R · longitude · cos(latitude): a step north along a meridian also moves along x.
    to_north = -to_south - np.float32(longitude * np.sin(latitude)) * to_east
    # Slopes are steeper on the ground than in heights averaged over 250 m.
    steeper = np.float32(2.0)
    incidence = sun.up - steeper * (sun.east * to_east + sun.north * to_north)
    incidence /= np.sqrt(1 + steeper**2 * (to_east**2 + to_north**2))
    return np.clip(incidence / np.float32(sun.up), 0.2, 1.8).astype(np.float32)


def annual_mean_kelvin(latitude_degrees: NDArray[np.floating] | float) -> NDArray[np.float64]:
    """Mean air temperature at sea level, from about 300 K at the equator to 262 K at a pole."""
    sine: NDArray[np.float64] = np.sin(np.radians(np.asarray(latitude_degrees, dtype=np.float64)))
    return 300.0 - 38.0 * sine**2


def season_kelvin(
    date: dt.date, latitude_degrees: NDArray[np.floating] | float, *, water: bool = False
) -> NDArray[np.float64]:
    """Departure of the day's temperature from the annual mean; water lags behind and is damped."""
    latitude = np.asarray(latitude_degrees, dtype=np.float64)
    day = northern_day_of_year(date, float(np.mean(latitude)))
    warmest = _WARMEST_WATER_DAY if water else _WARMEST_AIR_DAY
    amplitude = (0.75 if water else 1.0) * 0.26 * np.abs(latitude)
    departure: NDArray[np.float64] = amplitude * np.cos(2 * np.pi * (day - warmest) / 365.0)
    return departure


def weather_kelvin(streams: RandomStreams, name: str, pixels: int) -> Float32Array:
    """Draws the day's warm and cold air over a tile, ``[pixels, pixels]`` at 1 km."""
    generator = streams.generator(name)
    level = np.float32(generator.normal(0.0, 1.5))
    return level + np.float32(0.9) * power_law_field(generator, pixels, 4.0, 600)


@dataclass(frozen=True)
class View:
    """How the satellite sees a tile, at 1 km, ``[n, n]`` each.

    Attributes:
        zenith_degrees: View zenith angle, negative on the western side of the track.
        solar_hours: Local solar time of the observation.
    """

    zenith_degrees: Float32Array
    solar_hours: Float32Array


def satellite_view(generator: np.random.Generator, grid: TileGrid, *, night: bool) -> View:
    """Lays swaths over a tile, somewhere, and computes view angle and local time."""
    offset = generator.uniform(-0.5, 0.5) * _SWATH_SPACING_KM
    kilometres = (np.arange(grid.pixels) + 0.5) * PIXEL_SIZE_M / 1000
    tilt = np.tan(_TRACK_TILT_RADIANS) * (1 if night else -1)
    distance = kilometres[None, :] - 556.0 - offset - tilt * kilometres[:, None]
    distance = (distance + _SWATH_SPACING_KM / 2) % _SWATH_SPACING_KM - _SWATH_SPACING_KM / 2
    distance = np.clip(distance, -_HALF_SWATH_KM, _HALF_SWATH_KM)
    arc = distance / _EARTH_RADIUS_KM
    scan = np.arctan2(np.sin(arc), 1 + _ORBIT_HEIGHT_KM / _EARTH_RADIUS_KM - np.cos(arc))
    latitude = np.radians(grid.latitudes_degrees(1))[:, None]
    km_per_hour = np.radians(15.0) * _EARTH_RADIUS_KM * np.maximum(np.cos(latitude), 0.2)
    crossing = NIGHT_CROSSING_HOURS if night else DAY_CROSSING_HOURS
    hours = crossing + distance / km_per_hour
    return View(np.degrees(scan + arc).astype(np.float32), hours.astype(np.float32))
