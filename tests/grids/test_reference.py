"""Detail of LST: closed forms, gaps, and a mean that clouds do not spoil."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import GridError
from keras_lstsr.grids.degradation import degrade
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.reference import detail_of, mean_detail
from keras_lstsr.products import open_product
from keras_lstsr.testing.rasters import coordinate_raster, utm_grid, utm_raster

SIGMA_PIXELS = 1.6 * 4 / (2 * math.sqrt(2 * math.log(2)))


def raster(values):
    return utm_raster(values, name="lst_kelvin")


def texture(seed=0, shape=(32, 40), kelvin=1.0):
    return np.random.default_rng(seed).normal(0, kelvin, shape)


def test_a_wave_keeps_what_the_gaussian_takes():
    x = np.arange(120)
    for period in (4, 8, 16, 40):
        wave = np.broadcast_to(np.sin(2 * np.pi * x / period), (60, 120))
        kept = 1 - math.exp(-2 * (math.pi * SIGMA_PIXELS / period) ** 2)
        detail = detail_of(raster(300 + wave)).values
        np.testing.assert_allclose(detail[20:40, 20:100], kept * wave[20:40, 20:100], atol=2e-3)


def test_a_plane_has_no_detail_and_the_grid_stays():
    plane = coordinate_raster(utm_grid((60, 60)))
    detail = detail_of(plane)
    np.testing.assert_allclose(detail.values[20:40, 20:40], 0, atol=1e-6)
    assert Grid.of(detail) == Grid.of(plane)
    assert detail.dtype == plane.dtype and detail.attrs["units"] == "kelvin"
    upside_down = detail_of(plane.isel(y=slice(None, None, -1)))
    np.testing.assert_allclose(upside_down.values[::-1], detail.values, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), gaps=st.floats(0, 0.9), level=st.floats(200, 340))
def test_gaps_do_not_look_like_detail(seed, gaps, level):
    rng = np.random.default_rng(seed)
    missing = rng.random((30, 34)) < gaps
    flat = detail_of(raster(np.where(missing, np.nan, level))).values
    assert np.isnan(flat[missing]).all()
    np.testing.assert_allclose(flat[np.isfinite(flat)], 0, atol=1e-3)
    values = np.where(missing, np.nan, 290 + texture(seed, (30, 34)))
    raised = detail_of(raster(values + 10)).values
    np.testing.assert_allclose(raised, detail_of(raster(values)).values, atol=1e-3)


def test_it_is_the_weighted_mean_of_what_is_there():
    values = 300 + texture(3, (40, 40))
    values[10:22, 16:30] = np.nan
    values[25:, :] = np.nan
    detail = detail_of(raster(values)).values
    rows, columns = np.indices(values.shape)
    for row, column in ((9, 20), (15, 15), (5, 5), (23, 8)):
        weight = np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / (2 * SIGMA_PIXELS**2))
        there = np.where(np.isfinite(values), weight, 0)
        assert there.sum() / (2 * math.pi * SIGMA_PIXELS**2) > 0.5
        mean = np.nansum(weight * values) / there.sum()
        assert detail[row, column] == pytest.approx(values[row, column] - mean, abs=2e-3)
    # Less than half of the weight: a corner, and a spit between gaps.
    assert np.isnan(detail[0, 0]) and np.isnan(detail[24, 39])
    assert np.isfinite(detail[0, 15])


def test_one_date_is_itself_and_two_are_averaged():
    first, second = texture(1), texture(2)
    second[:5] = np.nan
    grid = utm_grid(first.shape)
    one = mean_detail([raster(first)], grid)
    np.testing.assert_allclose(one["reference"].values, first, rtol=1e-6)
    two = mean_detail([raster(first), raster(second)], grid)
    np.testing.assert_allclose(two["reference"].values[5:], ((first + second) / 2)[5:], atol=1e-6)
    np.testing.assert_allclose(two["reference"].values[:5], first[:5], rtol=1e-6)
    np.testing.assert_array_equal(two["date_count"].values[4:6, 0], [1, 2])
    assert two["reference"].dtype == np.float32 and Grid.of(two["reference"]) == grid


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 999), dates=st.integers(3, 7), excess=st.floats(5, 50))
def test_a_value_far_from_the_others_is_left_out(seed, dates, excess):
    rng = np.random.default_rng(seed)
    ground = texture(seed, kelvin=2)
    details = [ground + rng.normal(0, 0.1, ground.shape) for _ in range(dates)]
    clean = mean_detail([raster(d) for d in details], utm_grid(ground.shape))
    spoilt = [d.copy() for d in details]
    spoilt[0][8, 9] += excess
    result = mean_detail([raster(d) for d in spoilt], utm_grid(ground.shape))
    others = np.mean([d[8, 9] for d in details[1:]])
    assert result["reference"].values[8, 9] == pytest.approx(others, abs=1e-4)
    assert result["date_count"].values[8, 9] == dates - 1
    result["reference"].values[8, 9] = clean["reference"].values[8, 9]
    # One pixel barely moves the correlations, which are far above where a date counts in full.
    np.testing.assert_allclose(result["reference"].values, clean["reference"].values, atol=1e-6)


def test_a_cloudy_date_does_not_count():
    ground = texture(5, kelvin=2)
    details = [raster(ground + texture(10 + i, kelvin=0.2)) for i in range(4)]
    cloudy = raster(texture(99, kelvin=3))
    grid = utm_grid(ground.shape)
    clean, spoilt = mean_detail(details, grid), mean_detail([cloudy, *details], grid)
    np.testing.assert_allclose(spoilt["reference"], clean["reference"], atol=1e-6)
    assert spoilt["date_count"].values.max() == 4


def test_dates_that_share_nothing_make_no_reference():
    noise = [raster(texture(seed)) for seed in range(4)]
    result = mean_detail(noise, utm_grid((32, 40)))
    assert np.isnan(result["reference"].values).all() and not result["date_count"].values.any()


def test_dates_of_other_ground_all_count():
    ground = texture(7, (32, 120))
    parts = [utm_raster(ground[:, 40 * i : 40 * i + 40], column=40 * i, name="d") for i in range(3)]
    result = mean_detail(parts, utm_grid((32, 130)))
    np.testing.assert_allclose(result["reference"].values[:, :120], ground, rtol=1e-6)
    assert np.isnan(result["reference"].values[:, 120:]).all()
    assert result["date_count"].values[:, 120:].max() == 0


def test_it_goes_by_coordinates():
    """Ninety-metre detail and detail half a pixel off land where they belong."""
    wide = utm_grid((60, 60))
    plane = coordinate_raster(utm_grid((200, 200), 90.0))
    moved = coordinate_raster(wide.shifted(0.5, 0.5))
    moved.values += 0.9 * 125  # both count from the corner of the first
    target = utm_grid((40, 40), row=5, column=5)
    result = mean_detail([plane, moved], target)
    x, y = target.coordinates()["x"].values, target.coordinates()["y"].values
    west, _, _, north = wide.bounds
    expected = (x[None] - west) + 0.1 * (y[:, None] - north)
    np.testing.assert_allclose(result["reference"].values, expected, atol=2)  # of 250 a pixel
    assert (result["date_count"].values == 2).all()


def test_bad_input():
    with pytest.raises(GridError, match="there is no detail"):
        mean_detail([], utm_grid((4, 4)))
    with pytest.raises(GridError, match="factor"):
        detail_of(raster(texture()), 0)
    with pytest.raises(GridError, match="coarser"):
        mean_detail([utm_raster(texture(), 1000.0, name="d")], utm_grid((4, 4)))


def test_fifteen_dates_tell_the_detail_of_the_sixteenth(lstsr_data):
    folder = lstsr_data / "places" / "muenster"
    if not folder.is_dir():
        pytest.skip("no places in the real data")
    details = []
    for path in sorted(folder.glob("*_day_lst_77m.tif")):
        lst = open_product(path, quantity="lst")["lst_kelvin"]
        details.append(detail_of(degrade(lst, 3, "mean")))
    correlations = []
    for i, own in enumerate(details):
        others = mean_detail(details[:i] + details[i + 1 :], Grid.of(own))["reference"].values
        both = np.isfinite(others) & np.isfinite(own.values)
        correlations.append(np.corrcoef(others[both], own.values[both])[0, 1])
    assert len(correlations) == 16 and min(correlations) > 0.65
    assert np.mean(correlations) == pytest.approx(0.788, abs=0.01)
