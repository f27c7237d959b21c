"""MOD11A1: values, masks and counts, against brute force on synthetic and real granules."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import xarray as xr

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.products import (
    HDF_PRODUCTS,
    POLICIES,
    REASONS,
    guide_layer,
    lst_layers,
    mod11a1,
    open_product,
    rejection_reason,
)
from keras_lstsr.products.hdfeos import HdfEosFile


def reason_of(stored: int, qc: int, policy: str) -> str:
    """Why one pixel is rejected, from the user guide in words."""
    mandatory, lst_error = qc & 3, qc >> 6
    if mandatory == 2:
        return "cloud"
    if mandatory == 3:
        return "not_produced"
    if stored == 0:
        return "fill"
    if stored < 7500 or stored > 20000:  # 150 K, 400 K
        return "out_of_range"
    good = mandatory == 0 or policy == "lenient" or (policy == "default" and lst_error <= 1)
    return "valid" if good else "quality"


def every_case() -> tuple[np.ndarray, np.ndarray]:
    """All QC numbers with fill, and LST below, at and above the ends of the range."""
    lst = np.array([0, 1, 7499, 7500, 14912, 20000, 20001, 65535], np.uint16)
    qc = np.arange(256, dtype=np.uint8)
    return tuple(grid.copy() for grid in np.meshgrid(lst, qc, indexing="xy"))


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("half_day", ["Day", "Night"])
def test_every_qc_number_with_every_kind_of_lst(write_mod11a1, policy, half_day):
    lst, qc = every_case()
    path = write_mod11a1({f"LST_{half_day}_1km": lst, f"QC_{half_day}": qc})
    scene = open_product(path, qc_policy=policy)
    layer = lst_layers(scene)[half_day.lower()]
    expected = [
        [reason_of(stored, number, policy) for stored, number in zip(*rows, strict=True)]
        for rows in zip(lst.tolist(), qc.tolist(), strict=True)
    ]
    codes = rejection_reason(scene, str(layer.name)).values
    assert [[REASONS[int(code)] for code in row] for row in codes] == expected
    counts = json.loads(layer.attrs["rejected_pixels"])
    flat = [reason for row in expected for reason in row]
    assert counts == {reason: flat.count(reason) for reason in counts}
    assert sum(counts.values()) + flat.count("valid") == lst.size
    valid = np.array(expected) == "valid"
    np.testing.assert_array_equal(np.isfinite(layer.values), valid)
    kelvin = (lst.astype(np.float64) * 0.02).astype(np.float32)
    np.testing.assert_array_equal(layer.values[valid], kelvin[valid])


@pytest.mark.real_data
@pytest.mark.parametrize("policy", POLICIES)
def test_counts_of_every_real_granule_equal_brute_force(lstsr_data, policy):
    from pyhdf.SD import SD

    paths = sorted((lstsr_data / "modis").glob("M?D11A1.*.hdf"))
    assert len(paths) >= 2
    for path in paths:
        scene = open_product(path, qc_policy=policy)
        raw = SD(str(path))
        for half_day in ("Day", "Night"):
            lst = raw.select(f"LST_{half_day}_1km")[:]
            qc = raw.select(f"QC_{half_day}")[:]
            # Brute force over the pairs that occur: one Python decision for each.
            pairs, pixels = np.unique(lst.astype(np.int64) * 256 + qc, return_counts=True)
            counts: dict[str, int] = {}
            for pair, count in zip(pairs.tolist(), pixels.tolist(), strict=True):
                reason = reason_of(*divmod(pair, 256), policy)
                counts[reason] = counts.get(reason, 0) + count
            layer = lst_layers(scene)[half_day.lower()]
            assert int(layer.notnull().sum()) == counts.pop("valid", 0), path.name
            assert json.loads(layer.attrs["rejected_pixels"]) == counts, path.name
        raw.end()


@pytest.mark.real_data
def test_metadata_of_real_granules(lstsr_data):
    found = {}
    for path in sorted((lstsr_data / "modis").glob("MOD11A1.*.hdf")):
        attributes = open_product(path, variables=["qc_day"]).attrs
        assert attributes["granule_id"] == path.name
        assert attributes["source_file"] == str(path)
        keys = ("product", "version", "acquisition_date", "tile", "platform", "qc_policy")
        found[path.name[8:16]] = tuple(attributes[key] for key in keys)
    assert found == {
        "A2019305": ("MOD11A1", "006", "2019-11-01", "h14v09", "Terra", "default"),
        "A2021227": ("MOD11A1", "061", "2021-08-15", "h11v05", "Terra", "default"),
    }


@pytest.mark.real_data
def test_field_table_equals_the_v061_file(lstsr_data):
    (path,) = (lstsr_data / "modis").glob("MOD11A1.*.061.*.hdf")
    with HdfEosFile(path) as file:
        assert file.grids[0].name == HDF_PRODUCTS["MOD11A1"].grid_name
        assert file.grids[0].fields == tuple(entry.name for entry in mod11a1.FIELDS)
        for entry in mod11a1.FIELDS:
            stored, attributes = file.read(entry.name)
            expected = {name: value for name, _, value in entry.attributes}
            expected["valid_range"] = list(expected["valid_range"])
            assert stored.dtype.name == entry.dtype
            assert attributes == expected
            assert list(attributes) == list(expected)


@pytest.mark.real_data
def test_reading_takes_less_than_a_second(lstsr_data):
    (path,) = (lstsr_data / "modis").glob("MOD11A1.*h14v09*.hdf")
    start = time.process_time()
    open_product(path)
    assert time.process_time() - start < 1.0


def test_opening_imports_no_learning_framework(write_mod11a1):
    path = write_mod11a1({"LST_Day_1km": np.full((4, 4), 15000, np.uint16)})
    code = (
        "import sys; from keras_lstsr.products import open_product; "
        f"open_product({str(path)!r}); "
        "print([m for m in ('tensorflow', 'keras', 'mlflow', 'apache_beam') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def valid(shape=(4, 6), lst=15000, **arrays):
    return {"LST_Day_1km": np.full(shape, lst, np.uint16), **arrays}


def test_other_fields_in_physical_units(write_mod11a1):
    row = np.array([[0, 100, 120, 255]], np.uint8)
    path = write_mod11a1(
        valid((1, 4), Day_view_time=row, Day_view_angl=row, Emis_31=row, Emis_32=row)
    )
    scene = open_product(path)
    np.testing.assert_allclose(scene.view_time_day_hours[0], [0, 10, 12, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scene.view_angle_day_degrees[0], [-65, 35, 55, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scene.emissivity_31[0], [np.nan, 0.69, 0.73, 1.0], rtol=1e-6)
    assert scene.view_time_night_hours.isnull().all()
    assert scene.qc_day.dtype == np.uint8
    units = [scene[name].attrs["units"] for name in ("view_time_day_hours", "emissivity_31")]
    assert units == ["hour", "1"]


def test_all_layers_are_float32_with_the_encoding_on_disk(write_mod11a1):
    scene = open_product(write_mod11a1(valid()))
    for name, layer in scene.data_vars.items():
        assert layer.dtype == (np.uint8 if "qc" in name or "rejection" in name else np.float32)
    encoding = scene.lst_day_kelvin.encoding
    assert {
        key: encoding[key] for key in ("dtype", "scale_factor", "add_offset", "_FillValue")
    } == {
        "dtype": "uint16",
        "scale_factor": 0.02,
        "add_offset": 0.0,
        "_FillValue": 0,
    }


def test_stored_integers_survive_a_netcdf_file(write_mod11a1, tmp_path):
    lst = np.arange(7500, 7500 + 600, dtype=np.uint16).reshape(20, 30)
    lst[0, :3] = 0
    path = write_mod11a1({"LST_Day_1km": lst})
    # netCDF 3, which needs no further library, has no unsigned bytes for the other variables.
    scene = open_product(path, variables=["lst_day_kelvin"])
    scene.to_netcdf(tmp_path / "scene.nc", engine="scipy")
    with xr.open_dataset(tmp_path / "scene.nc", mask_and_scale=False) as stored:
        np.testing.assert_array_equal(stored.lst_day_kelvin.values, lst)
    with xr.open_dataset(tmp_path / "scene.nc", decode_coords="all") as again:
        assert again.rio.crs.to_dict()["proj"] == "sinu"
        assert json.loads(again.lst_day_kelvin.attrs["rejected_pixels"]) == {"fill": 3}


def test_all_stored_integers_come_back_by_the_cf_conventions(write_mod11a1):
    generator = np.random.default_rng(2)
    stored = {
        entry.name: generator.integers(*entry.get("valid_range"), (9, 9), endpoint=True)
        for entry in mod11a1.FIELDS
        if entry.variable
    }
    arrays = {
        entry.name: stored[entry.name].astype(entry.dtype)
        for entry in mod11a1.FIELDS
        if entry.variable
    }
    scene = open_product(write_mod11a1(arrays), qc_policy="lenient")
    encoded, _ = xr.conventions.cf_encoder(dict(scene.variables), scene.attrs)
    for entry in mod11a1.FIELDS:
        if not entry.variable:
            continue
        expected = arrays[entry.name]
        if "lst" in entry.variable:
            codes = rejection_reason(scene, entry.variable).values
            expected = np.where(codes == 0, expected, 0)
        assert encoded[entry.variable].dtype == entry.dtype
        np.testing.assert_array_equal(encoded[entry.variable].values, expected)


def test_attributes_are_json_able(write_mod11a1):
    scene = open_product(write_mod11a1(valid()))
    json.dumps(scene.attrs)
    for layer in scene.data_vars.values():
        json.dumps(layer.attrs)


def test_subset_without_core_metadata(write_mod11a1):
    """Name and place tell what subsetting tools drop."""
    path = write_mod11a1(
        valid(),
        name="MYD11A1.A2020060.h18v04.006.2020061120000_subset.hdf",
        with_core=False,
        row=37,
        column=1100,
    )
    attributes = open_product(path).attrs
    assert attributes["product"] == "MYD11A1"
    assert attributes["platform"] == "Aqua"
    assert attributes["acquisition_date"] == "2020-02-29"
    assert attributes["version"] == "006"
    assert attributes["tile"] == "h18v04"


@pytest.mark.parametrize("half", ["Day", "Night"])
def test_a_subset_of_layers_is_read_as_far_as_it_goes(write_mod11a1, half):
    every = valid()
    whole = open_product(write_mod11a1(every))
    path = write_mod11a1(every, name="subset.hdf", only=(f"LST_{half}_1km", f"QC_{half}"))
    scene = open_product(path)
    own = half.lower()
    assert set(scene.data_vars) == {
        f"lst_{own}_kelvin",
        f"lst_{own}_kelvin_rejection",
        f"qc_{own}",
    }
    for name in scene.data_vars:
        np.testing.assert_array_equal(scene[name], whole[name])
    with pytest.raises(ProductError, match="no grid of this file has the field"):
        open_product(path, variables=[f"view_time_{own}_hours"])


def test_renamed_subset_is_recognised_by_its_fields(write_mod11a1):
    path = write_mod11a1(valid(), name="renamed.hdf", with_core=False, tile="h20v11")
    attributes = open_product(path).attrs
    assert attributes["product"] == "MOD11A1"
    assert attributes["tile"] == "h20v11"
    assert attributes["acquisition_date"] == "" and attributes["granule_id"] == ""
    assert open_product(path, date="2021-08-15").attrs["acquisition_date"] == "2021-08-15"


def test_file_without_hdf_suffix_is_recognised_by_its_content(write_mod11a1):
    path = write_mod11a1(valid(), name="granule.dat")
    assert open_product(path).attrs["product"] == "MOD11A1"


@pytest.mark.parametrize("fill", ["NA ", "NA\0", None, 255])
def test_fill_value_of_qc_may_be_text(write_mod11a1, fill):
    path = write_mod11a1(
        valid(),
        overrides={"QC_Day": {"_FillValue": fill if isinstance(fill, str) else None}},
    )
    assert open_product(path).lst_day_kelvin.notnull().all()


def test_fill_value_of_lst_as_text_leaves_the_product_s_own(write_mod11a1):
    lst = np.array([[0, 15000]], np.uint16)
    path = write_mod11a1({"LST_Day_1km": lst}, overrides={"LST_Day_1km": {"_FillValue": None}})
    scene = open_product(path)
    assert json.loads(scene.lst_day_kelvin.attrs["rejected_pixels"]) == {"fill": 1}


def test_all_cloud_granule_opens_with_nothing_valid(write_mod11a1):
    shape = (6, 5)
    arrays = {"LST_Day_1km": np.zeros(shape, np.uint16), "QC_Day": np.full(shape, 2, np.uint8)}
    scene = open_product(write_mod11a1(arrays))
    assert int(scene.lst_day_kelvin.notnull().sum()) == 0
    assert json.loads(scene.lst_day_kelvin.attrs["rejected_pixels"]) == {"cloud": 30}


def test_only_the_wanted_variables(write_mod11a1):
    path = write_mod11a1(valid())
    scene = open_product(path, variables=["lst_night_kelvin"])
    assert set(scene.data_vars) == {"lst_night_kelvin", "lst_night_kelvin_rejection"}
    with pytest.raises(ConfigError, match=r"no such variable.*ndvi"):
        open_product(path, variables=["ndvi"])


def test_field_of_another_type(write_mod11a1):
    path = write_mod11a1({"LST_Day_1km": np.full((4, 4), 300.0, np.float32)})
    with pytest.raises(ProductError, match=r"another type.*float32.*uint16"):
        open_product(path)


def test_lst_layers_and_missing_ndvi(write_mod11a1):
    scene = open_product(write_mod11a1(valid()))
    layers = lst_layers(scene)
    assert [layers["day"].name, layers["night"].name] == ["lst_day_kelvin", "lst_night_kelvin"]
    assert layers["day"].attrs["day_night"] == "day" and layers["day"].attrs["units"] == "K"
    with pytest.raises(ProductError, match="holds no NDVI"):
        guide_layer(scene, "ndvi")
    with pytest.raises(ProductError, match="no rejection reasons"):
        rejection_reason(scene, "qc_day")


@pytest.mark.parametrize("option", [{"scale": 0.02}, {"unit": "celsius"}, {"quantity": "lst"}])
def test_raster_options_are_refused(write_mod11a1, option):
    with pytest.raises(ConfigError, match="for GeoTIFF"):
        open_product(write_mod11a1(valid()), **option)


def test_wrong_product_says_which(write_mod11a1):
    path = write_mod11a1(valid(), name="file.hdf", product="MOD13A2")
    with pytest.raises(ProductError, match="found MOD13A2; expected MOD11A1, MYD11A1, MOD09GQ"):
        open_product(path)


def test_other_product_than_asked_for(write_mod11a1):
    with pytest.raises(
        ProductError, match="not the one asked for; found MOD11A1; expected MOD09GQ"
    ):
        open_product(write_mod11a1(valid()), product="MOD09GQ")
    with pytest.raises(ConfigError, match="unknown product"):
        open_product(write_mod11a1(valid()), product="MOD11")


@pytest.mark.real_data
@pytest.mark.parametrize("product", ["MOD13A2", "MOD09A1", "MOD09GA"])
def test_wrong_real_products(lstsr_data, product):
    paths = sorted((lstsr_data / "modis").glob(f"{product}.*.hdf"))
    assert paths
    for path in paths:
        with pytest.raises(ProductError, match=f"found {product}; expected MOD11A1"):
            open_product(path)
