"""Rasters given upside down, transposed or by latitude and longitude: the same results."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from pyproj import CRS

from keras_lstsr.errors import GridError
from keras_lstsr.grids.consistency import consistency_residual, enforce_consistency
from keras_lstsr.grids.degradation import degrade
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift, coregister, shifted
from keras_lstsr.grids.warp import guide_on_fine_grid, warp_area, warp_bilinear, warp_spline
from keras_lstsr.sharpening import sharpen

COARSE = Grid(CRS(4326), Affine(0.01, 0, 15.0, 0, -0.01, 45.0), (12, 10))


def scene() -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """LST, a guide that is shifted by whole pixels, and fine LST."""
    rng = np.random.default_rng(0)
    guide_grid = Grid(CRS(4326), COARSE.finer(4).shifted(-2, 3).transform, (52, 36))
    guide = guide_grid.raster(rng.uniform(0, 1, guide_grid.shape).astype(np.float32), name="ndvi")
    fine = COARSE.finer(4).raster(rng.normal(300, 2, (48, 40)), name="fine")
    lst = COARSE.raster(degrade(fine.values, 4, "mean") + 1.0, name="lst_kelvin")
    return lst, guide, fine


def upside_down(raster: xr.DataArray) -> xr.DataArray:
    return raster.sortby("y")


def mirrored(raster: xr.DataArray) -> xr.DataArray:
    return raster.sortby("x", ascending=False)


def transposed(raster: xr.DataArray) -> xr.DataArray:
    return raster.transpose("x", "y")


def in_degrees(raster: xr.DataArray) -> xr.DataArray:
    return raster.sortby("y").rename(y="latitude", x="longitude").expand_dims("time")


TURNS = [upside_down, mirrored, transposed, in_degrees]
CALLS: dict[str, Callable[[xr.DataArray, xr.DataArray, xr.DataArray], xr.DataArray]] = {
    "align": lambda lst, guide, fine: guide_on_fine_grid(guide, lst),
    "bilinear": lambda lst, guide, fine: warp_bilinear(guide, lst),
    "spline": lambda lst, guide, fine: warp_spline(guide, lst),
    "area": lambda lst, guide, fine: warp_area(guide, lst),
    "degrade": lambda lst, guide, fine: degrade(fine, 4, "psf"),
    "shift": lambda lst, guide, fine: shifted(fine, Shift(1.5, -0.5, 1.0)),
    "consistency": lambda lst, guide, fine: enforce_consistency(fine, lst),
    "bicubic": lambda lst, guide, fine: sharpen(lst, method="bicubic"),
    "tsharp": lambda lst, guide, fine: sharpen(lst, guide, method="tsharp"),
}


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("name", CALLS)
def test_a_turned_raster_gives_the_turned_result(name, turn):
    right = turn(CALLS[name](*scene()))
    got = CALLS[name](*map(turn, scene()))
    if "time" in right.dims:
        right = right.squeeze("time", drop=True)
    assert got.dims == right.dims
    assert Grid.of(got).offset_in(Grid.of(right)) == (0, 0)
    for axis in right.dims:
        np.testing.assert_allclose(got[axis], right[axis], rtol=0, atol=1e-9)
    # Sums over a turned array run in another order.
    np.testing.assert_allclose(got.values, right.values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("turn", TURNS)
def test_one_turned_raster_is_brought_to_the_other(turn):
    lst, guide, fine = scene()
    for name in ("align", "bilinear", "tsharp"):
        right = CALLS[name](lst, guide, fine)
        xr.testing.assert_equal(CALLS[name](lst, turn(guide), fine), right)
    np.testing.assert_allclose(
        consistency_residual(turn(fine), lst), consistency_residual(fine, lst), rtol=0, atol=1e-9
    )
    assert coregister(turn(fine), fine) == coregister(fine, fine)


def test_several_guides_may_each_lie_their_own_way():
    lst, guide, _ = scene()
    other = (guide**2).rename("other")
    right = sharpen(lst, [guide, other], method="tsharp")
    for guides in (
        [upside_down(guide), transposed(other)],
        xr.Dataset({"ndvi": guide, "other": other, "count": 3}).sortby("y"),
        xr.concat([guide, other], "band").transpose("x", "y", "band"),
    ):
        xr.testing.assert_equal(sharpen(lst, guides, method="tsharp"), right)


WRONG = {
    "dataset": (lambda raster: raster.to_dataset(), "a dataset is given"),
    "array": (lambda raster: raster.values, "this is not a raster; found ndarray"),
    "path": (lambda raster: "scene/lst.tif", r"a path is given.*open_product"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_raster_is_refused(case):
    wrong, message = WRONG[case]
    lst, guide, _ = scene()
    with pytest.raises(GridError, match=f"lst: {message}"):
        sharpen(wrong(lst), guide)
    with pytest.raises(GridError, match=f"guide: {message}"):
        guide_on_fine_grid(wrong(guide), lst)
    with pytest.raises(GridError, match=f"like: {message}"):
        warp_area(guide, wrong(lst))
    if case != "dataset":
        with pytest.raises(GridError, match=f"guide: {message}"):
            sharpen(lst, wrong(guide))
