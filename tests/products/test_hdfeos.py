"""HDF4-EOS grids and damaged files."""

from __future__ import annotations

import json
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyproj
import pytest
from rasterio.crs import CRS

from keras_lstsr.errors import ProductError
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs, tile_of_bounds
from keras_lstsr.products import HDF_PRODUCTS, mod11a1, open_product
from keras_lstsr.products.hdfeos import HdfEosFile, parse_odl

# pyproj's own arithmetic, from the definition of the projection: nothing of ours in it.
SINUSOIDAL = pyproj.Proj(proj="sinu", R=6371007.181, lon_0=0, x_0=0, y_0=0, units="m")


def corner_metres(tile: str, row: float, column: float, pixels_per_tile: int) -> tuple:
    """x and y of a pixel corner by way of longitude and latitude."""
    latitude = 90.0 - 10.0 * (int(tile[4:6]) + row / pixels_per_tile)
    equator_longitude = -180.0 + 10.0 * (int(tile[1:3]) + column / pixels_per_tile)
    longitude = equator_longitude / np.cos(np.radians(latitude))
    return SINUSOIDAL(longitude, latitude)


def test_tile_size_is_a_thirty_sixth_of_the_equator():
    assert pytest.approx(1111950.5197, abs=1e-4) == MODIS_TILE_SIZE_M
    assert pytest.approx(SINUSOIDAL(10.0, 0.0)[0], abs=1e-6) == MODIS_TILE_SIZE_M


@pytest.mark.parametrize("tile", ["h18v04", "h17v04", "h11v05", "h14v09", "h20v11"])
def test_pixel_corners_equal_pyproj(write_mod11a1, tile):
    arrays = {"LST_Day_1km": np.full((12, 8), 15000, np.uint16)}
    path = write_mod11a1(arrays, tile=tile, row=100, column=200)
    transform = open_product(path).rio.transform()
    for row, column in [(0, 0), (12, 0), (0, 8), (12, 8), (5, 3)]:
        expected = corner_metres(tile, 100 + row, 200 + column, 1200)
        assert transform @ (column, row) == pytest.approx(expected, abs=1e-3)


@pytest.mark.real_data
@pytest.mark.parametrize("tile", ["h14v09", "h11v05"])
def test_pixel_corners_of_real_granules_equal_pyproj(lstsr_data, tile):
    (path,) = (lstsr_data / "modis").glob(f"MOD11A1.*{tile}*.hdf")
    scene = open_product(path, variables=["lst_day_kelvin"])
    transform = scene.rio.transform()
    for row, column in [(0, 0), (0, 1200), (1200, 0), (1200, 1200), (613, 977)]:
        expected = corner_metres(tile, row, column, 1200)
        assert transform @ (column, row) == pytest.approx(expected, abs=1e-3)
    centre = corner_metres(tile, 10.5, 20.5, 1200)
    assert (float(scene.x[20]), float(scene.y[10])) == pytest.approx(centre, abs=1e-3)


@pytest.mark.real_data
def test_geotransform_equals_gdal_s(lstsr_data):
    if shutil.which("gdalinfo") is None:
        pytest.skip("no gdalinfo")
    formats = subprocess.run(["gdalinfo", "--formats"], capture_output=True, text=True, check=True)
    if "HDF4Image" not in formats.stdout:
        pytest.skip("this GDAL has no HDF4 driver")
    (path,) = (lstsr_data / "modis").glob("MOD11A1.*h11v05*.hdf")
    grid = HDF_PRODUCTS["MOD11A1"].grid_name
    name = f'HDF4_EOS:EOS_GRID:"{path}":{grid}:LST_Day_1km'
    done = subprocess.run(["gdalinfo", "-json", name], capture_output=True, text=True, check=True)
    transform = open_product(path, variables=["lst_day_kelvin"]).rio.transform()
    assert transform.to_gdal() == pytest.approx(json.loads(done.stdout)["geoTransform"], abs=1e-6)


def test_crs_projects_as_pyproj_does(write_mod11a1):
    scene = open_product(write_mod11a1({"LST_Day_1km": np.full((4, 4), 15000, np.uint16)}))
    geographic = scene.rio.crs.to_wkt()
    project = pyproj.Transformer.from_crs(
        pyproj.CRS(geographic).geodetic_crs, geographic, always_xy=True
    )
    assert project.transform(12.5, 45.0) == pytest.approx(SINUSOIDAL(12.5, 45.0), abs=1e-6)


def test_250_m_pixels_nest_in_1_km_pixels(write_mod11a1, write_mod09gq):
    lst = write_mod11a1({"LST_Day_1km": np.full((10, 12), 15000, np.uint16)}, row=64, column=32)
    ndvi = write_mod09gq(
        {"sur_refl_b01_1": np.full((40, 48), 1000, np.int16)}, row=4 * 64, column=4 * 32
    )
    coarse = open_product(lst).rio.transform()
    fine = open_product(ndvi).rio.transform()
    for row, column in [(0, 0), (3, 7), (10, 12)]:
        assert fine @ (4 * column, 4 * row) == pytest.approx(coarse @ (column, row), abs=1e-3)
    assert coarse.a == pytest.approx(926.62543, abs=1e-5)
    assert fine.a == pytest.approx(231.65636, abs=1e-5)


@pytest.mark.parametrize("column", range(36))
def test_every_tile_is_named_by_its_place(column):
    for row in range(18):
        left = (column - 18) * MODIS_TILE_SIZE_M
        top = (9 - row) * MODIS_TILE_SIZE_M
        bounds = (left, top - MODIS_TILE_SIZE_M, left + MODIS_TILE_SIZE_M, top)
        assert tile_of_bounds(*bounds) == f"h{column:02d}v{row:02d}"


def test_rectangle_over_two_tiles_has_no_tile():
    assert tile_of_bounds(-1000.0, 1000.0, 1000.0, 2000.0) == ""
    assert tile_of_bounds(19 * MODIS_TILE_SIZE_M, 0, 19.5 * MODIS_TILE_SIZE_M, 1000.0) == ""


@pytest.mark.real_data
def test_grids_of_all_real_files(lstsr_data):
    found = {}
    for path in sorted((lstsr_data / "modis").glob("*.hdf")):
        with HdfEosFile(path) as file:
            found[path.name[:25]] = [one.grid.shape for one in file.grids]
    assert found == {
        "MOD09A1.A2017193.h18v04.0": [(73, 66)],
        "MOD09GA.A2008296.h14v17.0": [(1200, 1200), (2400, 2400)],
        "MOD11A1.A2019305.h14v09.0": [(1200, 1200)],
        "MOD11A1.A2021227.h11v05.0": [(1200, 1200)],
        "MOD13A2.A2016145.h18v04.0": [(185, 219)],
        "MOD13A2.A2021225.h11v06.0": [(1200, 1200)],
    }


@pytest.mark.real_data
def test_field_is_looked_up_in_the_grid_that_holds_it(lstsr_data):
    (path,) = (lstsr_data / "modis").glob("MOD09GA.*.hdf")
    with HdfEosFile(path) as file:
        assert file.grid_of("state_1km_1").name == "MODIS_Grid_1km_2D"
        assert file.grid_of("sur_refl_b01_1").name == "MODIS_Grid_500m_2D"
        assert file.read("state_1km_1")[0].shape == (1200, 1200)
        with pytest.raises(ProductError, match="no grid of this file"):
            file.grid_of("LST_Day_1km")


def test_odl_values_nest_and_continue():
    text = 'GROUP=A\n\tOBJECT = B\n\t\tK = ("x",\n"y")\n\tEND_OBJECT = B\nEND_GROUP=A\nEND\n\0\0'
    root = parse_odl(text)
    assert root.find("B").values == {"K": '("x","y")'}
    assert root.find("C") is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("GROUP=A\nEND_GROUP=B\n", "not nested"),
        ("END_GROUP=A\n", "not nested"),
        ("GROUP=A\n", "inside a group"),
        ("GROUP=A\nK=(1,\n", "inside a value"),
    ],
)
def test_damaged_odl_is_refused(text, problem):
    with pytest.raises(ProductError, match=problem):
        parse_odl(text)


def valid_arrays(shape=(8, 8)):
    return {
        "LST_Day_1km": np.full(shape, 15000, np.uint16),
        "QC_Day": np.zeros(shape, np.uint8),
    }


def test_missing_file(tmp_path):
    with pytest.raises(ProductError, match="no such file"):
        open_product(tmp_path / "absent.hdf")


def test_folder_is_no_file(tmp_path):
    (tmp_path / "folder.hdf").mkdir()
    with pytest.raises(ProductError, match="this is not a file"):
        open_product(tmp_path / "folder.hdf")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "an empty file"),
        (b"just some text", "begins with b'just som'"),
        (b"<!DOCTYPE html><html>Earthdata Login", "login page"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
def test_file_with_hdf_name_that_is_none(tmp_path, content, found):
    path = tmp_path / "MOD11A1.A2021227.h18v04.061.2021228105320.hdf"
    path.write_bytes(content)
    with pytest.raises(ProductError, match="not an HDF4 file") as caught:
        open_product(path)
    assert found in str(caught.value) and str(path) in str(caught.value)


@pytest.mark.parametrize("share", [0.001, 0.05, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_truncated_file(write_mod11a1, share):
    generator = np.random.default_rng(0)
    arrays = {
        entry.name: generator.integers(1, 200, (64, 64)).astype(entry.dtype)
        for entry in mod11a1.FIELDS
    }
    path = write_mod11a1(arrays)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ProductError, match=r"truncated or damaged|no grid metadata"):
        open_product(path)


@pytest.mark.real_data
@pytest.mark.parametrize("share", [0.01, 0.5, 0.9, 0.999])
def test_truncated_real_file(lstsr_data, tmp_path, share):
    (source,) = (lstsr_data / "modis").glob("MOD11A1.*h11v05*.hdf")
    content = source.read_bytes()
    path = tmp_path / source.name
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ProductError, match="truncated or damaged") as caught:
        open_product(path)
    assert "Download the file again" in str(caught.value)


def test_file_without_grid_metadata(tmp_path):
    from pyhdf.SD import SD, SDC

    path = tmp_path / "plain.hdf"
    SD(str(path), SDC.WRITE | SDC.CREATE).end()
    with pytest.raises(ProductError, match="no grid metadata"):
        open_product(path)


def test_swath_file(tmp_path):
    from pyhdf.SD import SD, SDC

    path = tmp_path / "MOD11_L2.A2021227.1805.061.2021228091530.hdf"
    sd = SD(str(path), SDC.WRITE | SDC.CREATE)
    sd.attr("StructMetadata.0").set(
        SDC.CHAR,
        'GROUP=SwathStructure\n\tGROUP=SWATH_1\n\t\tSwathName="MOD_Swath_LST"\n'
        "\tEND_GROUP=SWATH_1\nEND_GROUP=SwathStructure\n"
        "GROUP=GridStructure\nEND_GROUP=GridStructure\nEND\n",
    )
    sd.end()
    with pytest.raises(ProductError, match="swath file") as caught:
        open_product(path)
    assert "MOD_Swath_LST" in str(caught.value) and "MOD11A1" in str(caught.value)


def test_grid_of_another_projection(write_mod11a1):
    with pytest.raises(ProductError, match=r"not sinusoidal.*GCTP_GEO"):
        open_product(write_mod11a1(valid_arrays(), projection="GCTP_GEO"))


def test_grid_on_another_sphere(write_mod11a1):
    with pytest.raises(ProductError, match="another sphere"):
        open_product(write_mod11a1(valid_arrays(), radius="6378137.0"))


def test_threads_read_as_one_does(write_mod11a1):
    generator = np.random.default_rng(1)
    paths = []
    for number in range(6):
        arrays = valid_arrays((40, 40))
        arrays["LST_Day_1km"] = generator.integers(14000, 16000, (40, 40)).astype(np.uint16)
        paths.append(write_mod11a1(arrays, name=f"{number}.hdf"))
    alone = [open_product(path).lst_day_kelvin.values for path in paths]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda path: open_product(path).lst_day_kelvin.values, paths * 5))
    for number, values in enumerate(together):
        np.testing.assert_array_equal(values, alone[number % 6])


def test_a_failed_reading_leaves_the_library_usable(write_mod11a1, tmp_path):
    good = write_mod11a1(valid_arrays())
    bad = tmp_path / "bad.hdf"
    bad.write_bytes(good.read_bytes()[:500])
    for _ in range(3):
        with pytest.raises(ProductError):
            open_product(bad)
        assert open_product(good).lst_day_kelvin.notnull().all()
    with ThreadPoolExecutor(1) as pool:  # another thread: a lock that was kept would block it
        assert pool.submit(open_product, good).result(timeout=30).sizes == {"y": 8, "x": 8}


def test_crs_constant_is_the_modis_sphere():
    parameters = CRS.from_wkt(modis_sinusoidal_crs().srs).to_dict()
    assert parameters["proj"] == "sinu" and parameters["R"] == 6371007.181
