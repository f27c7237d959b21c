"""ASTER temperature: AST_08 as delivered, and resampled files with tags."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ProductError
from keras_lstsr.products import open_product

STORED = np.array([[0, 2930], [3050, 3120]], np.uint16)
KELVIN = np.array([[np.nan, 293.0], [305.0, 312.0]])
AST08 = "AST_08_00308152021183000_20210816120000_1234.tif"


def test_ast08_needs_no_tags(write_tif):
    scene = open_product(write_tif(STORED, AST08))
    np.testing.assert_allclose(scene.lst_kelvin, KELVIN, rtol=1e-6)
    attributes = scene.attrs
    assert (attributes["product"], attributes["platform"]) == ("ASTER_LST", "Terra")
    assert (attributes["version"], attributes["acquisition_date"]) == ("003", "2021-08-15")
    assert scene.lst_kelvin.encoding["scale_factor"] == 0.1


def test_product_option_makes_a_raster_aster(write_tif):
    scene = open_product(write_tif(STORED, "scene.tif"), product="ASTER_LST")
    np.testing.assert_allclose(scene.lst_kelvin, KELVIN, rtol=1e-6)


def test_tags_go_before_the_definition(write_tif):
    path = write_tif(
        (STORED * 5).astype(np.uint16),
        "aster_lst.tif",
        scale=0.02,
        nodata=0,
        units="K",
        tags={"day_night": "night"},
    )
    scene = open_product(path)
    np.testing.assert_allclose(scene.lst_kelvin, KELVIN, rtol=1e-6)
    assert scene.lst_kelvin.attrs["day_night"] == "night"


def test_aster_in_celsius_is_noticed(write_tif):
    values = np.array([[20.0, 30.0]], np.float32)
    with pytest.raises(ProductError, match="degrees Celsius"):
        open_product(write_tif(values, "aster_lst.tif"))


@pytest.mark.real_data
def test_every_real_set_of_lst_ndvi_and_aster(lstsr_data):
    folder = lstsr_data / "modis_aster"
    kinds = {"aster_lst_232m": "ASTER_LST", "lst_1km": "LST_GEOTIFF", "ndvi_250m": "NDVI_GEOTIFF"}
    for kind, product in kinds.items():
        paths = sorted(folder.glob(f"???_{kind}.tif"))
        assert len(paths) == 54
        for path in paths:
            scene = open_product(path)
            assert scene.attrs["product"] == product
            if product == "ASTER_LST":
                assert 270 < float(scene.lst_kelvin.median()) < 340
                assert scene.attrs["tile"] == ""
            else:
                assert scene.attrs["tile"] == "h18v04"
            if product == "LST_GEOTIFF":
                assert scene.lst_kelvin.notnull().all()
                assert scene.lst_kelvin.attrs["day_night"] == "day"
