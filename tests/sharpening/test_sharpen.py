"""The door to all methods: rasters in, raster out, and what it says when it cannot."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import upsample_bicubic, upsample_bilinear, upsample_nearest
from keras_lstsr.sharpening import METHODS, SharpeningWarning, sharpen
from keras_lstsr.sharpening.linear import tsharp
from keras_lstsr.testing.rasters import utm_raster

FAST = ("tsharp", "atprk", "aatprk")


@pytest.fixture
def rasters(linear_scene):
    def make(guides=1, **options):
        """Coarse LST, all guides as bands of one raster, and the fine LST that must come out."""
        lst, guide, fine = linear_scene(guides, **options)
        bands = xr.concat([utm_raster(band, name=None) for band in guide], "band")
        return utm_raster(lst, 1000.0, name="lst"), bands, fine

    return make


@pytest.mark.parametrize("method", FAST)
def test_a_linear_scene_comes_back_on_the_nested_grid(rasters, method):
    lst, guide, fine = rasters()
    found = sharpen(lst, guide[0], method=method, bounded=False)
    assert found.dtype == np.float32 and found.dims == ("y", "x") and found.name == "lst"
    assert found.rio.crs == lst.rio.crs and found.rio.bounds() == lst.rio.bounds()
    assert found.rio.resolution() == (250.0, -250.0)
    np.testing.assert_allclose(found.x, guide.x)
    np.testing.assert_allclose(found.y, guide.y)
    np.testing.assert_allclose(found, fine, rtol=0, atol=2e-4)
    assert found.attrs["sharpening_method"] == method and found.attrs["units"] == "K"
    assert "sharpening_fallback" not in found.attrs and "sharpening_notes" not in found.attrs


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("nearest", upsample_nearest),
        ("bilinear", upsample_bilinear),
        ("bicubic", upsample_bicubic),
    ],
)
def test_interpolation_needs_no_guide(rasters, method, expected):
    lst, _, _ = rasters()
    found = sharpen(lst, method=method, factor=3)
    np.testing.assert_allclose(found, expected(lst.values, 3), rtol=0, atol=1e-4)
    assert found.attrs["sharpening_factor"] == 3 and "sharpening_guides" not in found.attrs


def test_every_method_is_there(rasters):
    lst, guide, _ = rasters(shape=(16, 16))
    for method in METHODS:
        found = sharpen(lst, guide[0], method=method)
        assert found.shape == (64, 64) and np.isfinite(found).all(), method


def test_options_reach_the_method_and_the_attributes(noisy_scene_with_gaps):
    values, guide = noisy_scene_with_gaps(0, 0.1, 0.0)
    lst, ndvi = utm_raster(values, 1000.0, name="lst"), utm_raster(guide[0], name="ndvi")
    found = sharpen(lst, ndvi, method="tsharp", residual="block")
    expected = tsharp(values.astype(np.float32), guide.astype(np.float32), 4, residual="block")
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert json.loads(found.attrs["sharpening_options"]) == {"residual": "block"}
    assert found.attrs["sharpening_guides"] == "ndvi"


def test_guides_come_as_bands_sequence_or_dataset(rasters):
    lst, guide, fine = rasters(guides=2)
    bands = [guide[0].rename("ndvi"), guide[1].rename("albedo")]
    dataset = xr.Dataset({"ndvi": bands[0].drop_vars("spatial_ref"), "albedo": guide[1]})
    for given in (guide, bands, tuple(bands), dataset.rio.write_crs(32633)):
        found = sharpen(lst, given, method="tsharp", bounded=False)
        np.testing.assert_allclose(found, fine, rtol=0, atol=3e-4)
    assert found.attrs["sharpening_guides"] == "ndvi, albedo"


def test_a_guide_on_a_grid_of_its_own_is_warped(rasters):
    lst, _, _ = rasters(shape=(12, 12))
    smooth = np.add.outer(np.linspace(0, 1, 60), np.linspace(0, 2, 60))
    moved = utm_raster(smooth, row=-6.5, column=-6.5, name="smooth")
    rows = (np.arange(48) + 6.5) / 59
    there = np.add.outer(rows, 2 * rows)
    lst.values[:] = 300 - 7 * there.reshape(12, 4, 12, 4).mean(axis=(1, 3))
    found = sharpen(lst, moved, method="tsharp")
    np.testing.assert_allclose(found, 300 - 7 * there, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["tsharp", "atprk", "aatprk"])
def test_a_constant_guide_falls_back_to_bicubic_and_says_so(rasters, method):
    lst, guide, _ = rasters()
    guide.values[:] = 0.4
    guide.values[0, :4, :4] = np.nan
    with pytest.warns(SharpeningWarning, match="falls back to bicubic"):
        found = sharpen(lst, guide[0], method=method)
    assert "constant" in found.attrs["sharpening_fallback"]
    expected = upsample_bicubic(lst.values, 4)
    expected[:4, :4] = np.nan
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_a_changed_setting_is_noted(rasters):
    lst, guide, _ = rasters()
    lst.values[:, 2:] = np.nan
    lst.values[2:] = np.nan
    with pytest.warns(SharpeningWarning, match="too few pairs"):
        found = sharpen(lst, guide[0], method="atprk")
    assert "too few pairs" in found.attrs["sharpening_notes"]
    assert np.isfinite(found.values[:8, :8]).all() and np.isnan(found.values).sum() == 40 * 48 - 64


def test_infinite_lst_is_a_gap(rasters):
    lst, guide, _ = rasters()
    lst.values[3, 3] = np.inf
    found = sharpen(lst, guide[0]).values
    assert np.isnan(found[12:16, 12:16]).all() and np.isnan(found).sum() == 16


def test_a_band_dimension_of_one_is_no_hindrance(rasters):
    lst, guide, fine = rasters()
    found = sharpen(lst.expand_dims("band"), guide, method="tsharp", bounded=False)
    np.testing.assert_allclose(found, fine, rtol=0, atol=2e-4)
    with pytest.raises(GridError, match="not one band"):
        sharpen(xr.concat([lst, lst], "band"), guide)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lst, guide: (lst, guide.assign_coords(x=guide.x + 1e6)), "does not overlap"),
        (lambda lst, guide: (lst.drop_vars("spatial_ref"), guide), "no CRS"),
        (lambda lst, guide: (lst, guide.drop_vars("spatial_ref")), "no CRS"),
        (lambda lst, guide: (lst * np.nan, guide), "no valid pixel"),
        (lambda lst, guide: (lst, guide * np.nan), "no valid pixel"),
        (lambda lst, guide: (lst, lst), "coarser than the fine grid"),
    ],
)
@pytest.mark.parametrize("method", FAST)
def test_rasters_that_cannot_be_used(rasters, change, message, method):
    lst, guide, _ = rasters()
    lst, guide = change(lst, guide[0])
    with pytest.raises(GridError, match=message):
        sharpen(lst, guide, method=method)


def test_the_wrong_crs_does_not_overlap(rasters):
    lst, guide, _ = rasters()
    with pytest.raises(GridError, match="does not overlap"):
        sharpen(lst, guide[0].rio.write_crs("EPSG:32631"))
    with pytest.raises(GridError):
        sharpen(lst, guide[0].rio.write_crs("EPSG:4326"))


def test_lst_and_guide_with_no_pixel_in_common(rasters):
    lst, guide, _ = rasters()
    lst.values[:, :6] = np.nan
    guide.values[:, :, 24:] = np.nan
    with pytest.raises(GridError, match="no pixel has both"):
        sharpen(lst, guide[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "unknown sharpening method"),
        ({"method": "atprk", "residual": "block"}, "unknown option of atprk"),
        ({"method": "bicubic", "radius": 2}, "unknown option of bicubic"),
        ({"method": "atprk", "radius": 0}, "radius"),
        ({"factor": 1}, "factor"),
        ({"factor": 2.5}, "factor"),
    ],
)
def test_settings_that_cannot_be_used(rasters, options, message):
    lst, guide, _ = rasters()
    with pytest.raises(ConfigError, match=message):
        sharpen(lst, guide[0], **options)


@pytest.mark.parametrize("guide", [None, [], xr.Dataset()])
def test_a_missing_guide(rasters, guide):
    lst, _, _ = rasters()
    with pytest.raises(ConfigError, match="needs a guide"):
        sharpen(lst, guide)


def test_importing_the_room_is_cheap():
    code = (
        "import sys, keras_lstsr.sharpening; "
        "print([m for m in ('tensorflow', 'keras', 'sklearn', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lst: lst - 273.15, "--unit celsius"),
        (lambda lst: (lst / 0.02).round().astype("uint16"), "multiply by 0.02"),
        (lambda lst: lst.where(lst.x > lst.x[3], 0), "pixels hold 0"),
        (lambda lst: lst.where(lst.x > lst.x[3], -9999.0), "pixels hold -9999"),
    ],
)
def test_lst_that_is_no_kelvin_is_refused(rasters, change, message):
    lst, guide, _ = rasters()
    with pytest.raises(GridError, match=message):
        sharpen(change(lst).rio.write_crs(lst.rio.crs), guide[0], method="tsharp")


def test_fill_values_of_the_attributes_are_missing(rasters):
    lst, guide, _ = rasters()
    expected = sharpen(lst.where(lst.x > lst.x[1]), guide[0], method="tsharp")
    filled = lst.where(lst.x > lst.x[1], -9999.0).assign_attrs(_FillValue=-9999.0)
    np.testing.assert_array_equal(sharpen(filled, guide[0], method="tsharp"), expected)
    ndvi = (guide[0] * 100).round().astype("int16").rename("ndvi")
    with pytest.raises(GridError, match=r"cannot be NDVI.*0\.0001"):
        sharpen(lst, ndvi.rio.write_crs(lst.rio.crs), method="tsharp")
