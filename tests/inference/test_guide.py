from __future__ import annotations

import keras
import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from affine import Affine

from keras_lstsr.config import GuidedModelConfig
from keras_lstsr.errors import GridError
from keras_lstsr.inference.guide import (
    GuideUse,
    guide_followed,
    guide_of_scene,
    guide_use,
    share_text,
)

GRID = Affine(1000, 0, 400_000, 0, -1000, 5_000_000)
FINE = GRID @ Affine.scale(0.25)
UTM = "EPSG:32633"


def raster(values, crs=UTM, dims=("y", "x")):
    array = xr.DataArray(values, dims=dims, name="ndvi")
    return array.rio.set_spatial_dims(dims[1], dims[0]).rio.write_crs(crs)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0, 0.8, shape).astype(np.float32)


def block_mean(values):
    return values.reshape(values.shape[0] // 4, 4, -1, 4).mean(axis=(1, 3))


def test_a_guide_on_the_fine_grid_is_copied_and_missing_beyond_its_border():
    values = noise(24, 20)
    same = guide_of_scene(raster(values), FINE, (6, 5), GRID, UTM, 4)
    np.testing.assert_array_equal(same, values)
    beyond = guide_of_scene(
        raster(values[4:]), FINE @ Affine.translation(0, 4), (6, 5), GRID, UTM, 4
    )
    assert np.isnan(beyond[:4]).all()
    np.testing.assert_array_equal(beyond[4:], values[4:])


def test_a_guide_of_other_names_of_dimensions_is_taken():
    values = noise(24, 20)
    named = raster(values, dims=("lat", "lon"))
    np.testing.assert_array_equal(guide_of_scene(named, FINE, (6, 5), GRID, UTM, 4), values)


def test_a_finer_guide_is_averaged():
    values = noise(48, 40)
    half = guide_of_scene(raster(values), GRID @ Affine.scale(0.125), (6, 5), GRID, UTM, 4)
    np.testing.assert_allclose(half, values.reshape(24, 2, 20, 2).mean((1, 3)), atol=1e-6)


@pytest.mark.parametrize("reason", ["elsewhere", "empty"])
def test_a_guide_that_says_nothing_of_the_scene_is_an_error(reason):
    values, grid = noise(24, 20), FINE
    if reason == "elsewhere":
        grid = FINE @ Affine.translation(1000, 0)
    else:
        values[:] = np.nan
    with pytest.raises(GridError, match=r"ndvi: the guide does not overlap.*bounds \(.*32633"):
        guide_of_scene(raster(values), grid, (6, 5), GRID, UTM, 4)


def test_a_guide_as_coarse_as_lst_is_an_error():
    with pytest.raises(GridError, match="coarser than the fine grid"):
        guide_of_scene(raster(noise(6, 5)), GRID, (6, 5), GRID, UTM, 4)


def test_the_explained_share_is_that_of_a_line():
    ndvi = noise(80, 80)
    coarse = block_mean(ndvi)
    exact = guide_use(300 - 12 * coarse, ndvi, 4)
    assert exact.explained_share == pytest.approx(1, abs=1e-6)
    assert (exact.missing_share, exact.constant, exact.notes()) == (0, False, [])
    lst = 300 - 12 * coarse + np.random.default_rng(1).normal(0, 1, coarse.shape)
    expected = np.corrcoef(lst.ravel(), coarse.ravel())[0, 1] ** 2
    assert guide_use(lst, ndvi, 4).explained_share == pytest.approx(expected, abs=1e-6)


def test_the_missing_share_counts_fine_pixels_with_lst_only():
    ndvi = noise(16, 20)
    lst = 300 - 20 * block_mean(ndvi)
    lst[0] = np.nan
    ndvi[:4] = np.nan  # under the gap: does not matter
    ndvi[4:8, :6] = np.nan
    use = guide_use(lst, ndvi, 4)
    assert use.missing_share == pytest.approx(24 / (15 * 16))
    (note,) = use.notes()
    assert "missing on 10.0%" in note and "bicubic" in note


@pytest.mark.parametrize("constant", [True, False])
def test_a_constant_guide_is_told(constant):
    ndvi = np.full((24, 20), 0.4, np.float32) if constant else noise(24, 20)
    use = guide_use(300 + noise(6, 5), ndvi, 4)
    assert use.constant == constant
    assert any("same in all LST pixels" in note for note in use.notes()) == constant
    assert constant == (use.explained_share == 0)


def test_without_common_pixels_nothing_is_known():
    lst, ndvi = np.full((4, 5), np.nan), noise(16, 20)
    lst[0, 0] = 300
    use = guide_use(lst, ndvi, 4)
    assert np.isnan(use.explained_share)
    assert use.as_attributes() == {"guide_missing_share": 0, "guide_unfollowed_share": 0}
    assert GuideUse(0.25, False, 0.5, 0.125).as_attributes() == {
        "guide_missing_share": 0.25,
        "guide_unfollowed_share": 0.125,
        "guide_explained_share": 0.5,
    }


def test_how_far_the_guide_is_followed_is_what_the_network_does():
    from keras_lstsr.models import build_guided

    rng = np.random.default_rng(3)
    ndvi = noise(160, 120)
    coarse = block_mean(ndvi)
    # From strongly through hardly to not at all, from left to right; and gaps in both.
    slope = np.linspace(30, 0, 30)
    lst = (300 - slope * coarse + rng.normal(0, 0.5, coarse.shape)).astype(np.float32)
    lst[3:9, 4:7] = np.nan
    ndvi[40:44, 20:23] = np.nan
    model = build_guided(GuidedModelConfig(width=4))
    layer = model.get_layer("upsample_statistics")
    features = keras.Model(model.input, [layer.input, model.get_layer("features").output[2]])
    statistics, held = features({"lst_kelvin": lst[None, ..., None], "ndvi": ndvi[None, ..., None]})
    followed = guide_followed(lst, block_mean(ndvi))
    assert np.array_equal(np.isnan(followed), np.isnan(lst) | np.isnan(block_mean(ndvi)))
    explained, steep = (keras.ops.convert_to_numpy(statistics)[0, ..., k] for k in (6, 4))
    expected = np.minimum(explained / 0.3, 1) * np.minimum(np.abs(steep) / 12, 1)
    there = np.isfinite(followed)
    np.testing.assert_allclose(followed[there], expected[there], atol=2e-3)
    assert followed[20, 1] > 0.8 and followed[20, -1] < 0.3
    # On the fine grid the network interpolates between the coarse pixels.
    inside = block_mean(keras.ops.convert_to_numpy(held)[0, ..., 0])[1:-1, 1:-1]
    np.testing.assert_allclose(inside, expected[1:-1, 1:-1], atol=0.1)


def test_a_scene_whose_lst_hardly_follows_ndvi_is_told():
    ndvi, rng = noise(160, 160), np.random.default_rng(4)
    night = (285 + rng.normal(0, 1, (40, 40))).astype(np.float32)
    use = guide_use(night, ndvi, 4)
    assert use.unfollowed_share > 0.9
    (note,) = use.notes()
    assert "hardly follows NDVI" in note and "bicubic" in note
    day = (300 - 30 * block_mean(ndvi)).astype(np.float32)
    assert guide_use(day, ndvi, 4).unfollowed_share == 0


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0%"), (1e-6, "less than 0.1%"), (0.001, "0.1%"), (0.1234, "12.3%"), (1.0, "100.0%")],
)
def test_only_no_share_is_written_as_none(share, text):
    assert share_text(share) == text
