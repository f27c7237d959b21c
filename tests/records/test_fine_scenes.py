"""Scenes of fine LST become samples without a guide."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from pyproj import CRS

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.degradation import degrade
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.fine_scenes import (
    FineSceneFile,
    cloud_mask_of,
    find_fine_scenes,
    is_mask,
    without_clouds,
)
from keras_lstsr.records.scene_sample import nested
from keras_lstsr.testing.rasters import utm_grid, write_geotiff
from keras_lstsr.testing.samples import texture

NAME = "ECO_L2_LSTE.002_LST_doy2023175112358_aid0001.tif"
MASK = "ECO_L2_LSTE.002_cloud_mask_doy2023175112358_aid0001.tif"
WATER = "ECO_L2_LSTE.002_water_mask_doy2023175112358_aid0001.tif"


def write(path, values, *, pixel_m=62.5, tags=None):
    return write_geotiff(path, values, utm_grid(values.shape, pixel_m), nodata=0, tags=tags)


def write_scene(folder, size=192, seed=0, **keywords):
    """LST of 62.5 m pixels, four along a 250 m pixel's side, as AppEEARS stores it."""
    kelvin = 290 + 20 * texture(size, seed)
    stored = np.round(kelvin / 0.02).astype(np.uint16)
    tags = {"scale_factor": "0.02", "add_offset": "0.0", "units": "K"}
    return write(folder / NAME, stored, tags=tags, **keywords), stored * 0.02


def degraded(path):
    return nested(FineSceneFile(path).load(), 4)


def test_truth_is_the_mean_over_250_m_and_lst_what_modis_sees_of_it(tmp_path):
    path, kelvin = write_scene(tmp_path)
    sample = degraded(path)
    assert sample.lst_kelvin.shape == (12, 12) and sample.truth_kelvin.shape == (48, 48)
    np.testing.assert_allclose(sample.truth_kelvin, block_mean(kelvin, 4), atol=2e-3)
    assert (sample.guides, sample.origin) == ({}, "degraded")
    noise = sample.lst_kelvin - degrade(sample.truth_kelvin, 4, "psf")
    assert 0.09 < noise.std() < 0.15
    again = degraded(path)
    np.testing.assert_array_equal(sample.lst_kelvin, again.lst_kelvin)
    assert sample.name == path.stem


def test_clouds_are_left_out_and_water_is_not(tmp_path):
    path, _ = write_scene(tmp_path)
    cloud = np.zeros((192, 192), np.uint16)
    cloud[16:20, 32:36] = 1
    assert cloud_mask_of(path) is None
    write(tmp_path / MASK, cloud)
    write(tmp_path / WATER, np.ones_like(cloud))
    assert find_fine_scenes(tmp_path) == [FineSceneFile(path)]
    assert cloud_mask_of(path) == tmp_path / MASK
    sample = degraded(path)
    expected = np.zeros((48, 48), bool)
    expected[4, 8] = True
    np.testing.assert_array_equal(np.isnan(sample.truth_kelvin), expected)
    np.testing.assert_array_equal(np.isnan(sample.lst_kelvin), block_mean(expected * 1.0, 4) > 0)


@pytest.mark.parametrize(
    ("name", "mask", "bad", "good"),
    [
        ("ECOv002_L2T_LSTE_1_004_11SLT_20221229T212113_0712_01_LST.tif", "_cloud.tif", [1], [0]),
        (
            "LC08_L2SP_196024_20220308_20220314_02_T1_ST_B10.TIF",
            "_QA_PIXEL.TIF",
            [0b1, 0b10, 0b100, 0b1000, 0b10000, 22280],
            [21824, 0b100000, 0b10000000],
        ),
    ],
)
def test_masks_of_other_archives(tmp_path, name, mask, bad, good):
    stored = np.full((8, 10), 295.0, np.float32)
    path = write(tmp_path / name, stored)
    bits = np.full((8, 10), good[0], np.uint16)
    bits[0, : len(bad)], bits[1, : len(good)] = bad, good
    end = "_LST.tif" if name.endswith("_LST.tif") else "_ST_B10.TIF"
    beside = write(tmp_path / name.replace(end, mask), bits)
    assert cloud_mask_of(path) == beside and is_mask(beside) and not is_mask(path)
    assert [scene.path for scene in find_fine_scenes(tmp_path)] == [path]
    lst = without_clouds(utm_grid((8, 10), 62.5).raster(stored), path)
    expected = np.zeros((8, 10), bool)
    expected[0, : len(bad)] = True
    np.testing.assert_array_equal(np.isnan(lst), expected)
    beside.write_bytes(b"not a raster")
    with pytest.raises(ProductError, match="cannot be read as a raster"):
        without_clouds(lst, path)


def test_degrees_become_metres(tmp_path):
    kelvin = np.full((300, 300), 15_000, np.uint16)
    path = tmp_path / NAME
    grid = Grid(CRS(4326), Affine(0.0006, 0, 15.0, 0, -0.0006, 45.0), kelvin.shape)
    write_geotiff(path, kelvin, grid, tags={"scale_factor": "0.02", "units": "K"})
    sample = degraded(path)
    assert sample.grid.crs.to_epsg() == 32633
    assert sample.fine_grid.transform.a == 250
    # 0.18° at 45° north: 20 km from north to south, 14.2 km from west to east.
    assert 19 <= sample.lst_kelvin.shape[0] <= 21 and 13 <= sample.lst_kelvin.shape[1] <= 15
    valid = np.isfinite(sample.truth_kelvin)
    np.testing.assert_allclose(sample.truth_kelvin[valid], 300, atol=1e-3)
    assert valid.mean() > 0.9


def test_a_scene_knows_its_files(tmp_path):
    path, _ = write_scene(tmp_path)
    mask = write(tmp_path / MASK, np.zeros((192, 192), np.uint16))
    source = FineSceneFile(path)
    scene = source.load()
    assert (scene.name, scene.group) == (source.name, source.group) == (path.stem, tmp_path.name)
    assert scene.files == {each.name: sha256_of(each) for each in (path, mask)}


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ProductError, match=r"no scene of fine LST.*found no folder"):
        find_fine_scenes(tmp_path / "nowhere")
    with pytest.raises(ProductError, match=r"no scene of fine LST.*found no \.tif"):
        find_fine_scenes(tmp_path)
    path, _ = write_scene(tmp_path, pixel_m=1000.0)
    with pytest.raises(GridError, match=r"too coarse.*1000 m.*250 m or finer"):
        degraded(path)
    path, _ = write_scene(tmp_path, size=12)
    with pytest.raises(ProductError, match="smaller than a coarse pixel"):
        degraded(path)
    path, _ = write_scene(tmp_path)
    write(tmp_path / MASK, np.zeros((5, 5), np.uint16))
    with pytest.raises(GridError, match=r"cloud_mask.*cloud mask does not fit.*\(5, 5\)"):
        degraded(path)
    ndvi = write(tmp_path / "other.tif", np.full((64, 64), 0.5, np.float32), tags={"units": "NDVI"})
    with pytest.raises(ProductError):
        degraded(ndvi)


@pytest.mark.real_data
def test_real_ecostress(lstsr_data):
    scenes = find_fine_scenes(lstsr_data / "ecostress")
    assert len(scenes) == 10 and all(cloud_mask_of(scene.path) is not None for scene in scenes)
    sample = nested(scenes[0].load(), 4)
    assert sample.grid.crs.to_epsg() == 32611
    assert sample.lst_kelvin.shape == (75, 110)
    assert 0.7 < sample.valid_share < 0.8
    assert abs(np.nanmean(sample.lst_kelvin) - np.nanmean(sample.truth_kelvin)) < 0.3
