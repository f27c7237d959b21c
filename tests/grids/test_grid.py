"""The grid as a value: checks, arithmetic, equality, coordinates."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS
from rasterio.crs import CRS as GdalCRS

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, canonical_crs, modis_sinusoidal_crs

TRANSFORM = Affine(926.625433, 0, 277061.0, 0, -926.625433, 5100146.4)

grids = st.builds(
    lambda pixel, west, north, height, width: Grid(
        CRS(32631), Affine(pixel, 0, west, 0, -pixel, north), (height, width)
    ),
    st.floats(10, 2000),
    st.floats(2e5, 8e5),
    st.floats(1e6, 6e6),
    st.integers(1, 60),
    st.integers(1, 60),
)


def modis_grid(height: int = 6, width: int = 5) -> Grid:
    return Grid(modis_sinusoidal_crs(), TRANSFORM, (height, width))


def edges(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The lines between pixels, row by row and column by column."""
    a, _, c, _, e, f = grid.transform[:6]
    return f + e * np.arange(grid.height + 1), c + a * np.arange(grid.width + 1)


@settings(deadline=None)
@given(grids, st.integers(1, 9))
def test_finer_lines_hold_all_coarse_lines(grid, factor):
    fine = grid.finer(factor)
    assert fine.shape == (grid.height * factor, grid.width * factor)
    for ours, theirs in zip(edges(grid), edges(fine), strict=True):
        np.testing.assert_allclose(theirs[::factor], ours, rtol=0, atol=1e-6)
    back = fine.coarser(factor)
    assert back.shape == grid.shape
    assert back.offset_in(grid) == (0, 0)


@settings(deadline=None)
@given(grids, st.floats(1, 7))
def test_coarser_keeps_the_corner_and_leaves_the_rest_out(grid, factor):
    if min(grid.shape) < factor:
        with pytest.raises(GridError, match="no pixel"):
            grid.coarser(factor)
        return
    coarse = grid.coarser(factor)
    assert (coarse.bounds[0], coarse.bounds[3]) == (grid.bounds[0], grid.bounds[3])
    assert coarse.pixel_size[0] == pytest.approx(grid.pixel_size[0] * factor)
    for coarse_length, length in zip(coarse.shape, grid.shape, strict=True):
        assert coarse_length * factor <= length + 1e-6 < (coarse_length + 1) * factor + 1e-5


@settings(deadline=None)
@given(grids, st.data())
def test_a_window_has_the_lines_of_its_pixels(grid, data):
    top = data.draw(st.integers(0, grid.height - 1))
    bottom = data.draw(st.integers(top + 1, grid.height))
    left = data.draw(st.integers(0, grid.width - 1))
    right = data.draw(st.integers(left + 1, grid.width))
    window = grid.window(slice(top, bottom), slice(left, right))
    rows, columns = edges(grid)
    for ours, theirs in zip(edges(window), (rows[top:], columns[left:]), strict=True):
        np.testing.assert_allclose(ours, theirs[: ours.size], rtol=0, atol=1e-6)
    assert window.offset_in(grid) == (top, left)
    assert grid.offset_in(window) == (-top, -left)
    fine = window.finer(3)
    assert fine.offset_in(grid.finer(3)) == (3 * top, 3 * left)
    assert fine.offset_in(grid) is None


@settings(deadline=None)
@given(grids, st.floats(-20, 20), st.floats(-20, 20))
def test_the_offset_is_the_shift_where_it_is_whole(grid, rows, columns):
    moved = grid.shifted(rows, columns)
    off = max(abs(rows - round(rows)), abs(columns - round(columns)))
    if off < 0.0099:
        assert moved.offset_in(grid) == (round(rows), round(columns))
    elif off > 0.0101:
        assert moved.offset_in(grid) is None
    assert grid.shifted(round(rows), 0).offset_in(grid) == (round(rows), 0)


def test_pixels_that_drift_apart_over_the_raster_are_not_shared():
    wide = Grid(CRS(32631), Affine(100, 0, 0, 0, -100, 0), (4, 200))
    a, b, c, d, e, f = wide.transform[:6]
    stretched = Grid(wide.crs, Affine(a * 1.0001, b, c, d, e, f), wide.shape)
    assert stretched.offset_in(wide) is None
    assert stretched.window(slice(None), slice(0, 50)).offset_in(wide) == (0, 0)


def test_slices_count_as_those_of_the_array():
    grid = modis_grid(6, 5)
    values = np.arange(30).reshape(6, 5)
    for rows, columns in ((np.s_[-2:], np.s_[:-1]), (np.s_[:], np.s_[1:99])):
        assert grid.window(rows, columns).shape == values[rows, columns].shape
    with pytest.raises(GridError, match="no steps"):
        grid.window(slice(None, None, 2), slice(None))
    with pytest.raises(GridError, match="no pixel"):
        grid.window(slice(6, 9), slice(None))


@pytest.mark.parametrize(
    ("transform", "named"),
    [
        (Affine(1, 0.1, 0, 0, -1, 0), "rotated"),
        (Affine(1, 0, 0, 0.1, -1, 0), "rotated"),
        (Affine(1, 0, 0, 0, 1, 0), "not north up"),
        (Affine(-1, 0, 0, 0, -1, 0), "not north up"),
        (Affine(0, 0, 0, 0, -1, 0), "not north up"),
        (Affine(1, 0, math.nan, 0, -1, 0), "not finite"),
        (Affine(1, 0, 0, 0, -math.inf, 0), "not finite"),
    ],
)
def test_a_transform_that_is_not_north_up_is_refused(transform, named):
    with pytest.raises(GridError, match=named):
        Grid(CRS(32631), transform, (2, 2))


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (-1, 3)])
def test_a_grid_has_a_pixel(shape):
    with pytest.raises(GridError, match="no pixel"):
        Grid(CRS(32631), TRANSFORM, shape)


def spellings() -> list[object]:
    text = modis_sinusoidal_crs().to_wkt("WKT1_GDAL")
    return [
        modis_sinusoidal_crs(),
        "+proj=sinu +R=6371007.181 +units=m +no_defs",
        GdalCRS.from_wkt(text.replace('"unknown"', '"Unknown_datum_based_upon_a_sphere"')),
        CRS.from_wkt(modis_sinusoidal_crs().to_wkt()),
    ]


@pytest.mark.parametrize("crs", spellings(), ids=["own", "proj", "GDAL", "WKT 2"])
def test_equal_grids_are_equal_whatever_the_text_of_their_crs(crs):
    grid = Grid(crs, TRANSFORM, (6, 5))
    assert grid == modis_grid()
    assert len({grid, modis_grid()}) == 1
    assert grid.crs_wkt == modis_grid().crs_wkt


def test_equal_utm_grids_of_other_texts_are_equal():
    epsg = Grid(CRS(32631), TRANSFORM, (6, 5))
    esri = Grid(CRS.from_wkt(CRS(32631).to_wkt("WKT1_ESRI")), TRANSFORM, (6, 5))
    assert epsg == esri
    assert len({epsg, esri}) == 1
    assert epsg.offset_in(esri) == (0, 0)
    assert epsg != Grid(CRS(32632), TRANSFORM, (6, 5))
    assert epsg != Grid(CRS(32631), TRANSFORM, (5, 6))
    assert epsg != epsg.shifted(0, 1e-6)


def test_another_sphere_is_another_crs():
    other = canonical_crs("+proj=sinu +R=6370997 +units=m +no_defs")
    assert other != modis_sinusoidal_crs()
    assert canonical_crs("+proj=sinu +ellps=WGS84 +units=m +no_defs") != modis_sinusoidal_crs()


@pytest.mark.parametrize("pixels", [1200, 2400, 4800])
@pytest.mark.parametrize(
    "crs",
    ["+proj=sinu +ellps=WGS84 +units=m", "ESRI:54008", "+proj=sinu +R=6370997 +units=m"],
)
def test_modis_pixels_by_another_ellipsoid_are_refused(crs, pixels):
    """The file's numbers are MODIS's, and the raster would lie 18 km off at 45° N."""
    size = MODIS_TILE_SIZE_M / pixels
    corner = Affine(round(size, 6), 0, 700 * size, 0, -round(size, 6), 5600 * size)
    with pytest.raises(GridError, match=r"(?s)MODIS's grid.*6371007\.181.*gdal_edit"):
        Grid(CRS.from_user_input(crs), corner, (64, 64))
    Grid(modis_sinusoidal_crs(), corner, (64, 64))
    shifted = corner @ Affine.translation(0.3, 0)
    for own in (shifted, corner @ Affine.scale(1.08)):
        assert Grid(CRS.from_user_input(crs), own, (64, 64)).transform == own


def test_a_grid_goes_through_pickle():
    grid = modis_grid()
    again = pickle.loads(pickle.dumps(grid))
    assert again == grid
    assert again.crs_wkt == grid.crs_wkt


@pytest.mark.parametrize("crs", [32631, 4326, "+proj=aeqd +lat_0=45 +lon_0=3 +units=m"])
def test_the_text_of_the_crs_is_gdals_and_stays(crs):
    ours = Grid(crs, Affine(0.01, 0, 3, 0, -0.01, 45), (2, 2))
    assert ours.crs_wkt == GdalCRS.from_user_input(crs).to_wkt()
    assert Grid(ours.crs, ours.transform, ours.shape).crs_wkt == ours.crs_wkt


def test_bounds_size_and_middle():
    grid = Grid(CRS(4326), Affine(0.5, 0, 10, 0, -0.25, 50), (8, 4))
    assert grid.bounds == (10, 48, 12, 50)
    assert grid.footprint.bounds == grid.bounds
    assert grid.pixel_size == (0.5, 0.25)
    assert (grid.height, grid.width) == (8, 4)
    assert grid.longitude_latitude == pytest.approx((11, 49))


def test_a_raster_lies_on_the_grid_and_is_not_copied():
    grid, values = modis_grid(), np.arange(30, dtype=np.float32).reshape(6, 5)
    raster = grid.raster(values, name="lst", attrs={"units": "K"}, encoding={"dtype": "uint16"})
    assert Grid.of(raster) == grid
    assert raster.values is values
    assert raster.rio.transform() == grid.transform
    assert raster.rio.crs.to_wkt() == grid.crs_wkt
    assert (raster.name, raster.attrs) == ("lst", {"units": "K"})
    assert raster.encoding == {"dtype": "uint16", "grid_mapping": "spatial_ref"}
    np.testing.assert_allclose(raster.x, 277061.0 + 926.625433 * (np.arange(5) + 0.5))
    np.testing.assert_allclose(raster.y, 5100146.4 - 926.625433 * (np.arange(6) + 0.5))
    assert raster.y.attrs == {
        "standard_name": "projection_y_coordinate",
        "units": "m",
        "axis": "Y",
    }
    with pytest.raises(GridError, match="do not lie on the grid"):
        grid.raster(values.T)


def test_degrees_have_the_attributes_of_degrees():
    grid = Grid(CRS(4326), Affine(0.5, 0, 10, 0, -0.25, 50), (8, 4))
    dataset = grid.dataset({"a": xr.Variable(("y", "x"), np.zeros((8, 4)))}, {"title": "t"})
    assert dataset.x.attrs == {"standard_name": "longitude", "units": "degree", "axis": "X"}
    assert dataset.attrs == {"title": "t"}
    assert Grid.of(dataset["a"]) == grid


def test_the_grid_of_a_file(tmp_path):
    path = tmp_path / "raster.tif"
    grid = modis_grid()
    profile = {"driver": "GTiff", "height": 6, "width": 5, "count": 1, "dtype": "float32"}
    with rasterio.open(
        path, "w", crs=grid.crs_wkt, transform=grid.transform, **profile
    ) as destination:
        destination.write(np.zeros((6, 5), np.float32), 1)
    assert Grid.of(path) == Grid.of(str(path)) == grid
    nowhere = tmp_path / "nowhere.tif"
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(nowhere, "w", crs=grid.crs_wkt, **profile),
    ):
        pass
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        pytest.raises(GridError, match=r"nowhere\.tif: the raster has no CRS or no transform"),
    ):
        Grid.of(nowhere)
    with pytest.raises(GridError, match=r"missing\.tif: there is no such file"):
        Grid.of(tmp_path / "missing.tif")


@pytest.mark.parametrize(
    ("longitude", "latitude", "code"),
    [(12.3, 45.1, 32633), (-112.0, 33.4, 32612), (174.8, -41.3, 32760), (-179.5, 10.0, 32601)],
)
def test_the_utm_zone_is_that_of_the_middle(longitude, latitude, code):
    grid = Grid("EPSG:4326", Affine(0.01, 0, longitude - 0.1, 0, -0.01, latitude + 0.1), (20, 20))
    assert grid.utm.to_epsg() == code


def test_near_the_poles_there_is_no_utm_zone():
    grid = Grid("EPSG:4326", Affine(0.01, 0, 20, 0, -0.01, 89), (20, 20))
    with pytest.raises(GridError, match="no UTM zone"):
        _ = grid.utm
