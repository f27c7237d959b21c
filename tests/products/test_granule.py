"""Dates, tiles and times of day from names and core metadata."""

from __future__ import annotations

import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.products import granule


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("MOD11A1.A2021227.h11v05.061.2021228105320.hdf", "2021-08-15"),
        ("MOD11A1.A2020366.h11v05.061.2021228105320.hdf", "2020-12-31"),  # leap year
        ("LST2006_02_18.LST_Day_1km.tif", "2006-02-18"),
        ("ECO_L2_LSTE.002_LST_doy2023184152551_aid0001.tif", "2023-07-03"),
        ("ECOv002_L2T_LSTE_28157_004_11SLT_20230624T112358_0711_01_LST.tif", "2023-06-24"),
        ("AST_08_00308152021183000_20210816120000_1234.tif", "2021-08-15"),
        ("lst-2019-11-01.tif", "2019-11-01"),
        ("lst_20191101.tif", "2019-11-01"),
        ("lst_20191301.tif", ""),  # no thirteenth month
        ("MOD11A1_LST_Day_1km_2019_200.tif", "2019-07-19"),  # MODIStsp
        ("LST_2019200.tif", "2019-07-19"),
        ("ndvi_A2019200_h18v04.tif", "2019-07-19"),
        ("lst_2019_367.tif", ""),
        ("MOD11A1.A2021366.h11v05.tif", ""),  # no 366th day
        ("000_lst_1km.tif", ""),
        ("orbit_2021228105320.tif", ""),  # thirteen digits are a production time
    ],
)
def test_date_from_name(name, date):
    assert granule.date_from_name(name) == date


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("AST_08_00308152021183000_20210816120000_1234.tif", "2021-08-15T18:30"),
        ("ECO_L2_LSTE.002_LST_doy2023175112358_aid0001.tif", "2023-06-24T11:23"),
        ("ECOv002_L2T_LSTE_25460_004_11SLT_20221229T212113_0712_01_LST.tif", "2022-12-29T21:21"),
        ("lst_20191101T0930.tif", "2019-11-01T09:30"),
        ("2023175112358_night_lst_77m.tif", "2023-06-24T11:23"),
        ("lst_20191101T9930.tif", None),  # no such hour
        ("lst_20191101.tif", None),
        ("LC08_L2SP_196024_20220308_20220314_02_T1_ST_B10.TIF", None),
        ("MOD11A1.A2019305.h14v09.006.2019306084028.hdf", None),  # the production time
    ],
)
def test_utc_from_name(name, expected):
    found = granule.utc_from_name(name)
    assert (found and found.isoformat()[:16]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("LST2006_02_18.LST_Day_1km", "day"),
        ("LST2006_02_18.LST_Night_1km", "night"),
        ("LST_2006_02_18_Day", "day"),
        ("2006-02-16-Day", "day"),
        ("MODIS daytime land surface temperature", "day"),
        ("NIGHT", "night"),
        ("8-day composite, nighttime", "night"),
        ("8-day composite", "unknown"),
        ("MODIS_Grid_16DAY_1km_VI", "unknown"),
        ("day and night", "unknown"),
        ("Monday", "unknown"),
        ("Both", "unknown"),
        ("", "unknown"),
    ],
)
def test_day_night_from_text(text, expected):
    assert granule.day_night_from_text(text) == expected


def test_tile_from_name():
    assert granule.tile_from_name("MOD11A1.A2021227.h11v05.061.tif") == "h11v05"
    assert granule.tile_from_name("path11v05.tif") == ""


def test_own_date_pattern_with_named_groups():
    pattern = granule.compile_date_pattern(r"(?P<day>\d\d)\.(?P<month>\d\d)\.(?P<year>\d{4})")
    assert granule.date_from_name("scene 15.08.2021.tif", [pattern]) == "2021-08-15"


@pytest.mark.parametrize("pattern", [r"(\d{4})", r"(?P<year>\d{4})(?P<month>\d\d)"])
def test_pattern_without_the_groups_is_refused(pattern):
    with pytest.raises(ConfigError, match="lacks a named group"):
        granule.compile_date_pattern(pattern)


def test_pattern_that_does_not_compile_is_refused():
    with pytest.raises(ConfigError, match="not a regular expression"):
        granule.compile_date_pattern("(?P<year>")


def test_date_and_day_night_options_are_checked():
    assert granule.check_date("2021-08-15") == "2021-08-15"
    with pytest.raises(ConfigError, match="not a date"):
        granule.check_date("15.08.2021")
    with pytest.raises(ConfigError, match="day, night, unknown"):
        granule.check_day_night("noon")


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (("MOD11A1", "Terra", "MOD11A1.A2019305.h14v09.006.2019306084028.hdf"), "MODIS"),
        (("ASTER_LST", "Terra", "000_aster_lst_232m.tif"), "ASTER"),
        (("LST_GEOTIFF", "", "AST_08_00307132001101853.tif"), "ASTER"),
        (("LST_GEOTIFF", "", "ECO_L2_LSTE.002_LST_doy2023175112358_aid0001.tif"), "ECOSTRESS"),
        (("LST_GEOTIFF", "", "ECOv002_L2T_LSTE_1_LST.tif"), "ECOSTRESS"),
        (("LST_GEOTIFF", "Landsat 8", "lst.tif"), "Landsat"),
        (("LST_GEOTIFF", "", "VNP21A1D.A2020001.h18v04.tif"), "VIIRS"),
        (("LST_GEOTIFF", "", "20220308_day_lst_77m.tif"), ""),
        (("LST_GEOTIFF", "", "plaster_decomposed.tif"), ""),
    ],
)
def test_sensor_by_product_platform_or_name(texts, expected):
    assert granule.sensor_from_texts(*texts) == expected
    assert (
        granule.sensor_of(dict(zip(("product", "platform", "granule_id"), texts, strict=True)))
        == expected
    )
