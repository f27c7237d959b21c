"""A product of the user's own is opened like those that come along."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from keras_lstsr import products
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products import HdfProduct, open_product, register_product
from keras_lstsr.products.mod11a1 import open_mod11a1


@pytest.fixture
def registry(monkeypatch):
    monkeypatch.setattr(products, "HDF_PRODUCTS", dict(products.HDF_PRODUCTS))


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
