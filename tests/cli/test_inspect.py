"""``keras-lstsr inspect``: what it prints, and how it fails."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from keras_lstsr.cli.inspect import command
from keras_lstsr.products import mod09gq, mod11a1, open_product
from keras_lstsr.products.summary import summarise
from keras_lstsr.testing.rasters import utm_grid, write_geotiff

_path = Path(__file__).resolve().parent.parent / "products" / "conftest.py"
_spec = importlib.util.spec_from_file_location("hdfeos_files", _path)
hdfeos_files = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(hdfeos_files)

NAME = "MOD11A1.A2021227.h18v04.061.2021228105320.hdf"


def run(*arguments) -> str:
    done = CliRunner().invoke(
        command, [str(argument) for argument in arguments], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.output


def words(text: str) -> list[str]:
    return text.split()


def rows(output: str) -> list[list[str]]:
    return [words(line) for line in output.splitlines()]


@pytest.fixture
def granule(tmp_path):
    lst = np.array([[15000, 15500, 0, 15100], [15200, 0, 0, 7000]], np.uint16)
    # good; other quality with an error of at most 2 K; cloud; > 3 K / good; sea; cloud; good
    qc = np.array([[0, 0b01000001, 2, 0b11000001], [0, 3, 2, 0]], np.uint8)
    arrays = {"LST_Day_1km": lst, "QC_Day": qc, "QC_Night": np.full(lst.shape, 2, np.uint8)}
    return hdfeos_files.write_product(tmp_path / NAME, mod11a1, arrays, product="MOD11A1")


def test_all_facts_are_printed(granule):
    output = run(granule)
    facts = {line[0]: " ".join(line[1:]) for line in rows(output) if line}
    assert facts["product"] == "MOD11A1"
    assert facts["version"] == "061"
    assert facts["tile"] == "h18v04"
    assert facts["acquisition_date"] == "2021-08-15"
    assert facts["platform"] == "Terra"
    assert facts["crs"] == "MODIS sinusoidal, sphere of 6371007.181 m"
    assert facts["shape"] == "2 rows × 4 columns"
    assert facts["pixel_size_m"].startswith("926.6254")
    assert facts["upper_left_corner_m"] == "x 0.000000, y 5559752.598833"  # 50 degrees north


def test_valid_share_range_and_rejected_pixels(granule):
    table = rows(run(granule))
    # valid: 15000, 15500 and 15200
    assert words("lst_day_kelvin day 3 37.50% 300.00 304.67 310.00 K") in table
    assert words("lst_day_kelvin cloud 2 25.00%") in table
    assert words("lst_day_kelvin not_produced 1 12.50%") in table
    assert words("lst_day_kelvin out_of_range 1 12.50%") in table
    assert words("lst_day_kelvin quality 1 12.50%") in table


def test_qc_table_is_decoded_with_counts(granule):
    output = run(granule)
    table = rows(output[output.index("QC: qc_day") : output.index("QC: qc_night")])
    assert words("0-1 mandatory QA 00 produced, good quality 3") in table
    assert words("0-1 mandatory QA 10 not produced, cloud 2") in table
    assert words("6-7 LST error 11 > 3 K 1") in table


def test_policy_changes_what_is_valid(granule):
    shares = [
        next(line for line in rows(run(granule, "--qc-policy", policy)) if line[1:2] == ["day"])[2]
        for policy in ("strict", "default", "lenient")
    ]
    assert shares == ["2", "3", "4"]


def test_layer_without_a_valid_pixel_is_said_plainly(granule):
    output = run(granule)
    assert "lst_night_kelvin has no valid pixel: 100.0% rejected as cloud." in output
    assert words("lst_night_kelvin night 0 0.00% – – – K") in rows(output)


def test_json_holds_the_same(granule):
    content = json.loads(run(granule, "--json"))
    assert content == json.loads(json.dumps(summarise(open_product(granule))))
    day = next(layer for layer in content["layers"] if layer["name"] == "lst_day_kelvin")
    assert day["valid_pixels"] == 3 and day["valid_share"] == 0.375
    assert day["rejected_pixels"] == {
        "cloud": 2,
        "not_produced": 1,
        "out_of_range": 1,
        "quality": 1,
    }
    assert content["grid"]["corner"] == pytest.approx([0.0, 5559752.598833])


def test_reflectance_granule(tmp_path):
    arrays = {
        "sur_refl_b01_1": np.full((4, 4), 500, np.int16),
        "sur_refl_b02_1": np.full((4, 4), 1500, np.int16),
        "QC_250m_1": np.zeros((4, 4), np.uint16),
    }
    path = tmp_path / NAME.replace("MOD11A1", "MOD09GQ")
    hdfeos_files.write_product(path, mod09gq, arrays, product="MOD09GQ")
    table = rows(run(path))
    assert words("ndvi day 16 100.00% 0.5000 0.5000 0.5000 1") in table
    assert words("4-7 band 1 (red) quality 0000 highest quality 16") in table


@pytest.fixture
def raw_tif(tmp_path):
    stored = np.array([[0, 14000, 14500]], np.uint16)
    path = tmp_path / "LST2006_02_18.LST_Night_1km.tif"
    return write_geotiff(path, stored, utm_grid(stored.shape, 1000.0))


def test_options_of_a_geotiff(raw_tif):
    output = run(raw_tif, "--scale", 0.02, "--nodata", 0)
    assert words("lst_kelvin night 2 66.67% 280.00 285.00 290.00 K") in rows(output)
    assert "EPSG:32633" in output and "2006-02-18" in output
    output = run(
        raw_tif, "--scale", 0.02, "--nodata", 0, "--day-night", "day", "--date", "2007-01-02"
    )
    assert "2007-01-02" in output
    assert words("lst_kelvin day 2 66.67% 280.00 285.00 290.00 K") in rows(output)


def call(*arguments):
    code = "from keras_lstsr.cli.main import main; main()"
    command_line = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command_line, capture_output=True, text=True, check=False)


def test_error_is_printed_without_traceback(raw_tif):
    done = call("inspect", raw_tif)
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: {raw_tif}: the values are raw integers")
    assert "--scale 0.02 --nodata 0" in done.stderr
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_unknown_policy_is_a_usage_error(granule):
    done = CliRunner().invoke(command, [str(granule), "--qc-policy", "best"])
    assert done.exit_code == 2 and "strict" in done.output


@pytest.mark.real_data
def test_every_real_lst_granule(lstsr_data):
    paths = sorted((lstsr_data / "modis").glob("M?D11A1.*.hdf"))
    assert paths
    for path in paths:
        output = run(path)
        scene = open_product(path)
        for half_day in ("day", "night"):
            count = int(np.isfinite(scene[f"lst_{half_day}_kelvin"].values).sum())
            start = [f"lst_{half_day}_kelvin", half_day, str(count)]
            assert any(line[:3] == start for line in rows(output))
