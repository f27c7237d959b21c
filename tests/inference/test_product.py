from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from affine import Affine

from keras_lstsr.errors import LstsrError, ProductError
from keras_lstsr.inference.predictor import SavedModelPredictor
from keras_lstsr.inference.product import choose_layer, predict_product, valid_share
from keras_lstsr.products import open_product

TRANSFORM = Affine(1000, 0, 400_000, 0, -1000, 5_000_000)


def layer(name, values, rejected=None):
    attributes = {"day_night": name}
    if rejected:
        attributes["rejected_pixels"] = json.dumps(rejected)
    return (("y", "x"), values.astype(np.float32), attributes)


def two_layers(day, night, rejected_by_day=None):
    return xr.Dataset(
        {
            "lst_day_kelvin": layer("day", day, rejected_by_day),
            "lst_night_kelvin": layer("night", night),
        },
        attrs={"source_file": "MOD11A1.hdf"},
    )


CLEAR = np.full((4, 5), 300.0)
CLOUDY = np.full((4, 5), np.nan)


def test_day_is_the_default_and_night_can_be_chosen():
    scene = two_layers(CLEAR, CLEAR - 20)
    assert choose_layer(scene, None)[0] == "day"
    name, chosen = choose_layer(scene, "night")
    assert name == "night"
    assert float(chosen[0, 0]) == 280.0


def test_a_cloudy_layer_is_an_error_that_names_the_shares_and_reasons():
    half = CLEAR.copy()
    half[:2] = np.nan
    scene = two_layers(CLOUDY, half, rejected_by_day={"cloud": 18, "fill": 2, "quality": 0})
    with pytest.raises(ProductError) as caught:
        choose_layer(scene, None)
    message = str(caught.value)
    assert "MOD11A1.hdf: day: the layer has no valid pixel" in message
    assert "day 0.0% valid, night 50.0% valid" in message
    assert "rejected: cloud 18, fill 2;" in message
    assert "--layer" in message


def test_a_layer_that_is_not_there_is_an_error():
    scene = xr.Dataset({"lst_kelvin": layer("unknown", CLEAR)})
    assert choose_layer(scene, None)[0] == "unknown"
    with pytest.raises(ProductError, match=r"night: the scene has no such layer.*unknown 100"):
        choose_layer(scene, "night")


@pytest.fixture
def geotiff(tmp_path):
    """An LST GeoTIFF as MODIS integers, 0 where missing."""
    rng = np.random.default_rng(0)
    stored = rng.integers(14_000, 15_500, (37, 53)).astype(np.uint16)
    stored[5:9, 10:20] = 0
    path = tmp_path / "LST2006_01_09.LST_Day_1km.tif"
    profile = {
        "driver": "GTiff", "width": 53, "height": 37, "count": 1, "dtype": "uint16",
        "crs": "EPSG:32633", "transform": TRANSFORM, "nodata": 0,
    }  # fmt: skip
    with rasterio.open(path, "w", **profile) as file:
        file.write(stored, 1)
        file.scales = (0.02,)
    return path


def test_a_geotiff_becomes_a_cog_with_provenance_and_quicklook(geotiff, tiny_models_dir, tmp_path):
    predictor = SavedModelPredictor(tiny_models_dir)
    steps = []
    done = predict_product(
        geotiff, predictor, tmp_path / "fine.tif", tile_pixels=32, overlap_pixels=16,
        progress=lambda tiles, total: steps.append((tiles, total)),
    )  # fmt: skip
    assert done.layer == "day"
    assert done.shape == (148, 212)
    assert done.valid_share == pytest.approx(1 - 40 / (37 * 53))
    assert steps[-1][0] == steps[-1][1]
    assert done.quicklook == tmp_path / "fine.png"
    assert done.quicklook.is_file()
    coarse = open_product(geotiff)["lst_kelvin"]
    with rasterio.open(done.output) as file:
        tags, fine = file.tags(), file.read(1)
        assert file.transform == TRANSFORM @ Affine.scale(0.25)
        assert file.crs == "EPSG:32633"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    missing = np.repeat(np.repeat(np.isnan(coarse.values), 4, 0), 4, 1)
    np.testing.assert_array_equal(np.isnan(fine), missing)
    assert done.minimum_kelvin == np.nanmin(fine)
    assert done.maximum_kelvin == np.nanmax(fine)
    assert tags["units"] == "kelvin"
    assert tags["source_granule"] == geotiff.name
    assert tags["acquisition_date"] == "2006-01-09"
    assert tags["day_night"] == "day"
    assert tags["super_resolution_factor"] == "4"
    assert tags["model_run"] == "tiny"
    assert tags["model_version"] == "2"
    assert tags["model_weights_sha256"] == predictor.provenance["weights_sha256"]
    assert tags["model_dataset_fingerprint"] == "f" * 64
    assert tags["software"].startswith("keras-lstsr ")


def test_the_result_is_itself_a_product(geotiff, tiny_models_dir, tmp_path):
    predictor = SavedModelPredictor(tiny_models_dir)
    done = predict_product(geotiff, predictor, tmp_path / "fine.tif", quicklook=False)
    assert done.quicklook is None
    scene = open_product(done.output)
    assert scene.attrs["acquisition_date"] == "2006-01-09"
    assert scene["lst_kelvin"].attrs["day_night"] == "day"
    assert valid_share(scene["lst_kelvin"]) == pytest.approx(done.valid_share)


def test_the_input_is_never_replaced(geotiff, tiny_models_dir):
    before = geotiff.read_bytes()
    with pytest.raises(LstsrError, match="would replace the input"):
        predict_product(geotiff, SavedModelPredictor(tiny_models_dir), geotiff)
    assert geotiff.read_bytes() == before
