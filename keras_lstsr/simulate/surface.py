"""The true state of the ground on a day: NDVI, reflectance, and LST by day and by night."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from scipy.optimize import brentq

from keras_lstsr.simulate import climate
from keras_lstsr.simulate.fields import Float32Array, RandomStreams, power_law_field
from keras_lstsr.simulate.landcover import Crop, Ground, relative_height
from keras_lstsr.simulate.place import TileGrid, northern_day_of_year
from keras_lstsr.simulate.terrain import refine

# LST over land and NDVI of the same pixels. Values of the order of -0.7 by day and weak by night
# are what summer scenes of MODIS show (Sun & Kafatos 2007).
DAY_CORRELATION = -0.74
NIGHT_CORRELATION = -0.25
# Bare, dry ground is warmer than full vegetation by this much at most and at least.
_DAY_CONTRAST_KELVIN = (6.0, 30.0)
_NIGHT_CONTRAST_KELVIN = (-4.0, 5.0)

# Width of the mixed edge of a parcel, in 250 m pixels.
_MIXED_PIXEL_SIGMA = 0.55
# Reach of warm and cool air across an edge, in 250 m pixels.
_ADVECTION_SIGMA = 0.8
_DAY_LAPSE_KELVIN_PER_KM = 6.0
_NIGHT_LAPSE_KELVIN_PER_KM = 3.8
_PLAUSIBLE_KELVIN = (250.0, 335.0)


@dataclass(frozen=True)
class Surface:
    """The ground on a day, on the 250 m grid, ``[N, N]`` each.

    Attributes:
        ndvi: True NDVI.
        brightness: Sum of red and near-infrared reflectance.
        lst_day_kelvin: LST at the morning overpass; NaN at sea.
        lst_night_kelvin: LST at the evening overpass; NaN at sea.
    """

    ndvi: Float32Array
    brightness: Float32Array
    lst_day_kelvin: Float32Array
    lst_night_kelvin: Float32Array


def make_surface(ground: Ground, grid: TileGrid, date: dt.date, streams: RandomStreams) -> Surface:
    """Computes the true surface of a tile on a day, whose random streams are given."""
    sun = climate.sun_at_overpass(date, grid.centre_degrees[1])
    light = climate.illumination(ground.terrain.elevation_km, grid, sun)
    ndvi = _true_ndvi(ground, grid, date, streams)
    brightness = _brightness(ground, light)
    bare = 1.0 - np.clip((ndvi - 0.05) / 0.80, 0, 1)
    # Air mixes over the edges of fields and woods: LST is smoother there than NDVI.
    bare = ndimage.gaussian_filter(bare, _ADVECTION_SIGMA, truncate=3.0)
    day = _lst_day(ground, grid, date, streams, ndvi, bare, light, sun)
    night = _lst_night(ground, grid, date, streams, ndvi, bare)
    return Surface(ndvi, brightness, day, night)


def _bump(day: float, peak: float, width: float) -> float:
    """A growing season: 1 at its peak, round the year."""
    apart = (day - peak + 182.5) % 365.0 - 182.5
    return float(np.exp(-0.5 * (apart / width) ** 2))


def _true_ndvi(
    ground: Ground, grid: TileGrid, date: dt.date, streams: RandomStreams
) -> Float32Array:
    """Computes NDVI of each pixel, −0.2 to 0.93, from its cover and the season."""
    day = northern_day_of_year(date, grid.centre_degrees[1])
    soil = {Crop.WINTER_CEREAL: 0.17, Crop.SUMMER_CROP: 0.16, Crop.FALLOW: 0.13, Crop.MEADOW: 0.36}
    gain = {
        Crop.WINTER_CEREAL: 0.66 * _bump(day, 135, 36),
        Crop.SUMMER_CROP: 0.70 * _bump(day, 213, 36),
        Crop.FALLOW: 0.08,
        Crop.MEADOW: 0.36 * _bump(day, 165, 70),
    }
    soil_table = np.array([soil.get(crop, 0.0) for crop in Crop], dtype=np.float32)
    gain_table = np.array([gain.get(crop, 0.0) for crop in Crop], dtype=np.float32)
    drought = power_law_field(streams.generator("drought"), grid.pixels, 3.4, 250)
    vigour = refine(np.float32(0.05) * drought, "bilinear")
    # Rangeland greens in spring where there is water and stays pale elsewhere.
    spring = np.float32(0.14 + 0.44 * _bump(day, 150, 60))
    ndvi = 0.10 + ground.greenness * spring + 0.035 * ground.texture + vigour
    on_field = ground.crop != Crop.NONE
    fields = soil_table[ground.crop] + gain_table[ground.crop] * (0.62 + 0.55 * ground.vigour)
    fields += 0.015 * ground.texture + vigour
    ndvi = np.where(on_field, fields, ndvi)
    # A pixel is an area: where a parcel's edge crosses it, it holds some of both sides.
    ndvi = ndimage.gaussian_filter(ndvi, _MIXED_PIXEL_SIGMA, truncate=3.0)
    woods = 0.56 + 0.27 * _bump(day, 185, 75) + 0.025 * ground.texture + 0.5 * vigour
    ndvi += ground.forest * (woods - ndvi)
    ndvi += ground.urban * (0.16 - ndvi)
    ndvi += ground.terrain.water_fraction * (-0.08 - ndvi)
    ndvi[ground.terrain.sea] = -0.10
    return np.clip(ndvi, -0.2, 0.93).astype(np.float32)


def _brightness(ground: Ground, light: Float32Array) -> Float32Array:
    """Red plus near-infrared reflectance; slopes that face the sun are brighter."""
    brightness = 0.40 - 0.09 * ground.forest - 0.07 * ground.urban + 0.018 * ground.texture
    brightness *= 0.25 + 0.75 * light
    brightness += ground.terrain.water_fraction * (0.07 - brightness)
    brightness[ground.terrain.sea] = 0.05
    return np.clip(brightness, 0.03, 0.9).astype(np.float32)


def _lst_day(
    ground: Ground,
    grid: TileGrid,
    date: dt.date,
    streams: RandomStreams,
    ndvi: Float32Array,
    bare: Float32Array,
    light: Float32Array,
    sun: climate.Sun,
) -> Float32Array:
    terrain = ground.terrain
    base = _air_kelvin(grid, date) + np.float32(5.0)
    lst = base + refine(climate.weather_kelvin(streams, "day weather", grid.pixels), "bilinear")
    lst -= _DAY_LAPSE_KELVIN_PER_KM * terrain.elevation_km
    lst += 9.0 * sun.up * (light - 1.0)
    lst += 2.0 * ground.urban - 1.1 * ground.texture - 0.8 * terrain.valley
    response = bare * (0.3 + 0.7 * light)
    contrast = _contrast_kelvin(lst, response, ndvi, ground, DAY_CORRELATION, _DAY_CONTRAST_KELVIN)
    lst += np.float32(contrast) * response
    return _with_water(lst, ground, grid, date, night=False)


def _lst_night(
    ground: Ground,
    grid: TileGrid,
    date: dt.date,
    streams: RandomStreams,
    ndvi: Float32Array,
    bare: Float32Array,
) -> Float32Array:
    terrain = ground.terrain
    base = _air_kelvin(grid, date) - np.float32(7.5)
    lst = base + refine(climate.weather_kelvin(streams, "night weather", grid.pixels), "bilinear")
    lst -= _NIGHT_LAPSE_KELVIN_PER_KM * terrain.elevation_km
    # Cold air runs down and collects in valleys; the slopes above stay warm.
    lst += 16.0 * np.clip(relative_height(terrain.elevation_km), -0.18, 0.12)
    # Stone and streets give back the day's heat; moist ground cools slowly.
    lst += 2.4 * ground.urban + 0.45 * ground.texture - 0.6 * terrain.valley
    contrast = _contrast_kelvin(lst, bare, ndvi, ground, NIGHT_CORRELATION, _NIGHT_CONTRAST_KELVIN)
    lst += np.float32(contrast) * bare
    return _with_water(lst, ground, grid, date, night=True)


def _air_kelvin(grid: TileGrid, date: dt.date) -> Float32Array:
    """Air temperature at sea level by latitude, ``[N, 1]``."""
    latitude = grid.latitudes_degrees()
    kelvin = climate.annual_mean_kelvin(latitude) + climate.season_kelvin(date, latitude)
    return kelvin.astype(np.float32)[:, None]


def _with_water(
    lst: Float32Array, ground: Ground, grid: TileGrid, date: dt.date, *, night: bool
) -> Float32Array:
    """Mixes in rivers and lakes, whose temperature hardly changes from day to night."""
    latitude = grid.latitudes_degrees()
    water = climate.annual_mean_kelvin(latitude) + climate.season_kelvin(date, latitude, water=True)
    water_kelvin = (water + (0.3 if night else 1.3)).astype(np.float32)[:, None]
    water_kelvin = water_kelvin - 3.0 * ground.terrain.elevation_km
    wet = ground.terrain.water_fraction > 0
    share = ground.terrain.water_fraction[wet]
    # Radiance adds, temperature does not.
    radiance = (1 - share) * lst[wet] ** 4 + share * water_kelvin[wet] ** 4
    lst[wet] = radiance**0.25
    np.clip(lst, *_PLAUSIBLE_KELVIN, out=lst)
    lst[ground.terrain.sea] = np.nan
    return lst


def _contrast_kelvin(
    rest: Float32Array,
    response: Float32Array,
    ndvi: Float32Array,
    ground: Ground,
    target: float,
    limits: tuple[float, float],
) -> float:
    """Finds how much warmer bare ground must be for LST and NDVI to correlate as they do."""
    # With LST = rest + contrast · response, the correlation with NDVI over dry land follows from
    # variances and covariances, and falls as the contrast grows.
    sample = (slice(1, None, 3), slice(1, None, 3))
    terrain = ground.terrain
    land = ~terrain.sea[sample] & (terrain.water_fraction[sample] == 0)
    layers = [layer[sample][land].astype(np.float64) for layer in (rest, response, ndvi)]
    if layers[0].size < 16:
        return float(np.mean(limits))
    centred = [layer - layer.mean() for layer in layers]
    # Not np.cov: its matrix product may round differently with another number of threads.
    covariance = [[float(np.mean(a * b)) for b in centred] for a in centred]
    if covariance[1][1] == 0 or covariance[2][2] == 0:
        return float(np.mean(limits))

    def excess(contrast: float) -> float:
        with_ndvi = covariance[0][2] + contrast * covariance[1][2]
        variance = covariance[0][0] + 2 * contrast * covariance[0][1]
        variance += contrast**2 * covariance[1][1]
        return float(with_ndvi / np.sqrt(variance * covariance[2][2]) - target)

    low, high = limits
    if excess(low) <= 0:
        return low
    if excess(high) >= 0:
        return high
    return float(brentq(excess, low, high))
