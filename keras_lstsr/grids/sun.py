"""Where the sun stands, from time and place."""

from __future__ import annotations

import datetime as dt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Degrees = NDArray[np.float64]

_J2000 = dt.datetime(2000, 1, 1, 12, tzinfo=dt.UTC)
_DAYS_PER_CENTURY = 36525.0


def solar_position(
    utc: dt.datetime, longitude: ArrayLike, latitude: ArrayLike
) -> tuple[Degrees, Degrees]:
    """Finds the sun's zenith angle and azimuth, to about 0.01°, without refraction.

    Args:
        utc: The time; taken as UTC if it has no time zone.
        longitude: In degrees, east positive; any shape.
        latitude: In degrees, north positive; of the same shape.

    Returns:
        Zenith angle in degrees, and azimuth in degrees from north over east; both of the places'
        shape, NaN where a place is.

    Source: NOAA Global Monitoring Laboratory, Solar Calculation Details
    (gml.noaa.gov/grad/solcalc), after Meeus (1998), Astronomical Algorithms, ch. 25.
    """
    utc = utc.replace(tzinfo=dt.UTC) if utc.tzinfo is None else utc.astimezone(dt.UTC)
    minutes = utc.hour * 60 + utc.minute + utc.second / 60
    solar = minutes / 60 + np.asarray(longitude, np.float64) / 15
    return _position(utc, solar, np.asarray(latitude, np.float64))


def solar_position_at_view_time(
    date: dt.date, solar_hours: ArrayLike, latitude: ArrayLike
) -> tuple[Degrees, Degrees]:
    """Finds the sun as ``solar_position``, from local mean solar time such as MODIS's view time.

    Args:
        date: The day.
        solar_hours: Hours since local midnight, UTC plus the longitude over 15°; any shape.
        latitude: In degrees; of the same shape.
    """
    noon = dt.datetime(date.year, date.month, date.day, 12, tzinfo=dt.UTC)
    return _position(noon, np.asarray(solar_hours, np.float64), np.asarray(latitude, np.float64))


def _position(utc: dt.datetime, solar_hours: Degrees, latitude: Degrees) -> tuple[Degrees, Degrees]:
    declination, equation_hours = _declination_and_equation_of_time(utc)
    hour_angle = np.deg2rad(15 * (solar_hours + equation_hours - 12))
    phi = np.deg2rad(latitude)
    up = np.sin(phi) * np.sin(declination) + np.cos(phi) * np.cos(declination) * np.cos(hour_angle)
    east = -np.cos(declination) * np.sin(hour_angle)
    north = np.cos(phi) * np.sin(declination) - np.sin(phi) * np.cos(declination) * np.cos(
        hour_angle
    )
    zenith = np.rad2deg(np.arctan2(np.hypot(east, north), up))
    return zenith, np.rad2deg(np.arctan2(east, north)) % 360


def _declination_and_equation_of_time(utc: dt.datetime) -> tuple[float, float]:
    """Returns the declination in radians, and apparent less mean solar time in hours."""
    t = (utc - _J2000).total_seconds() / 86400 / _DAYS_PER_CENTURY
    longitude = np.deg2rad(280.46646 + t * (36000.76983 + t * 0.0003032))
    anomaly = np.deg2rad(357.52911 + t * (35999.05029 - t * 0.0001537))
    eccentricity = 0.016708634 - t * (0.000042037 + t * 0.0000001267)
    centre = (
        (1.914602 - t * (0.004817 + t * 0.000014)) * np.sin(anomaly)
        + (0.019993 - t * 0.000101) * np.sin(2 * anomaly)
        + 0.000289 * np.sin(3 * anomaly)
    )
    node = np.deg2rad(125.04 - 1934.136 * t)
    apparent = longitude + np.deg2rad(centre - 0.00569 - 0.00478 * np.sin(node))
    seconds = 21.448 - t * (46.815 + t * (0.00059 - t * 0.001813))
    obliquity = np.deg2rad(23 + (26 + seconds / 60) / 60 + 0.00256 * np.cos(node))
    y = np.tan(obliquity / 2) ** 2
    equation = (
        y * np.sin(2 * longitude)
        - 2 * eccentricity * np.sin(anomaly)
        + 4 * eccentricity * y * np.sin(anomaly) * np.cos(2 * longitude)
        - y**2 / 2 * np.sin(4 * longitude)
        - 1.25 * eccentricity**2 * np.sin(2 * anomaly)
    )
    declination = np.arcsin(np.sin(obliquity) * np.sin(apparent))
    return float(declination), float(np.rad2deg(equation) / 15)
