"""NDVI on LST's fine grid: by transform, exact where pixels are shared."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS, Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.warp import guide_on_fine_grid
from keras_lstsr.testing.rasters import guide_raster, lst_raster, modis_grid


def lst_and_fine_grid(height: int = 8, width: int = 6) -> tuple[xr.DataArray, Grid]:
    """LST somewhere in France, and the grid that is four times as fine."""
    grid = modis_grid((height, width), row=496, column=299)
    return lst_raster(grid), grid.finer(4)


def ndvi_on(grid: Grid, values: np.ndarray) -> xr.DataArray:
    return grid.raster(values.astype(np.float32), name="ndvi")


@settings(deadline=None, max_examples=40)
@given(
    row=st.integers(-40, 40),
    column=st.integers(-40, 40),
    noise=st.floats(-1e-3, 1e-3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_shared_pixels_are_copied_by_ground_and_the_rest_is_nan(row, column, noise, height, width):
    lst, fine = lst_and_fine_grid()
    corner = fine.shifted(row - noise, column + noise).transform
    rows, columns = np.mgrid[:height, :width]
    ndvi = ndvi_on(Grid(fine.crs, corner, (height, width)), rows * 100 + columns)
    result = guide_on_fine_grid(ndvi, lst)
    assert result.shape == (32, 24)
    expected = np.full((32, 24), np.nan, np.float32)
    for r in range(height):
        for c in range(width):
            if 0 <= r + row < 32 and 0 <= c + column < 24:
                expected[r + row, c + column] = r * 100 + c
    np.testing.assert_array_equal(result.values, expected)
    assert result.rio.transform().almost_equals(fine.transform, 1e-6)


def test_another_spelling_of_the_crs_does_not_resample():
    lst, fine = lst_and_fine_grid()
    other = lst.rio.crs.to_wkt().replace('"unknown"', '"Unknown_datum_based_upon_a_sphere"')
    ndvi = ndvi_on(fine, np.random.default_rng(0).random((32, 24))).rio.write_crs(other)
    ndvi.encoding = {"dtype": "int16", "scale_factor": 1e-4}
    result = guide_on_fine_grid(ndvi, lst)
    np.testing.assert_array_equal(result.values, ndvi.values)
    assert result.encoding["scale_factor"] == 1e-4


def test_another_crs_is_warped_onto_the_ground_it_covers():
    lst, fine = lst_and_fine_grid(12, 12)
    to_utm = Transformer.from_crs(fine.crs, 32631, always_xy=True)
    bounds = to_utm.transform_bounds(*lst.rio.bounds())
    transform = Affine(230, 0, bounds[0] - 2000, 0, -230, bounds[3] + 2000)
    height = int((bounds[3] - bounds[1] + 4000) / 230)
    width = int((bounds[2] - bounds[0] + 4000) / 230)
    rows, columns = np.mgrid[:height, :width]
    # A field that is linear on the ground comes out linear, whatever grid it passes through.
    x, y = transform @ (columns + 0.5, rows + 0.5)

    def field(x, y):
        return (x - bounds[0]) * 1e-5 + (y - bounds[1]) * 2e-5

    utm = Grid(CRS(32631), transform, (height, width))
    result = guide_on_fine_grid(ndvi_on(utm, field(x, y)), lst)
    rows, columns = np.mgrid[:48, :48]
    expected = field(*to_utm.transform(*(fine.transform @ (columns + 0.5, rows + 0.5))))
    np.testing.assert_allclose(result.values, expected, atol=2e-5)
    assert "scale_factor" not in result.encoding


def test_finer_ndvi_is_averaged():
    lst, fine = lst_and_fine_grid(4, 4)
    # 77 m is a third of the fine pixel: each fine pixel is the mean of 3 × 3.
    values = np.random.default_rng(1).random((48, 48)).astype(np.float32)
    result = guide_on_fine_grid(ndvi_on(fine.finer(3), values), lst)
    expected = values.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(result.values, expected, atol=1e-6)


def test_gaps_and_ground_that_is_not_covered_are_nan_after_warping():
    lst, fine = lst_and_fine_grid(4, 4)
    half = fine.finer(2).window(slice(0, 32), slice(8, 32))
    values = np.ones((32, 24), np.float32)
    values[10, 10] = np.nan
    result = guide_on_fine_grid(ndvi_on(half, values), lst).values
    expected = np.ones((16, 16), np.float32)
    expected[:, :4] = np.nan
    expected[5, 4 + 5] = np.nan
    np.testing.assert_array_equal(result, expected)


def test_coarse_ndvi_is_an_error():
    lst, _ = lst_and_fine_grid()
    ndvi = guide_raster(Grid.of(lst).finer(2))
    with pytest.raises(
        GridError, match=r"ndvi: the guide is coarser than the fine grid.*2\.00 times"
    ):
        guide_on_fine_grid(ndvi, lst)


def test_errors_name_the_raster_at_fault():
    lst, _ = lst_and_fine_grid()
    coarse = guide_raster(Grid.of(lst).finer(2)).rename("albedo")
    with pytest.raises(GridError, match="albedo: the guide is coarser"):
        guide_on_fine_grid(coarse, lst)
    rotated = lst.rename("lst_kelvin").drop_vars(["x", "y"])
    rotated = rotated.rio.write_transform(lst.rio.transform() @ Affine.rotation(3))
    with pytest.raises(GridError, match="lst_kelvin: the raster is rotated"):
        guide_on_fine_grid(coarse, rotated)


def test_without_crs_is_an_error():
    lst, _ = lst_and_fine_grid()
    bare = xr.DataArray(np.ones((4, 4)), dims=("y", "x"), coords={"y": [4, 3, 2, 1], "x": range(4)})
    with pytest.raises(GridError, match="no CRS"):
        guide_on_fine_grid(bare, lst)


@pytest.mark.real_data
def test_real_pairs_are_offset_by_whole_fine_pixels(lstsr_data):
    from keras_lstsr.products import guide_layer, lst_layers, open_product

    folder = lstsr_data / "modis_aster"
    (lst,) = lst_layers(open_product(folder / "000_lst_1km.tif", quantity="lst")).values()
    ndvi = guide_layer(open_product(folder / "000_ndvi_250m.tif", quantity="ndvi"), "ndvi")
    result = guide_on_fine_grid(ndvi, lst)
    # NDVI begins one fine row further south: its first row is the second of the fine grid.
    assert np.isnan(result.values[0]).all()
    np.testing.assert_array_equal(result.values[1:], ndvi.values[:-1])
