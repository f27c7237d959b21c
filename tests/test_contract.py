from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_lstsr.contract import Contract, check_kelvin
from keras_lstsr.errors import ModelError


@pytest.fixture
def contract():
    return Contract.of_single_image_model(
        model_version=3, scale_factor=4, minimum_size_pixels=4, provenance={"run_name": "r"}
    )


def kelvin(*shape):
    return np.random.default_rng(0).uniform(270, 320, shape).astype(np.float32)


def test_json_round_trip_and_meaning(contract):
    assert Contract.from_json(contract.to_json()) == contract
    content = json.loads(contract.to_json())
    assert content["inputs"][0]["name"] == "lst_kelvin"
    assert content["inputs"][0]["units"] == "kelvin"
    assert content["inputs"][0]["shape"] == [None, None, None, 1]
    assert content["inputs"][0]["valid_range"] == [150.0, 400.0]
    assert content["outputs"][0]["name"] == "lst_kelvin_fine"
    assert content["alignment_pixels"] * content["scale_factor"] == 64


@pytest.mark.parametrize(("factor", "alignment"), [(2, 32), (3, 64), (4, 16), (64, 1)])
def test_alignment_is_a_whole_number_of_the_deepest_strides(factor, alignment):
    made = Contract.of_single_image_model(
        model_version=1, scale_factor=factor, minimum_size_pixels=1, provenance={}
    )
    assert made.alignment_pixels == alignment
    assert made.alignment_pixels * factor % 64 == 0


def test_a_contract_of_another_version_or_damaged_is_refused(contract, tmp_path):
    newer = contract.to_json().replace('"contract_version": 1', '"contract_version": 2')
    with pytest.raises(ModelError, match="contract_version"):
        Contract.from_json(newer)
    with pytest.raises(ModelError, match=r"no readable contract.*keras-lstsr export"):
        Contract.read(tmp_path)
    (tmp_path / "contract.json").write_text("{half")
    with pytest.raises(ModelError, match=r"contract\.json.*invalid"):
        Contract.read(tmp_path)


def test_a_fitting_input_passes_unchanged_as_float32(contract):
    values = kelvin(2, 5, 7, 1)
    values[0, 0, 0, 0] = np.nan
    checked = contract.checked_input(values.astype(np.float64))
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (kelvin(5, 7), r"wrong shape; found \[5, 7\]"),
        (kelvin(1, 5, 7, 2), r"wrong shape; found \[1, 5, 7, 2\]"),
        (kelvin(0, 5, 7, 1), "wrong shape"),
        (kelvin(1, 3, 7, 1), "too small.*3 × 7 pixels.*at least 4 × 4"),
        (kelvin(1, 5, 7, 1).astype(np.int16), "no floating-point numbers; found int16"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(contract, values, message):
    with pytest.raises(ModelError, match=f"lst_kelvin: .*{message}"):
        contract.checked_input(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (kelvin(6, 6) - 273.15, "median .*degrees Celsius.*273.15"),
        (kelvin(6, 6) / 0.02, "MODIS's integers: multiply by 0.02"),
        (np.where(np.eye(6) > 0, 0, kelvin(6, 6)), "6 of 36 values.*fill values.*NaN"),
        (np.where(np.eye(6) > 0, np.inf, kelvin(6, 6)), "6 of 36 values"),
        (kelvin(6, 6) * 10, "scale, offset and unit"),
    ],
)
def test_values_that_are_no_kelvin_are_refused_and_named(values, message):
    with pytest.raises(ModelError, match=message):
        check_kelvin(values)


def test_nan_and_the_ends_of_the_range_are_kelvin():
    check_kelvin(np.array([np.nan, 150.0, 400.0]))
    check_kelvin(np.full(3, np.nan))


def test_reading_a_contract_loads_no_tensorflow():
    code = "import keras_lstsr.contract, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
