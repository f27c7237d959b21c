"""Single-band GeoTIFF: what tags, names and options tell, and what is refused."""

from __future__ import annotations

import json
import threading
import tracemalloc
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

from keras_lstsr.errors import ConfigError, LstsrError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import modis_sinusoidal_crs
from keras_lstsr.products import (
    guide_layer,
    lst_layers,
    open_guide,
    open_product,
    rejection_reason,
)
from keras_lstsr.testing.hostile_rasters import sparse, write_lst

KELVIN = np.array([[280.0, 290.5], [300.25, np.nan]], np.float32)
CROATIA = np.array([[0, 14000], [14250, 14912]], np.uint16)


def rejected(layer):
    return json.loads(layer.attrs["rejected_pixels"])


def test_kelvin_as_they_are(write_tif):
    scene = open_product(write_tif(KELVIN, "scene_lst_20210815_night.tif"))
    np.testing.assert_array_equal(scene.lst_kelvin.values, KELVIN)
    assert scene.attrs["product"] == "LST_GEOTIFF"
    assert scene.attrs["acquisition_date"] == "2021-08-15"
    assert scene.attrs["qc_policy"] == "none"
    assert list(lst_layers(scene)) == ["night"]
    assert rejected(scene.lst_kelvin) == {"fill": 1}
    assert scene.lst_kelvin.encoding["dtype"] == "float32"


def test_scale_and_nodata_from_options(write_tif):
    path = write_tif(CROATIA, "LST2006_02_18.LST_Day_1km.tif")
    scene = open_product(path, scale=0.02, nodata=0)
    np.testing.assert_allclose(scene.lst_kelvin, [[np.nan, 280.0], [285.0, 298.24]], rtol=1e-6)
    assert scene.attrs["acquisition_date"] == "2006-02-18"
    assert scene.lst_kelvin.attrs["day_night"] == "day"
    encoding = scene.lst_kelvin.encoding
    assert (encoding["dtype"], encoding["scale_factor"], encoding["_FillValue"]) == (
        "uint16",
        0.02,
        0,
    )
    stored = np.rint(scene.lst_kelvin.fillna(0).values / 0.02).astype(np.uint16)
    np.testing.assert_array_equal(stored, CROATIA)


def test_raw_integers_instead_of_kelvin(write_tif):
    with pytest.raises(ProductError, match="raw integers instead of kelvin") as caught:
        open_product(write_tif(CROATIA, "LST2006_02_18.LST_Day_1km.tif"))
    assert "scale=0.02, nodata=0" in str(caught.value)
    assert "14000 to 14912" in str(caught.value)


def test_raw_tenths_of_kelvin_are_told_apart(write_tif):
    stored = np.array([[0, 2900, 3000]], np.uint16)
    with pytest.raises(ProductError, match="raw integers") as caught:
        open_product(write_tif(stored, "lst.tif"))
    assert "scale=0.1, nodata=0" in str(caught.value)


def test_mostly_empty_raw_raster_is_not_taken_for_celsius(write_tif):
    stored = np.zeros((10, 10), np.uint16)
    stored[0, 0] = 14000
    with pytest.raises(ProductError, match="raw integers"):
        open_product(write_tif(stored, "lst.tif"))


def test_zeros_without_nodata_are_out_of_range(write_tif):
    scene = open_product(write_tif(CROATIA, "lst.tif"), scale=0.02)
    assert rejected(scene.lst_kelvin) == {"out_of_range": 1}


def test_integer_kelvin_need_no_scale(write_tif):
    scene = open_product(write_tif(np.array([[280, 300]], np.int16), "lst.tif"))
    assert scene.lst_kelvin.values.tolist() == [[280.0, 300.0]]


def test_celsius_is_named_and_converted_on_request(write_tif):
    path = write_tif(KELVIN - np.float32(273.15), "lst.tif")
    with pytest.raises(ProductError, match="degrees Celsius instead of kelvin") as caught:
        open_product(path)
    assert 'unit="celsius"' in str(caught.value) and str(path) in str(caught.value)
    scene = open_product(path, unit="celsius")
    np.testing.assert_allclose(scene.lst_kelvin, KELVIN, atol=1e-4)
    assert scene.lst_kelvin.encoding["add_offset"] == 0.0


def test_celsius_in_the_tags_is_converted(write_tif):
    stored = np.array([[-1000, 1500, 2500]], np.int16)
    path = write_tif(stored, "lst.tif", scale=0.01, units="degC", nodata=-1000)
    scene = open_product(path)
    np.testing.assert_allclose(scene.lst_kelvin, [[np.nan, 288.15, 298.15]], rtol=1e-6)
    assert scene.lst_kelvin.encoding["add_offset"] == pytest.approx(273.15)


def test_celsius_tagged_as_kelvin_is_still_noticed(write_tif):
    with pytest.raises(ProductError, match="degrees Celsius"):
        open_product(write_tif(np.array([[20.0, 25.0]], np.float32), "lst.tif", units="K"))


def test_unit_that_is_unknown(write_tif):
    with pytest.raises(ProductError, match=r"unit of temperature.*'degF'"):
        open_product(write_tif(KELVIN, "lst.tif", units="degF"))
    with pytest.raises(ConfigError, match="kelvin or celsius"):
        open_product(write_tif(KELVIN, "lst.tif"), unit="fahrenheit")


def test_wrong_scale_is_noticed(write_tif):
    with pytest.raises(ProductError, match=r"not temperatures in kelvin.*scale 0\.1"):
        open_product(write_tif(CROATIA, "lst.tif"), scale=0.1, nodata=0)


def test_scale_offset_and_nodata_from_the_band(write_tif):
    stored = np.array([[-32768, 0, 1000]], np.int16)
    path = write_tif(stored, "lst.tif", scale=0.01, offset=280.0, nodata=-32768, units="K")
    np.testing.assert_allclose(open_product(path).lst_kelvin, [[np.nan, 280, 290]], rtol=1e-6)


def test_scale_from_text_tags(write_tif):
    path = write_tif(
        CROATIA, "lst.tif", tags={"scale_factor": "0.02", "add_offset": "0.0", "_FillValue": "0"}
    )
    assert open_product(path).lst_kelvin.values[1, 0] == np.float32(285.0)
    assert rejected(open_product(path).lst_kelvin) == {"fill": 1}


def test_options_go_before_tags(write_tif):
    path = write_tif(CROATIA, "lst.tif", scale=0.1, nodata=14000)
    scene = open_product(path, scale=0.02, nodata=0)
    np.testing.assert_allclose(scene.lst_kelvin, [[np.nan, 280.0], [285.0, 298.24]], rtol=1e-6)


def test_the_file_s_own_mask_hides_pixels(write_tif):
    import rasterio

    path = write_tif(np.full((2, 2), 300.0, np.float32), "lst.tif")
    with rasterio.open(path, "r+") as target:
        target.write_mask(np.array([[255, 0], [255, 255]], np.uint8))
    scene = open_product(path)
    assert scene.lst_kelvin.isnull().values.tolist() == [[False, True], [False, False]]


def test_wild_pixels_are_rejected_one_by_one(write_tif):
    values = np.full((3, 4), 300.0, np.float32)
    values[0] = [20.0, 149.9, 400.1, np.inf]
    scene = open_product(write_tif(values, "lst.tif"))
    assert rejected(scene.lst_kelvin) == {"out_of_range": 4}
    assert rejection_reason(scene, "lst_kelvin").values[0].tolist() == [4, 4, 4, 4]


def test_raster_without_a_value_opens(write_tif):
    scene = open_product(write_tif(np.zeros((3, 3), np.uint16), "lst.tif", nodata=0))
    assert scene.lst_kelvin.isnull().all()
    assert rejected(scene.lst_kelvin) == {"fill": 9}


def test_ndvi_is_recognised_and_scaled(write_tif):
    stored = np.array([[-32768, 7761, -2318, 12000]], np.int16)
    path = write_tif(stored, "a.tif", scale=0.0001, nodata=-32768, description="MODIS NDVI")
    scene = open_product(path)
    assert scene.attrs["product"] == "NDVI_GEOTIFF"
    np.testing.assert_allclose(
        guide_layer(scene, "ndvi"), [[np.nan, 0.7761, -0.2318, np.nan]], rtol=1e-6
    )
    assert rejected(scene.ndvi) == {"fill": 1, "out_of_range": 1}
    with pytest.raises(ProductError, match="no land surface temperature"):
        lst_layers(scene)


def test_stored_ndvi_scale_of_10000_divides(write_tif):
    path = write_tif(np.array([[7761]], np.int16), "ndvi.tif", tags={"scale_factor": "10000"})
    assert open_product(path).ndvi.values[0, 0] == np.float32(0.7761)


def test_raw_integers_instead_of_ndvi(write_tif):
    with pytest.raises(ProductError, match="raw integers instead of NDVI"):
        open_product(write_tif(np.array([[7761, 5000]], np.int16), "ndvi.tif"))


def test_quantity_from_option_units_or_nothing(write_tif):
    path = write_tif(KELVIN, "scene.tif")
    with pytest.raises(ProductError, match="whether this is LST or NDVI"):
        open_product(path)
    assert "lst_kelvin" in open_product(path, quantity="lst")
    assert "lst_kelvin" in open_product(path, product="LST_GEOTIFF")
    assert "lst_kelvin" in open_product(write_tif(KELVIN, "other.tif", units="K"))
    with pytest.raises(ConfigError, match="unknown quantity"):
        open_product(path, quantity="albedo")
    with pytest.raises(ConfigError, match="contradict"):
        open_product(path, quantity="ndvi", product="LST_GEOTIFF")


def test_description_goes_before_the_name(write_tif):
    path = write_tif(np.array([[0.5]], np.float32), "lst_guide.tif", description="NDVI")
    assert "ndvi" in open_product(path)


def test_date_and_day_night_by_precedence(write_tif):
    path = write_tif(
        KELVIN,
        "lst_20200101_day.tif",
        tags={"acquisition_date": "2021-08-15", "day_night": "night"},
    )
    scene = open_product(path)
    assert scene.attrs["acquisition_date"] == "2021-08-15"
    assert scene.lst_kelvin.attrs["day_night"] == "night"
    scene = open_product(path, date="2019-11-01", day_night="unknown")
    assert scene.attrs["acquisition_date"] == "2019-11-01"
    assert list(lst_layers(scene)) == ["unknown"]
    pattern = r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)_(?P<day_night>day|night)"
    scene = open_product(path, date_pattern=pattern)
    assert scene.attrs["acquisition_date"] == "2020-01-01"
    assert scene.lst_kelvin.attrs["day_night"] == "day"


def test_the_sun_tells_day_from_night(write_tif):
    # The files lie at 13° east, where noon is about 11:10 UTC.
    for time, expected in (("110000", "day"), ("230000", "night"), ("170000", "day")):
        scene = open_product(write_tif(KELVIN, f"lst_doy2021180{time}.tif"))
        assert list(lst_layers(scene)) == [expected]
    scene = open_product(write_tif(KELVIN, "lst_doy2021180230000_day.tif"))
    assert list(lst_layers(scene)) == ["day"]


def test_modis_tile_from_name_or_place(write_tif):
    named = open_product(write_tif(KELVIN, "MOD11A1.A2021227.h11v05.061.LST_Day_1km.tif"))
    assert named.attrs["tile"] == "h11v05" and named.attrs["acquisition_date"] == "2021-08-15"
    size = 926.6254330558334
    placed = open_product(
        write_tif(
            KELVIN, "lst.tif", crs="modis", transform=Affine(size, 0, 277061.0, 0, -size, 5100146.4)
        )
    )
    assert placed.attrs["tile"] == "h18v04"
    assert open_product(write_tif(KELVIN, "utm_lst.tif")).attrs["tile"] == ""


def test_every_spelling_of_the_modis_crs_becomes_one(write_tif):
    wkt = (
        'PROJCS["unnamed",GEOGCS["Unknown datum based upon the custom spheroid",'
        'DATUM["Not specified (based on custom spheroid)",SPHEROID["Custom spheroid",'
        '6371007.181,0]],PRIMEM["Greenwich",0],UNIT["degree",0.0174532925199433]],'
        'PROJECTION["Sinusoidal"],PARAMETER["longitude_of_center",0],'
        'PARAMETER["false_easting",0],PARAMETER["false_northing",0],UNIT["Meter",1]]'
    )
    scene = open_product(write_tif(KELVIN, "lst.tif", crs=wkt))
    assert scene.rio.crs == modis_sinusoidal_crs()
    other = open_product(write_tif(KELVIN, "lst.tif", crs="+proj=sinu +R=6378137 +units=m"))
    assert other.rio.crs != modis_sinusoidal_crs()


def test_grid_is_the_file_s(write_tif):
    scene = open_product(write_tif(KELVIN, "lst.tif"))
    assert scene.rio.crs.to_epsg() == 32633
    assert scene.rio.transform() == Affine(1000.0, 0, 360000.0, 0, -1000.0, 5156000.0)
    assert scene.x.values.tolist() == [360500.0, 361500.0]
    assert scene.y.values.tolist() == [5155500.0, 5154500.0]
    assert scene.x.attrs["units"] == "m"


def test_geographic_grid(write_tif):
    transform = Affine(0.001, 0, -118.7, 0, -0.001, 34.3)
    scene = open_product(write_tif(KELVIN, "lst.tif", crs="EPSG:4326", transform=transform))
    assert scene.x.attrs == {"standard_name": "longitude", "units": "degree", "axis": "X"}
    assert scene.y.attrs["standard_name"] == "latitude"


def test_one_class_of_a_map(write_tif):
    classes = np.array([[17, 1], [10, 255]], np.uint8)
    path = write_tif(classes, "cover.tif", nodata=255)
    water = open_guide("water", path, class_value=17)["water"]
    np.testing.assert_array_equal(water, [[1, 0], [0, np.nan]])
    with pytest.raises(ProductError, match="Divide percent by 100"):
        open_guide("water", path)


def test_percent_of_a_little_water_is_refused(write_tif):
    percent = np.zeros((30, 30), np.uint8)
    percent[3, 4] = 40
    with pytest.raises(ProductError, match=r"raw integers instead of the share.*percent by 100"):
        open_guide("water", write_tif(percent, "water.tif"))
    path = write_tif(percent, "water_percent.tif")
    assert open_guide("water", path, scale=0.01)["water"].values[3, 4] == pytest.approx(0.4)
    mask = (percent > 0).astype(np.uint8)
    mask[0, 0] = 250  # fill without a tag
    values = open_guide("water", write_tif(mask, "mod44w.tif"))["water"].values
    assert values[3, 4] == 1 and np.isnan(values[0, 0])


def test_of_several_bands_the_one_that_is_named(write_tif):
    bands = np.array([[[1.5, -2.0]], [[3.0, 4.0]]], np.float32)
    path = write_tif(bands, "lst_reference.tif", description="reference")
    np.testing.assert_array_equal(open_product(path)["reference"], bands[0])
    np.testing.assert_array_equal(open_guide("reference", path)["reference"], bands[0])
    with pytest.raises(ProductError, match="which band to read"):
        open_guide("ndvi", path)


def test_several_bands(write_tif):
    with pytest.raises(ProductError, match=r"which band to read.*3 bands"):
        open_product(write_tif(np.full((3, 2, 2), 300.0, np.float32), "lst.tif"))


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_no_georeferencing(write_tif):
    with pytest.raises(ProductError, match="no coordinate reference system"):
        open_product(write_tif(KELVIN, "lst.tif", crs=None))
    with pytest.raises(ProductError, match="no geotransform"):
        open_product(write_tif(KELVIN, "lst.tif", transform=None))


def test_crs_that_is_not_on_the_earth(write_tif):
    local = 'LOCAL_CS["plant",UNIT["metre",1]]'
    with pytest.raises(ProductError, match="not on the Earth's surface"):
        open_product(write_tif(KELVIN, "lst.tif", crs=local))


@pytest.mark.parametrize(
    "transform",
    [Affine(1000.0, 0, 0, 0, 1000.0, 0), Affine(1000.0, 10.0, 0, 10.0, -1000.0, 0)],
)
def test_raster_that_is_not_north_up(write_tif, transform):
    with pytest.raises(ProductError, match="not north up"):
        open_product(write_tif(KELVIN, "lst.tif", transform=transform))


def test_complex_numbers(write_tif):
    with pytest.raises(ProductError, match="neither integers nor floating-point"):
        open_product(write_tif(KELVIN.astype(np.complex64), "lst.tif"))


def test_no_raster_at_all(tmp_path):
    path = tmp_path / "lst.tif"
    path.write_text("place,group\n")
    with pytest.raises(ProductError, match="cannot be read as a raster") as caught:
        open_product(path)
    assert "single-band GeoTIFF" in str(caught.value)
    with pytest.raises(ProductError, match="no such file"):
        open_product(tmp_path / "absent.tif")


def test_truncated_tif(write_tif):
    values = np.random.default_rng(0).normal(300, 5, (200, 200)).astype(np.float32)
    path = write_tif(values, "lst.tif")
    path.write_bytes(path.read_bytes()[:50000])
    with pytest.raises(ProductError, match="cannot be read as a raster"):
        open_product(path)


@pytest.mark.parametrize("option", [{"scale": 0.0}, {"scale": -1.0}, {"date": "yesterday"}])
def test_unusable_options(write_tif, option):
    with pytest.raises(ConfigError):
        open_product(write_tif(KELVIN, "lst.tif"), **option)


def test_an_option_that_does_not_exist(write_tif):
    with pytest.raises(ConfigError, match=r"unknown option; found 'scaling'; expected .*scale"):
        open_product(write_tif(KELVIN, "lst.tif"), scaling=0.02)


@pytest.mark.real_data
def test_every_croatian_scene(lstsr_data):
    import rasterio

    paths = sorted((lstsr_data / "croatia_lst_2006").glob("*.tif"))
    assert len(paths) == 92
    dates, times = set(), []
    for path in paths:
        scene = open_product(path, scale=0.02, nodata=0)
        with rasterio.open(path) as source:
            stored = source.read(1)
        assert int(scene.lst_kelvin.notnull().sum()) == int((stored != 0).sum())
        np.testing.assert_array_equal(
            np.rint(scene.lst_kelvin.fillna(0).values / 0.02).astype(np.uint16), stored
        )
        dates.add(scene.attrs["acquisition_date"])
        times.append(scene.lst_kelvin.attrs["day_night"])
    assert len(dates) == 46 and {date[:4] for date in dates} == {"2006"}
    assert times.count("day") == times.count("night") == 46
    with pytest.raises(ProductError, match=r"Pass scale=0\.02, nodata=0"):
        open_product(paths[0])


@pytest.mark.real_data
def test_every_ecostress_scene(lstsr_data):
    for path in sorted((lstsr_data / "ecostress").glob("*_LST_*.tif")):
        scene = open_product(path, day_night="day")
        assert scene.attrs["acquisition_date"].startswith("2023-0")
        assert 250 < float(scene.lst_kelvin.median()) < 340
        assert scene.lst_kelvin.attrs["day_night"] == "day"
    mask = next((lstsr_data / "ecostress").glob("*_cloud_mask_*.tif"))
    with pytest.raises(ProductError, match="whether this is LST or NDVI"):
        open_product(mask)


def test_every_guide_has_its_geotiff(write_tif):
    path = write_tif(np.array([[12.0, 250.5], [np.nan, 99_999.0]], np.float32), name="heights.tif")
    scene = open_guide("elevation", path)
    assert list(scene.data_vars) == ["elevation"]
    assert scene.attrs["product"] == "ELEVATION_GEOTIFF"
    assert scene["elevation"].attrs["units"] == "m"
    np.testing.assert_array_equal(guide_layer(scene, "elevation"), [[12, 250.5], [np.nan, np.nan]])
    with pytest.raises(ProductError, match=r"raw integers instead of the share of water.*percent"):
        open_guide("water", path)
    with pytest.raises(ProductError, match="holds no NDVI; found ELEVATION_GEOTIFF"):
        guide_layer(scene, "ndvi")


@pytest.fixture
def requests_seen():
    """A web server on this machine: its port and the paths that it was asked for."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append(self.path)
            self.send_error(404)

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1], seen
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["lst.tif", "lst.vrt", "lst.hdf", "lst.nc", "lst.xml"])
def test_lists_of_addresses_and_files_are_refused_unasked(tmp_path, requests_seen, name):
    port, seen = requests_seen
    address = f"http://127.0.0.1:{port}/"
    other = write_lst(tmp_path / "other.tif", seed=0)
    for source in (f"/vsicurl/{address}lst.tif", str(other)):
        (tmp_path / name).write_text(
            '<VRTDataset rasterXSize="4" rasterYSize="4"><SRS>EPSG:32633</SRS>'
            "<GeoTransform>500000, 1000, 0, 5000000, 0, -1000</GeoTransform>"
            '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
            f"<SourceFilename>{source}</SourceFilename></SimpleSource></VRTRasterBand></VRTDataset>"
        )
        for read in (open_product, Grid.of):
            with pytest.raises(LstsrError, match=r"VRT|not an HDF4 file|cannot be read") as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
    (tmp_path / name).write_text(
        f'<GDAL_WMS><Service name="TMS"><ServerUrl>{address}${{z}}</ServerUrl></Service></GDAL_WMS>'
    )
    with pytest.raises(ProductError):
        open_product(tmp_path / name)
    for path in (f"/vsicurl/{address}lst.tif", f"{address}lst.tif", "s3://bucket/lst.tif"):
        with pytest.raises(ProductError, match="remote addresses are not read"):
            open_product(path)
    assert seen == []


def test_files_beside_a_raster_are_not_read(tmp_path):
    path = write_lst(tmp_path / "lst.tif", seed=0)
    expected = open_product(path)
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset><PAMRasterBand band='1'><Scale>0.01</Scale></PAMRasterBand></PAMDataset>"
    )
    Path(f"{path}.msk").write_bytes(path.read_bytes())
    found = open_product(path)
    np.testing.assert_array_equal(found.lst_kelvin.values, expected.lst_kelvin.values)


def test_a_sparse_raster_is_refused_before_its_pixels_are_made(tmp_path):
    path = tmp_path / "LST_2021_08_15.tif"
    sparse(path, path, np.random.default_rng(0))
    assert path.stat().st_size < 1e6
    tracemalloc.start()
    with pytest.raises(ProductError, match="the raster is too large"):
        open_product(path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


@pytest.mark.parametrize("way", ["storage", "link", "virtual"])
def test_netcdf_whose_pixels_lie_in_another_file(tmp_path, way):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "other.bin").write_bytes(np.full(16, 300.0, np.float32).tobytes())
    with h5py.File(tmp_path / "other.nc", "w") as file:
        file["lst"] = np.full((4, 4), 300.0, np.float32)
    path = tmp_path / "lst.nc"
    with h5py.File(path, "w") as file:
        if way == "storage":
            external = [(str(tmp_path / "other.bin"), 0, 64)]
            file.create_dataset("lst", (4, 4), "f4", external=external)
        elif way == "link":
            file["lst"] = h5py.ExternalLink(str(tmp_path / "other.nc"), "lst")
        else:
            layout = h5py.VirtualLayout((4, 4), "f4")
            layout[:] = h5py.VirtualSource(str(tmp_path / "other.nc"), "lst", (4, 4))
            file.create_virtual_dataset("lst", layout)
    with pytest.raises(ProductError, match="another file") as caught:
        open_product(path, quantity="lst")
    assert str(path) in str(caught.value)
