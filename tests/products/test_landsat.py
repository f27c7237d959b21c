"""Landsat's surface temperature as delivered: without a scale tag, by day."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ProductError
from keras_lstsr.products import lst_layers, open_product

STORED = np.array([[0, 41000], [44177, 50000]], np.uint16)
KELVIN = np.array([[np.nan, 289.13882], [299.9979, 319.901]])
NAME = "LC08_L2SP_196024_20220308_20220314_02_T1_ST_B10.TIF"


@pytest.mark.parametrize("name", [NAME, NAME.replace("LC08", "LE07").replace("B10", "B6")])
def test_the_product_defines_scale_offset_and_fill(write_tif, name):
    scene = open_product(write_tif(STORED, name))
    np.testing.assert_allclose(scene["lst_kelvin"], KELVIN, atol=2e-3)
    attributes = scene.attrs
    assert (attributes["product"], attributes["version"]) == ("LANDSAT_LST", "02")
    assert attributes["platform"] == ("Landsat 8" if "LC08" in name else "Landsat 7")
    assert attributes["acquisition_date"] == "2022-03-08"
    assert list(lst_layers(scene)) == ["day"]


def test_tags_and_options_go_first(write_tif):
    kelvin = np.array([[280.0, 300.0]], np.float32)
    np.testing.assert_allclose(open_product(write_tif(kelvin, NAME))["lst_kelvin"], kelvin)
    stored = np.array([[14000, 15000]], np.uint16)
    path = write_tif(stored, NAME.replace("196", "197"))
    np.testing.assert_allclose(open_product(path, scale=0.02)["lst_kelvin"], [[280.0, 300.0]])


def test_other_bands_are_not_temperature(write_tif):
    with pytest.raises(ProductError, match="LST or NDVI"):
        open_product(write_tif(STORED, NAME.replace("ST_B10", "SR_B4")))


def test_by_its_product(write_tif):
    scene = open_product(write_tif(STORED, "scene.tif"), product="LANDSAT_LST")
    np.testing.assert_allclose(scene["lst_kelvin"], KELVIN, atol=2e-3)
