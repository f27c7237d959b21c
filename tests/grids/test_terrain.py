"""Slope, aspect and the sun on planes, in every CRS, and where data are missing."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.sun import solar_position, solar_position_at_view_time
from keras_lstsr.grids.terrain import slope_and_aspect, sun_incidence
from keras_lstsr.testing.rasters import modis_grid, utm_grid

NOON = dt.datetime(2022, 6, 21, 11, tzinfo=dt.UTC)
DEGREES = Grid(CRS(4326), Affine(0.0025, 0, 9.8, 0, -0.0025, 46.2), (30, 40))
GRIDS = {
    "utm": utm_grid((30, 40)),
    "degrees": DEGREES,
    "modis": modis_grid((30, 40), tile="h18v04", pixels_per_tile=4800),
    # 110° west of its meridian, where columns run far from north.
    "modis, sheared": modis_grid((30, 40), tile="h09v05", pixels_per_tile=4800),
}


def plane(grid, slope, aspect):
    """Ground that falls by ``slope`` towards ``aspect``, in metres on the ellipsoid."""
    x, y = np.meshgrid(grid.coordinates()["x"].values, grid.coordinates()["y"].values)
    longitude, latitude = Transformer.from_crs(grid.crs, 4326, always_xy=True).transform(x, y)
    middle = longitude[15, 20], latitude[15, 20]
    local = CRS.from_proj4(f"+proj=aeqd +lon_0={middle[0]} +lat_0={middle[1]} +ellps=WGS84")
    east, north = Transformer.from_crs(4326, local, always_xy=True).transform(longitude, latitude)
    fall = np.sin(np.deg2rad(aspect)) * east + np.cos(np.deg2rad(aspect)) * north
    return grid.raster(1000 - np.tan(np.deg2rad(slope)) * fall, name="elevation")


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize(("slope", "aspect"), [(5, 0), (30, 90), (12, 200), (60, 315)])
def test_planes(name, slope, aspect):
    found = slope_and_aspect(plane(GRIDS[name], slope, aspect))
    assert found["slope"].values[15, 20] == pytest.approx(slope, abs=0.02)
    turn = np.deg2rad(found["aspect"].values[15, 20] - aspect)
    assert np.cos(turn) == pytest.approx(1, abs=1e-6)
    # Away from the middle, the meridians of the plane's projection are turned a little.
    np.testing.assert_allclose(found["slope"].values, slope, atol=0.05)
    assert found["slope"].dtype == np.float32 and Grid.of(found["slope"]) == GRIDS[name]


def test_level_ground_has_no_aspect_and_sees_the_sun_s_height():
    level = utm_grid((6, 8)).raster(np.full((6, 8), 250.0), name="elevation")
    found = slope_and_aspect(level)
    assert not found["slope"].values.any() and np.isnan(found["aspect"].values).all()
    longitude, latitude = utm_grid((6, 8)).longitude_latitude
    zenith, _ = solar_position(NOON, longitude, latitude)
    cosine = sun_incidence(level, NOON).values
    np.testing.assert_allclose(cosine, np.cos(np.deg2rad(zenith)), atol=2e-4)
    by_view = sun_incidence(level, NOON.date(), np.full((6, 8), 10.5)).values
    zenith, _ = solar_position_at_view_time(NOON.date(), 10.5, latitude)
    np.testing.assert_allclose(by_view, np.cos(np.deg2rad(zenith)), atol=2e-4)
    assert not sun_incidence(level, NOON.replace(hour=23)).values.any()


def test_equinox_noon_at_the_equator():
    grid = Grid(CRS(4326), Affine(0.0025, 0, -0.01, 0, -0.0025, 0.01), (8, 8))
    noon = dt.datetime(2024, 3, 20, 12, 7, 30)  # by the sun
    level = grid.raster(np.zeros((8, 8)), name="elevation")
    np.testing.assert_allclose(sun_incidence(level, noon), 1.0, atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(
    slope=st.floats(0, 70),
    aspect=st.floats(0, 360),
    hours=st.floats(0, 24),
    day=st.integers(0, 364),
)
def test_it_is_the_textbook_s_cosine(slope, aspect, hours, day):
    """cos i = cos z cos s + sin z sin s cos(azimuth − aspect)."""
    date = dt.date(2021, 1, 1) + dt.timedelta(days=day)
    grid = GRIDS["utm"]
    found = sun_incidence(plane(grid, slope, aspect), date, hours).values[15, 20]
    _, latitude = grid.longitude_latitude
    zenith, azimuth = solar_position_at_view_time(date, hours, latitude)
    z, s, a = np.deg2rad(zenith), np.deg2rad(slope), np.deg2rad(azimuth - aspect)
    expected = np.cos(z) * np.cos(s) + np.sin(z) * np.sin(s) * np.cos(a)
    assert found == pytest.approx(max(expected, 0) if zenith < 90 else 0, abs=2e-3)


def test_a_gap_reaches_to_its_neighbours():
    values = np.add.outer(np.arange(9.0), np.arange(9.0))
    values[4, 4] = np.nan
    elevation = utm_grid((9, 9)).raster(values, name="elevation")
    for result in (slope_and_aspect(elevation)["slope"], sun_incidence(elevation, NOON)):
        missing = np.zeros((9, 9), bool)
        missing[4, 3:6] = missing[3:6, 4] = True
        np.testing.assert_array_equal(np.isnan(result.values), missing)
    hours = np.full((9, 9), 10.5)
    hours[0, 0] = np.nan
    assert np.isnan(sun_incidence(elevation, NOON.date(), hours).values[0, 0])


def test_turned_rasters_come_back_as_they_were():
    straight = plane(utm_grid((30, 40)), 20, 60)
    turned = straight.isel(y=slice(None, None, -1))
    for function in (lambda r: slope_and_aspect(r)["aspect"], lambda r: sun_incidence(r, NOON)):
        np.testing.assert_allclose(
            function(turned).values[::-1], function(straight).values, atol=1e-6
        )


def test_what_is_refused():
    with pytest.raises(GridError, match="2 × 2 pixels"):
        slope_and_aspect(utm_grid((1, 5)).raster(np.zeros((1, 5)), name="elevation"))
    level = utm_grid((5, 5)).raster(np.zeros((5, 5)), name="elevation")
    with pytest.raises(GridError, match="a time in UTC, or a day and solar_hours"):
        sun_incidence(level, NOON.date())
