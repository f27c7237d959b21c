"""The sun stands where almanacs put it."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.grids.sun import solar_position, solar_position_at_view_time


def test_equinox_noon_at_the_equator():
    # 20 March 2024, 03:06 UTC was the equinox; the sun's declination moves 0.016° in an hour.
    for longitude in (-120.0, 0.0, 45.0):
        hours = 12 - longitude / 15
        noon = dt.datetime(2024, 3, 20, tzinfo=dt.UTC) + dt.timedelta(hours=hours)
        zenith, _ = solar_position(noon, longitude, 0.0)
        # Mean noon is about 7.5 minutes before the sun's own on that day.
        assert zenith == pytest.approx(7.5 / 4, abs=0.15)
        apparent = noon + dt.timedelta(minutes=7.5)
        assert solar_position(apparent, longitude, 0.0)[0] < 0.35


def test_solstices():
    june, december = dt.datetime(2024, 6, 20, 20, 51), dt.datetime(2024, 12, 21, 9, 20)
    for when, tropic in ((june, 23.437), (december, -23.437)):
        longitudes = np.linspace(-180, 180, 36001)
        zenith, _ = solar_position(when, longitudes, np.full(36001, tropic))
        assert zenith.min() < 0.01


def test_noon_by_the_clock():
    """Greenwich on 1 July 2020, 12:00 UTC."""
    zenith, azimuth = solar_position(dt.datetime(2020, 7, 1, 12), 0.0, 51.4779)
    # Declination 23.05°, equation of time −3.9 min: hour angle −0.97°.
    assert zenith == pytest.approx(51.4779 - 23.05, abs=0.05)
    assert azimuth == pytest.approx(178.1, abs=0.2)


@settings(deadline=None, max_examples=60)
@given(
    day=st.integers(0, 3650),
    minutes=st.integers(0, 1439),
    longitude=st.floats(-180, 180),
    latitude=st.floats(-89, 89),
)
def test_view_time_is_utc_plus_longitude(day, minutes, longitude, latitude):
    utc = dt.datetime(2015, 1, 1) + dt.timedelta(days=day, minutes=minutes)
    zenith, azimuth = solar_position(utc, longitude, latitude)
    hours = minutes / 60 + longitude / 15
    near, direction = solar_position_at_view_time(utc.date(), hours, latitude)
    # The declination moves by up to 0.4° a day, and half a day may lie between.
    assert near == pytest.approx(zenith, abs=0.3)
    if 5 < zenith < 175:
        turned = (direction - azimuth + 180) % 360 - 180
        assert abs(turned) * np.sin(np.deg2rad(zenith)) < 0.5
    assert 0 <= zenith <= 180 and 0 <= azimuth < 360


def test_mornings_are_in_the_east_and_shapes_stay():
    zenith, azimuth = solar_position_at_view_time(
        dt.date(2021, 3, 20), [[8.0, 16.0, np.nan]], [[40.0, 40.0, 40.0]]
    )
    assert zenith.shape == azimuth.shape == (1, 3)
    assert 90 < azimuth[0, 0] < 180 < azimuth[0, 1] < 270
    assert np.isnan([zenith[0, 2], azimuth[0, 2]]).all()


def test_a_time_zone_counts():
    utc = dt.datetime(2022, 5, 1, 15, tzinfo=dt.UTC)
    there = utc.astimezone(dt.timezone(dt.timedelta(hours=-6)))
    assert solar_position(there, -105.0, 40.0) == solar_position(utc, -105.0, 40.0)
