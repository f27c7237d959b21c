"""The share of water as NDVI tells it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import block_mean, upsample_nearest
from keras_lstsr.grids.water import water_from_ndvi, water_share
from keras_lstsr.testing.rasters import modis_grid, utm_grid, utm_raster


def test_water_by_its_formula():
    ndvi = np.array([[-0.3, -0.05, 0.0], [0.03, 0.05, 0.8], [np.nan, 0.04, 1.0]], np.float32)
    expected = [[1, 1, 0.5], [0.2, 0, 0], [np.nan, 0.1, 0]]
    found = water_from_ndvi(ndvi)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    raster = water_from_ndvi(utm_raster(ndvi, name="ndvi"))
    assert raster.name == "water" and raster.dtype == np.float32
    np.testing.assert_array_equal(raster.values, found)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 999), factor=st.integers(1, 5), share=st.floats(0, 1))
def test_finer_masks_are_averaged(seed, factor, share):
    rng = np.random.default_rng(seed)
    mask = (rng.random((8 * factor, 6 * factor)) < share).astype(np.float32)
    found = water_share(utm_raster(mask, 250.0 / factor, name="mask"), utm_grid((8, 6)))
    np.testing.assert_allclose(found, block_mean(mask, factor), atol=1e-5)
    assert found.values.min() >= 0 and found.values.max() <= 1 and found.name == "water"
    # What the pixels hold adds up, on any grid of the same ground.
    moved = water_share(utm_raster(mask, 250.0 / factor, name="m"), utm_grid((4, 3), 500.0))
    assert moved.values.mean() == pytest.approx(mask.mean(), abs=1e-5)


def test_coarser_classes_keep_their_ground():
    classes = np.array([[17, 1], [10, 17]], np.float32)
    found = water_share(
        utm_raster(classes, 500.0, name="LC_Type1"), utm_grid((4, 4)), water_class=17
    )
    np.testing.assert_allclose(found, upsample_nearest(np.eye(2), 2), atol=1e-6)


def test_gaps_up_to_half_a_pixel_are_bridged():
    mask = np.zeros((4, 4), np.float32)
    mask[:2, :2] = [[1, np.nan], [0, np.nan]]
    mask[2:, 2:] = [[1, np.nan], [np.nan, np.nan]]
    found = water_share(utm_raster(mask, 125.0, name="mask"), utm_grid((2, 2))).values
    np.testing.assert_allclose(found, [[0.5, 0], [0, np.nan]], atol=1e-6)
    classes = np.where(np.isnan(mask), np.nan, mask * 17)
    raster = utm_raster(classes, 125.0, name="mask")
    np.testing.assert_array_equal(water_share(raster, utm_grid((2, 2)), water_class=17), found)


def test_the_ground_is_found_across_projections():
    grid = modis_grid((40, 40), pixels_per_tile=4800)
    mask = np.zeros((40, 40), np.float32)
    mask[:, 20:] = 1
    raster = grid.raster(mask, name="mask")
    west = grid.window(slice(0, 40), slice(0, 16))
    assert water_share(raster, west).values.max() == 0
    assert Grid.of(water_share(raster, west)) == west


@pytest.mark.parametrize("values", [[[0, 100]], [[0.0, -1.0]], [[1, 17]]])
def test_percent_and_classes_are_refused(values):
    with pytest.raises(GridError, match=r"not shares of water.*Divide percent by 100.*class"):
        water_share(utm_raster(values, name="mask"), utm_grid((1, 2)))
