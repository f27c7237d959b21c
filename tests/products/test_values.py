"""Numbers that mean missing, and numbers of another unit: the right value, or a refusal."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ProductError
from keras_lstsr.products import open_guide, open_product

RNG = np.random.default_rng(4)
KELVIN = (290 + 25 * RNG.random((40, 40))).astype(np.float32)
NDVI = (0.05 + 0.85 * RNG.random((40, 40))).astype(np.float32)
HOLE = np.s_[10:20, 10:30]


def with_hole(values, number):
    filled = values.copy()
    filled[HOLE] = number
    return filled


def hundredths(kelvin):
    return np.round((kelvin - 273.15) * 100).astype(np.int16)


@pytest.mark.parametrize(
    ("values", "options", "number"),
    [
        (with_hole(hundredths(KELVIN), 0), {"scale": 0.01, "unit": "celsius"}, "0"),
        (with_hole(KELVIN - np.float32(273.15), 0), {"unit": "celsius"}, "0"),
        (with_hole(KELVIN, np.float32(273.15)), {}, "273.15"),
        (with_hole(hundredths(KELVIN), -3000), {"scale": 0.01, "unit": "celsius"}, "-3000"),
        (with_hole(np.round(KELVIN * 100).astype(np.uint16), 32767), {"scale": 0.01}, "32767"),
        (with_hole(KELVIN, np.float32(199.0)), {}, "199"),
    ],
)
def test_missing_lst_written_as_a_number_is_refused_until_the_option_tells(
    write_tif, values, options, number
):
    path = write_tif(values, "lst.tif")
    with pytest.raises(ProductError, match=rf"200 pixels .*hold {number}.*--nodata {number}"):
        open_product(path, **options)
    scene = open_product(path, **options, nodata=float(values[HOLE][0, 0]))
    assert np.isnan(scene["lst_kelvin"].values[HOLE]).all()
    assert int(scene["lst_kelvin"].isnull().sum()) == 200
    kept = open_product(path, **options, nodata=float("nan"))["lst_kelvin"]
    assert not kept.isnull().any()


@pytest.mark.parametrize("number", [-3000, -9999, 32767])
def test_missing_ndvi_in_its_range_is_refused(write_tif, number):
    stored = with_hole(np.round(NDVI * 10_000).astype(np.int16), number)
    path = write_tif(stored, "ndvi.tif", scale=1e-4 if number == -3000 else 3e-5)
    with pytest.raises(ProductError, match=rf"hold {number}.*--ndvi-nodata {number}"):
        open_guide("ndvi", path)
    assert int(open_guide("ndvi", path, nodata=number)["ndvi"].isnull().sum()) == 200


def test_zero_in_ndvi_is_noted_since_it_may_be_measured(write_tif):
    scene = open_product(write_tif(with_hole(NDVI, 0), "ndvi.tif"))
    assert "200 pixels (12.5% of those with a value) hold 0" in scene.attrs["notes"]
    assert "--ndvi-nodata 0" in scene.attrs["notes"]
    assert "notes" not in open_product(write_tif(NDVI, "plain_ndvi.tif")).attrs


@pytest.mark.parametrize(
    "stored",
    [
        np.where(np.arange(40) < 25, 0, np.clip(NDVI * 200, 1, 200)).astype(np.uint8),
        np.where(np.arange(40) < 25, 0, NDVI * 10_000).astype(np.int16),
        np.where(np.arange(40) < 25, 0, NDVI * 10_000).astype(np.float32),
        np.where(NDVI < 0.6, 0, 1).astype(np.uint8),
        np.zeros((40, 40), np.float32),
    ],
)
def test_raw_numbers_with_many_zeros_are_no_ndvi(write_tif, stored):
    with pytest.raises(ProductError, match=r"raw integers instead of NDVI|every pixel is 0"):
        open_product(write_tif(stored, "ndvi.tif"))


@pytest.mark.parametrize(
    ("tags", "nodata"),
    [
        ({"_FillValue": "-3000", "missing_value": "-2500"}, None),
        ({"missing_value": "-3000"}, -2500),
        ({"valid_range": "-2000, 10000"}, None),
        ({"valid_min": "-0.2", "valid_max": "1.0"}, None),
        ({"flag_values": "{-3000,-2500}", "flag_meanings": "cloud sea"}, None),
    ],
)
def test_all_that_tags_call_missing_is_missing(write_tif, tags, nodata):
    stored = np.round(NDVI * 10_000).astype(np.int16)
    stored[:5], stored[5:10] = -3000, -2500
    path = write_tif(stored, "ndvi.tif", scale=1e-4, band_tags=tags, nodata=nodata)
    ndvi = open_product(path)["ndvi"].values
    assert np.isnan(ndvi[:10]).all() and not np.isnan(ndvi[10:]).any()
    np.testing.assert_allclose(ndvi[10:], NDVI[10:], atol=1e-4)


@pytest.mark.parametrize(
    ("values", "tags", "told", "untold"),
    [
        (KELVIN, {"scale": 0.02}, "--scale 1", "celsius"),
        (KELVIN, {"scale": 0.02, "units": "degC"}, "--scale 1", "--unit celsius"),
        (KELVIN, {"units": "degC"}, "--scale 1 --unit kelvin", "--unit celsius"),
        (KELVIN, {"offset": 273.15}, "--scale 1 --unit kelvin", "celsius"),
        (KELVIN - 273.15, {"units": "K"}, "--unit celsius", "--scale"),
        (KELVIN * 1.8 - 459.67 + 25, {}, "K = (F + 459.67) / 1.8", "--unit celsius"),
        (np.zeros((40, 40), np.float32), {}, "every pixel is 0", "celsius"),
        (np.round(KELVIN * 50).astype(np.uint16), {}, "--scale 0.02 --nodata 0", "celsius"),
        (np.round(KELVIN * 1000).astype(np.int32), {}, "user guide", "--scale"),
    ],
)
def test_advice_is_tried_on_the_values(write_tif, values, tags, told, untold):
    path = write_tif(np.asarray(values, getattr(values, "dtype", None)), "lst.tif", **tags)
    with pytest.raises(ProductError) as caught:
        open_product(path)
    assert told in str(caught.value) and untold not in str(caught.value)


def test_all_ways_that_fit_are_named(write_tif):
    with pytest.raises(
        ProductError, match=r"--scale 0\.1 --nodata 0.*--scale 0\.01 --unit celsius"
    ):
        open_product(write_tif(np.round(KELVIN * 10).astype(np.uint16), "lst.tif"))
    with pytest.raises(ProductError, match=r"Celsius.*--unit celsius.*Fahrenheit"):
        open_product(write_tif((KELVIN - 273.15).astype(np.float32), "lst.tif"))
    with pytest.raises(ProductError, match=r"--ndvi-scale 0\.0001\), which gives 0\.\d+ to 0\.8"):
        open_product(write_tif(np.round(NDVI * 10_000).astype(np.int16), "ndvi.tif"))


def test_zeros_never_become_temperatures_by_a_unit(write_tif):
    with pytest.raises(ProductError, match="every pixel is 0"):
        open_product(write_tif(np.zeros((9, 9), np.float32), "lst.tif"), unit="celsius")


def test_ndvi_that_a_tag_would_scale_again(write_tif):
    path = write_tif(NDVI, "ndvi.tif", scale=1e-4)
    with pytest.raises(ProductError, match=r"NDVI already.*--ndvi-scale 1\b"):
        open_guide("ndvi", path)
    np.testing.assert_array_equal(open_guide("ndvi", path, scale=1.0)["ndvi"], NDVI)
