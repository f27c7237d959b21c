"""A product of the user's own is opened like those that come along."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from keras_lstsr import products
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products import (
    FileProduct,
    HdfProduct,
    open_guide,
    open_product,
    register_product,
)
from keras_lstsr.products.mod11a1 import open_mod11a1
from keras_lstsr.testing.rasters import guide_raster, utm_grid


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(products, "HDF_PRODUCTS", dict(products.HDF_PRODUCTS))
    monkeypatch.setattr(products, "FILE_PRODUCTS", {})


def warmer(file, metadata, *, qc_policy, variables) -> xr.Dataset:
    scene = open_mod11a1(file, metadata, qc_policy=qc_policy, variables=variables)
    return scene.assign(lst_day_kelvin=scene["lst_day_kelvin"] + 1)


@pytest.mark.usefixtures("registry")
def test_a_registered_product_is_opened_by_its_name_in_the_metadata(write_mod11a1):
    stored = np.full((4, 6), 15000, np.uint16)
    path = write_mod11a1({"LST_Day_1km": stored}, product="MOD11A2")
    with pytest.raises(ProductError, match=r"not a supported product.*MOD11A2"):
        open_product(path)
    register_product("MOD11A2", HdfProduct(warmer))
    assert "MOD11A2" in products.product_names()
    scene = open_product(path, variables=["lst_day_kelvin"])
    assert scene.attrs["product"] == "MOD11A2"
    np.testing.assert_array_equal(scene["lst_day_kelvin"], 301)


@pytest.mark.usefixtures("registry")
def test_names_are_taken_once():
    for taken in ("MOD11A1", "NDVI_GEOTIFF"):
        with pytest.raises(ConfigError, match="name is taken"):
            register_product(taken, HdfProduct(warmer))
    register_product("MOD11A1", HdfProduct(warmer), replace=True)
    assert products.HDF_PRODUCTS["MOD11A1"].open is warmer


@pytest.mark.usefixtures("registry")
def test_a_guide_of_a_registered_product_is_opened_by_its_name(tmp_path):
    ndvi = guide_raster(utm_grid((6, 5)))
    product = FileProduct(
        lambda path, *, qc_policy: ndvi.to_dataset(name="ndvi"), lambda path: path.suffix == ".ndvi"
    )
    register_product("OWN_NDVI", product)
    path = tmp_path / "h18v04_227_2021.ndvi"
    path.touch()
    scene = open_guide("ndvi", path)
    np.testing.assert_array_equal(scene["ndvi"], ndvi)
    expected = {"product": "OWN_NDVI", "tile": "h18v04", "acquisition_date": "", "platform": ""}
    assert expected.items() <= scene.attrs.items()
    pattern = r"_(?P<doy>\d{3})_(?P<year>\d{4})"
    assert open_product(path, date_pattern=pattern).attrs["acquisition_date"] == "2021-08-15"
    assert open_product(path, date="2020-01-02").attrs["acquisition_date"] == "2020-01-02"
    # By its name it may be asked for where the file's name says nothing.
    assert open_product(path.rename(tmp_path / "a"), product="OWN_NDVI")["ndvi"].shape == (6, 5)
