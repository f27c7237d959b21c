"""The share of water as NDVI tells it."""

from __future__ import annotations

import numpy as np

from keras_lstsr.grids.water import water_from_ndvi
from keras_lstsr.testing.rasters import utm_raster


def test_water_by_its_formula():
    ndvi = np.array([[-0.3, -0.05, 0.0], [0.03, 0.05, 0.8], [np.nan, 0.04, 1.0]], np.float32)
    expected = [[1, 1, 0.5], [0.2, 0, 0], [np.nan, 0.1, 0]]
    found = water_from_ndvi(ndvi)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.dtype == np.float32
    raster = water_from_ndvi(utm_raster(ndvi, name="ndvi"))
    assert raster.name == "water" and raster.dtype == np.float32
    np.testing.assert_array_equal(raster.values, found)
