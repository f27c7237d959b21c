"""NDVI on LST's fine grid: by transform, exact where pixels are shared."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import Transformer

from keras_lstsr.errors import GridError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.grid import Grid

SINUSOIDAL = "+proj=sinu +lon_0=0 +R=6371007.181 +units=m +no_defs"
PIXEL = 926.6254331


def raster(values: np.ndarray, transform: Affine, crs: str | int = SINUSOIDAL) -> xr.DataArray:
    height, width = values.shape
    array = xr.DataArray(
        values.astype(np.float32),
        dims=("y", "x"),
        coords={
            "y": transform.f + transform.e * (np.arange(height) + 0.5),
            "x": transform.c + transform.a * (np.arange(width) + 0.5),
        },
        name="ndvi",
    )
    return array.rio.write_crs(crs).rio.write_transform(transform)


def lst_raster(height: int = 8, width: int = 6, crs: str | int = SINUSOIDAL) -> xr.DataArray:
    transform = Affine(PIXEL, 0, 277061.0, 0, -PIXEL, 5100146.4)
    return raster(np.full((height, width), 300.0), transform, crs)


@settings(deadline=None, max_examples=40)
@given(
    row=st.integers(-40, 40),
    column=st.integers(-40, 40),
    noise=st.floats(-1e-3, 1e-3),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_shared_pixels_are_copied_by_ground_and_the_rest_is_nan(row, column, noise, height, width):
    lst = lst_raster()
    fine = Grid.of(lst).finer(4).transform
    corner = fine @ Affine.translation(column + noise, row - noise)
    rows, columns = np.mgrid[:height, :width]
    ndvi = raster(rows * 100 + columns, corner)
    result = guide_on_fine_grid(ndvi, lst)
    assert result.shape == (32, 24)
    expected = np.full((32, 24), np.nan, np.float32)
    for r in range(height):
        for c in range(width):
            if 0 <= r + row < 32 and 0 <= c + column < 24:
                expected[r + row, c + column] = r * 100 + c
    np.testing.assert_array_equal(result.values, expected)
    assert result.rio.transform().almost_equals(fine, 1e-6)


def test_another_spelling_of_the_crs_does_not_resample():
    lst = lst_raster()
    other = lst.rio.crs.to_wkt().replace('"unknown"', '"Unknown_datum_based_upon_a_sphere"')
    ndvi = raster(np.random.default_rng(0).random((32, 24)), Grid.of(lst).finer(4).transform, other)
    ndvi.encoding = {"dtype": "int16", "scale_factor": 1e-4}
    result = guide_on_fine_grid(ndvi, lst)
    np.testing.assert_array_equal(result.values, ndvi.values)
    assert result.encoding["scale_factor"] == 1e-4


def test_another_crs_is_warped_onto_the_ground_it_covers():
    lst = lst_raster(12, 12)
    to_utm = Transformer.from_crs(SINUSOIDAL, 32631, always_xy=True)
    bounds = to_utm.transform_bounds(*lst.rio.bounds())
    transform = Affine(230, 0, bounds[0] - 2000, 0, -230, bounds[3] + 2000)
    height = int((bounds[3] - bounds[1] + 4000) / 230)
    width = int((bounds[2] - bounds[0] + 4000) / 230)
    rows, columns = np.mgrid[:height, :width]
    # A field that is linear on the ground comes out linear, whatever grid it passes through.
    x, y = transform @ (columns + 0.5, rows + 0.5)

    def field(x, y):
        return (x - bounds[0]) * 1e-5 + (y - bounds[1]) * 2e-5

    result = guide_on_fine_grid(raster(field(x, y), transform, 32631), lst)
    fine = Grid.of(lst).finer(4).transform
    rows, columns = np.mgrid[:48, :48]
    expected = field(*to_utm.transform(*(fine @ (columns + 0.5, rows + 0.5))))
    np.testing.assert_allclose(result.values, expected, atol=2e-5)
    assert "scale_factor" not in result.encoding


def test_finer_ndvi_is_averaged():
    lst = lst_raster(4, 4)
    # 77 m is a third of the fine pixel: each fine pixel is the mean of 3 × 3.
    fine = Grid.of(lst).finer(4).transform
    third = fine @ Affine.scale(1 / 3)
    values = np.random.default_rng(1).random((48, 48)).astype(np.float32)
    result = guide_on_fine_grid(raster(values, third), lst)
    expected = values.reshape(16, 3, 16, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(result.values, expected, atol=1e-6)


def test_gaps_and_ground_that_is_not_covered_are_nan_after_warping():
    lst = lst_raster(4, 4)
    half = Grid.of(lst).finer(4).transform @ Affine.scale(1 / 2) @ Affine.translation(8, 0)
    values = np.ones((32, 24), np.float32)
    values[10, 10] = np.nan
    result = guide_on_fine_grid(raster(values, half), lst).values
    expected = np.ones((16, 16), np.float32)
    expected[:, :4] = np.nan
    expected[5, 4 + 5] = np.nan
    np.testing.assert_array_equal(result, expected)


def test_coarse_ndvi_is_an_error():
    lst = lst_raster()
    ndvi = raster(np.ones((16, 12)), Grid.of(lst).finer(2).transform)
    with pytest.raises(
        GridError, match=r"ndvi: the guide is coarser than the fine grid.*2\.00 times"
    ):
        guide_on_fine_grid(ndvi, lst)


def test_errors_name_the_raster_at_fault():
    lst = lst_raster()
    coarse = raster(np.ones((16, 12)), Grid.of(lst).finer(2).transform).rename("albedo")
    with pytest.raises(GridError, match="albedo: the guide is coarser"):
        guide_on_fine_grid(coarse, lst)
    rotated = lst.rename("lst_kelvin").drop_vars(["x", "y"])
    rotated = rotated.rio.write_transform(lst.rio.transform() @ Affine.rotation(3))
    with pytest.raises(GridError, match="lst_kelvin: the raster is rotated"):
        guide_on_fine_grid(coarse, rotated)


def test_without_crs_is_an_error():
    lst = lst_raster()
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
