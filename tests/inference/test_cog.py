from __future__ import annotations

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
from PIL import Image

from keras_lstsr.errors import GridError
from keras_lstsr.inference.cog import write_cog, write_quicklook
from keras_lstsr.products import open_product
from keras_lstsr.testing.rasters import modis_grid

GRID = modis_grid((700, 1300), tile="h14v08", pixels_per_tile=4800)


@pytest.fixture
def raster():
    values = np.random.default_rng(0).uniform(280, 320, (700, 1300)).astype(np.float32)
    values[:60, :90] = np.nan
    return GRID.raster(values, name="lst_kelvin_fine")


def test_the_file_is_a_cog_with_the_values_grid_and_tags(raster, tmp_path):
    path = tmp_path / "new folder" / "lst.tif"
    write_cog(raster, path, tags={"units": "kelvin", "model_run": "bold-bear", "tile_pixels": 128})
    with rasterio.open(path) as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.profile["tiled"]
        assert file.block_shapes == [(512, 512)]
        assert file.overviews(1) == [2, 4]
        assert file.profile["compress"] == "deflate"
        assert np.isnan(file.nodata)
        assert file.transform == GRID.transform
        assert file.crs == raster.rio.crs
        assert file.units == ("K",)
        assert file.descriptions == ("lst_kelvin_fine",)
        tags = file.tags()
        assert (tags["units"], tags["model_run"], tags["tile_pixels"]) == (
            "kelvin",
            "bold-bear",
            "128",
        )
        np.testing.assert_array_equal(file.read(1), raster.values)
    assert [entry.name for entry in path.parent.iterdir()] == ["lst.tif"]


def test_uint16_keeps_a_hundredth_of_a_kelvin_and_reads_back(raster, tmp_path):
    path = tmp_path / "lst.tif"
    write_cog(raster, path, tags={"quantity": "land surface temperature"}, dtype="uint16")
    with rasterio.open(path) as file:
        assert (file.dtypes, file.nodata, file.scales) == (("uint16",), 0, (0.01,))
    lst = open_product(path)["lst_kelvin"]
    np.testing.assert_array_equal(np.isnan(lst), np.isnan(raster))
    np.testing.assert_allclose(lst.values, raster.values, rtol=0, atol=0.00505)


def test_uint16_refuses_what_it_cannot_hold(raster, tmp_path):
    raster[100, 100] = 700.0
    with pytest.raises(GridError, match=r"700\.00 K.*Write float32"):
        write_cog(raster, tmp_path / "lst.tif", tags={}, dtype="uint16")
    assert list(tmp_path.iterdir()) == []


def test_a_turned_raster_is_written_north_up(raster, tmp_path):
    turned = raster.sortby("y").rename(y="latitude", x="longitude").transpose()
    for lst, name in ((raster, "a.tif"), (turned, "b.tif")):
        write_cog(lst, tmp_path / name, tags={})
    assert (tmp_path / "a.tif").read_bytes() == (tmp_path / "b.tif").read_bytes()


def test_a_raster_without_crs_is_refused(raster, tmp_path):
    with pytest.raises(GridError, match="no CRS"):
        write_cog(raster.drop_vars("spatial_ref"), tmp_path / "lst.tif", tags={})


def test_the_quicklook_is_a_picture_with_grey_gaps(raster, tmp_path):
    coarse = GRID.coarser(4).raster(raster.values[::4, ::4])
    fine = raster.copy(data=np.repeat(np.repeat(coarse.values, 4, 0), 4, 1))
    path = tmp_path / "lst.png"
    write_quicklook(coarse, fine, path, title="MOD11A1\n2019-11-01 day")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (pixels == 191).all(axis=1).mean() > 0.001  # grey 0.75
    assert len(np.unique(pixels, axis=0)) > 200  # and the colours of the map
    assert list(tmp_path.iterdir()) == [path]


def test_the_quicklook_refuses_what_does_not_nest_or_is_empty(raster, tmp_path):
    with pytest.raises(GridError, match="does not nest"):
        write_quicklook(raster[:100, :100], raster[:399, :400], tmp_path / "a.png")
    empty = raster.copy(data=np.full(raster.shape, np.nan))
    with pytest.raises(GridError, match="no valid pixel"):
        write_quicklook(empty, empty, tmp_path / "a.png")
