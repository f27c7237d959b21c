"""The door: whatever order, names and directions a raster comes in, its ground stays its ground."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from pyproj import CRS

from keras_lstsr.errors import GridError
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.modis import modis_sinusoidal_crs

GRID = Grid(
    modis_sinusoidal_crs(), Affine(926.625433, 0, 277061.0, 0, -926.625433, 5100146.4), (4, 3)
)


def numbered(grid: Grid = GRID) -> xr.DataArray:
    values = np.arange(grid.height * grid.width, dtype=np.float32).reshape(grid.shape)
    return grid.raster(
        values, name="lst_kelvin", attrs={"units": "K"}, encoding={"source": "a.tif"}
    )


NAMES = [("y", "x"), ("lat", "lon"), ("latitude", "longitude"), ("Lat", "LON"), ("x", "y")]


@pytest.mark.parametrize("names", NAMES, ids=map("-".join, NAMES))
@pytest.mark.parametrize("flips", list(itertools.product([False, True], repeat=2)))
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("with_tag", [False, True])
def test_a_raster_in_any_order_is_the_same_raster(names, flips, transposed, with_tag):
    right = numbered()
    given_raster = right.rename(dict(zip(("y", "x"), names, strict=True)))
    if names == ("x", "y"):
        # Named the wrong way round: only the attributes tell.
        assert given_raster["x"].attrs["axis"] == "Y"
    for name, flip in zip(names, flips, strict=True):
        if flip:
            given_raster = given_raster.sortby(name, ascending=name == names[0])
    if transposed:
        given_raster = given_raster.transpose(*names[::-1])
    if not with_tag:
        del given_raster.spatial_ref.attrs["GeoTransform"]
    given_raster = given_raster.expand_dims("band")
    got = placed(given_raster, "lst")
    assert got.grid.offset_in(GRID) == (0, 0)
    assert got.grid.shape == GRID.shape
    if with_tag:
        assert got.grid == GRID
    np.testing.assert_array_equal(got.raster.values, right.values)
    assert got.raster.dims == ("y", "x")
    assert got.raster.rio.transform() == got.grid.transform
    np.testing.assert_allclose(got.raster.y, right.y)
    assert (got.raster.name, got.raster.attrs) == ("lst_kelvin", {"units": "K"})
    assert got.raster.encoding["source"] == "a.tif"
    again = got.as_given(got.raster)
    xr.testing.assert_allclose(
        again.drop_vars("spatial_ref"), given_raster.squeeze("band").drop_vars("spatial_ref")
    )
    assert again.dims == given_raster.squeeze("band").dims


def test_a_fine_result_is_turned_back_to_the_rasters_own_directions():
    given_raster = numbered().isel(y=slice(None, None, -1), x=slice(None, None, -1))
    given_raster = given_raster.rename(y="lat", x="lon").transpose("lon", "lat")
    got = placed(given_raster, "lst")
    fine = numbered(got.grid.finer(2))
    back = got.as_given(fine)
    assert back.dims == ("lon", "lat")
    assert (np.diff(back.lat) > 0).all()
    assert (np.diff(back.lon) < 0).all()
    # The tag says the same as the coordinates.
    west, south, east, north = got.grid.bounds
    assert back.rio.transform() @ (0, 0) == pytest.approx((east, south))
    assert back.rio.transform() @ (6, 8) == pytest.approx((west, north))
    assert fine.rio.transform() == got.grid.finer(2).transform, "the result itself stays"
    again = placed(back, "lst")
    assert again.grid == got.grid.finer(2)
    np.testing.assert_array_equal(again.raster.values, fine.values)
    both = got.as_given(xr.Dataset({"a": fine, "b": fine + 1}))
    xr.testing.assert_identical(both["a"], back.rename("a"))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2), st.integers(3, 4), st.integers(0, 1), st.integers(2, 3), st.booleans())
def test_a_window_lies_where_its_coordinates_say(top, bottom, left, right, flip):
    window = numbered().isel(y=slice(top, bottom), x=slice(left, right))
    if flip:
        window = window.isel(y=slice(None, None, -1))
    # The file's tag is still on it.
    assert window.spatial_ref.attrs == numbered().spatial_ref.attrs
    got = placed(window, "lst")
    assert got.grid == GRID.window(slice(top, bottom), slice(left, right))
    np.testing.assert_array_equal(got.raster.values, numbered().values[top:bottom, left:right])


def test_a_stale_tag_gives_way_to_the_coordinates():
    raster = numbered()
    moved = raster.assign_coords(x=raster.x + 400.0)
    assert placed(moved, "lst").grid.bounds[0] == pytest.approx(277061.0 + 400.0)
    coarse = numbered(GRID.finer(4)).coarsen(y=4, x=4).mean()
    got = placed(coarse, "lst").grid
    assert got.offset_in(GRID) == (0, 0)
    assert got.shape == GRID.shape


def test_a_tag_counts_where_there_are_no_coordinates():
    bare = numbered().drop_vars(["y", "x"])
    assert placed(bare, "lst").grid == GRID
    upside_down = bare[::-1].rio.write_transform(
        Affine(926.625433, 0, 277061.0, 0, 926.625433, GRID.bounds[1])
    )
    got = placed(upside_down, "lst")
    np.testing.assert_array_equal(got.raster.values, bare.values)
    assert got.grid.offset_in(GRID) == (0, 0)


def test_one_row_takes_its_pixel_size_from_the_tag():
    row = numbered().isel(y=[2])
    assert placed(row, "lst").grid == GRID.window(slice(2, 3), slice(None))
    assert placed(row[:, :1], "lst").grid == GRID.window(slice(2, 3), slice(0, 1))
    del row.spatial_ref.attrs["GeoTransform"]
    with pytest.raises(GridError, match="size of its pixels is unknown"):
        placed(row, "lst")


def test_coordinates_of_single_precision_serve():
    grid = Grid(CRS(4326), Affine(0.01, 0, 15, 0, -0.01, 45), (300, 200))
    raster = numbered(grid)
    del raster.spatial_ref.attrs["GeoTransform"]
    rough = raster.assign_coords(y=raster.y.astype(np.float32), x=raster.x.astype(np.float32))
    assert placed(rough, "lst").grid.offset_in(grid) == (0, 0)


def test_values_are_viewed_and_not_copied():
    values = np.zeros(GRID.shape, np.float32)
    raster = GRID.raster(values)
    assert np.shares_memory(placed(raster, "lst").raster.values, values)
    turned = raster.isel(y=slice(None, None, -1)).transpose("x", "y")
    got = placed(turned, "lst")
    assert np.shares_memory(got.raster.values, values)
    assert np.shares_memory(got.as_given(got.raster).values, values)


def test_what_was_given_stays_as_it_was():
    raster = numbered().isel(y=slice(None, None, -1)).rename(y="lat", x="lon")
    before = raster.copy(deep=True)
    placed(raster, "lst").as_given(numbered(GRID.finer(2)))
    xr.testing.assert_identical(raster, before)
    assert raster.encoding == before.encoding
    assert raster.spatial_ref.attrs == before.spatial_ref.attrs


def with_crs(raster: xr.DataArray) -> xr.DataArray:
    return raster.rio.write_crs(32631)


WRONG = {
    "dataset": (xr.Dataset({"lst_kelvin": numbered()}), r'lst: a dataset.*dataset\["lst_kelvin"\]'),
    "path": ("some/lst.tif", r"lst: a path.*some/lst\.tif.*open_product"),
    "array": (np.zeros((3, 3)), "lst: this is not a raster; found ndarray.*open_product"),
    "nothing": (None, "lst: this is not a raster; found NoneType"),
    "no CRS": (numbered().drop_vars("spatial_ref"), "a.tif: lst_kelvin: the raster has no CRS"),
    "bands": (
        numbered().expand_dims(band=3),
        "a.tif: lst_kelvin: the raster is not one band.*isel",
    ),
    "rows": (
        xr.DataArray(np.zeros((3, 3)), dims=("row", "column")),
        "lst: its dimensions along y and x are unknown; found dimensions row, column",
    ),
    "two y": (
        xr.DataArray(np.zeros((3, 3)), dims=("y", "lat")),
        "lst: its dimensions along y and x are unknown",
    ),
    "nowhere": (
        with_crs(xr.DataArray(np.zeros((3, 3)), dims=("y", "x"))),
        "lst: the raster has neither coordinates nor a transform",
    ),
    "rotated": (
        numbered().rio.write_transform(Affine.rotation(10)),
        "a.tif: lst_kelvin: the raster is rotated",
    ),
    "uneven": (
        numbered().assign_coords(y=[9.0, 8.0, 6.0, 5.0]),
        "lst_kelvin: its coordinates are not evenly spaced",
    ),
    "shuffled": (
        numbered().isel(y=[0, 2, 1, 3]),
        "lst_kelvin: its coordinates are not evenly spaced",
    ),
    "text": (
        numbered().assign_coords(x=["a", "b", "c"]),
        "lst_kelvin: its coordinates are not finite numbers",
    ),
    "empty": (numbered().isel(y=slice(0, 0)), "lst_kelvin: the raster has no pixel"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_raster_is_refused_with_a_way_out(case):
    raster, message = WRONG[case]
    with pytest.raises(GridError, match=message):
        placed(raster, "lst")
