from __future__ import annotations

import datetime as dt

import numpy as np
import pyproj
import pytest

from keras_lstsr.grids.modis import MODIS_SPHERE_RADIUS_M
from keras_lstsr.simulate import climate
from keras_lstsr.simulate.place import (
    LAND_TILES,
    TileGrid,
    northern_day_of_year,
    scene_place_and_date,
)


def test_no_two_scenes_share_tile_and_date() -> None:
    scenes = [scene_place_and_date(index) for index in range(200)]
    assert len(set(scenes)) == 200
    assert {(h, v) for h, v, _ in scenes[:8]} == set(LAND_TILES)
    assert len({date for _, _, date in scenes[:8]}) == 8


def test_scenes_lie_in_the_growing_season() -> None:
    for index in range(64):
        h, v, date = scene_place_and_date(index)
        latitude = TileGrid(h, v, 1200).centre_degrees[1]
        assert 100 < northern_day_of_year(date, latitude) < 280


@pytest.mark.parametrize("tile", LAND_TILES)
def test_corners_agree_with_pyproj(tile: tuple[int, int]) -> None:
    grid = TileGrid(*tile, 96)
    sinusoidal = pyproj.Proj(proj="sinu", R=MODIS_SPHERE_RADIUS_M)
    west, south, east, north = grid.coarse.bounds
    longitudes, latitudes = sinusoidal(
        [west, east, east, west],
        [north, north, south, south],
        inverse=True,
    )
    found = grid.corner_degrees()
    np.testing.assert_allclose(found[0], longitudes, atol=1e-9)
    np.testing.assert_allclose(found[1], latitudes, atol=1e-9)
    # The upper left corner of a tile is a multiple of ten degrees of latitude.
    assert latitudes[0] == pytest.approx(10 * (9 - tile[1]), abs=1e-9)


def test_fine_pixels_nest_in_coarse_ones() -> None:
    grid = TileGrid(18, 4, 1200)
    _, south, east, _ = grid.coarse.bounds
    assert grid.fine.transform @ (4800, 4800) == pytest.approx((east, south), abs=1e-6)
    assert grid.fine.transform.a == pytest.approx(231.65635826, abs=1e-7)


def test_sun_is_highest_in_summer_and_stands_in_the_southeast_in_the_north() -> None:
    summer = climate.sun_at_overpass(dt.date(2021, 6, 21), 45.0)
    winter = climate.sun_at_overpass(dt.date(2021, 12, 21), 45.0)
    assert summer.up > winter.up
    assert summer.east > 0 > summer.north
    assert climate.sun_at_overpass(dt.date(2021, 1, 15), -35.0).north > 0
    # At 10:36 on the equator at the equinox the hour angle alone, 21 degrees, lowers the sun.
    equinox = climate.sun_at_overpass(dt.date(2021, 3, 22), 0.0)
    assert equinox.up == pytest.approx(np.cos(np.radians(21.0)), abs=2e-3)
    for sun in (summer, winter, equinox):
        assert np.hypot(np.hypot(sun.east, sun.north), sun.up) == pytest.approx(1, abs=1e-9)


def test_slopes_towards_the_sun_get_more_light() -> None:
    grid = TileGrid(18, 4, 16)
    sun = climate.sun_at_overpass(dt.date(2021, 6, 21), 45.0)
    level = np.zeros((64, 64), np.float32)
    np.testing.assert_allclose(climate.illumination(level, grid, sun), 1.0, atol=1e-6)
    columns = np.arange(64, dtype=np.float32)[None, :].repeat(64, axis=0)
    # Falls towards the east, where the morning sun is.
    east_facing = climate.illumination(-0.02 * columns, grid, sun)
    west_facing = climate.illumination(0.02 * columns, grid, sun)
    assert east_facing.min() > 1.0 > west_facing.max()


def test_seasons_follow_the_hemisphere() -> None:
    july, january = dt.date(2021, 7, 19), dt.date(2021, 1, 19)
    assert climate.season_kelvin(july, 45.0) > 10 > -10 > climate.season_kelvin(january, 45.0)
    assert climate.season_kelvin(january, -45.0) > 10
    assert abs(climate.season_kelvin(july, 0.0)) < 1e-9
    assert abs(climate.season_kelvin(july, 45.0, water=True)) < climate.season_kelvin(july, 45.0)


def test_view_angles_stay_within_the_scan() -> None:
    for seed in range(5):
        grid = TileGrid(18, 4, 1200)
        view = climate.satellite_view(np.random.default_rng(seed), grid, night=False)
        assert np.abs(view.zenith_degrees).max() < 66
        assert 8 < view.solar_hours.min() < view.solar_hours.max() < 13
