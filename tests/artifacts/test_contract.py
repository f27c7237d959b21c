from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from keras_lstsr.artifacts.contract import LST_INPUT, Contract, check_range
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ModelError
from keras_lstsr.testing.rasters import lst_values


@pytest.fixture
def contract():
    return Contract.of_model(
        model_version=3, scale_factor=4, minimum_size_pixels=4, provenance={"run_name": "r"}
    )


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
    made = Contract.of_model(
        model_version=1, scale_factor=factor, minimum_size_pixels=1, provenance={}
    )
    assert made.alignment_pixels == alignment
    assert made.alignment_pixels * factor % 64 == 0


def test_a_contract_of_another_version_or_damaged_is_refused(contract, tmp_path):
    newer = contract.to_json().replace('"contract_version": 1', '"contract_version": 3')
    with pytest.raises(ModelError, match="contract_version"):
        Contract.from_json(newer)
    with pytest.raises(ModelError, match=r"no readable contract.*keras-lstsr export"):
        Contract.read(tmp_path)
    (tmp_path / "contract.json").write_text("{half")
    with pytest.raises(ModelError, match=r"contract\.json.*damaged"):
        Contract.read(tmp_path)


def test_a_fitting_input_passes_unchanged_as_float32(contract):
    values = lst_values(2, 5, 7, 1)
    values[0, 0, 0, 0] = np.nan
    checked = contract.checked(values.astype(np.float64))["lst_kelvin"]
    assert checked.dtype == np.float32
    np.testing.assert_array_equal(checked, values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lst_values(5, 7), r"wrong shape; found \[5, 7\]"),
        (lst_values(1, 5, 7, 2), r"wrong shape; found \[1, 5, 7, 2\]"),
        (lst_values(0, 5, 7, 1), "wrong shape"),
        (lst_values(1, 3, 7, 1), "too small.*3 × 7 pixels.*at least 4 × 4"),
        (lst_values(1, 5, 7, 1).astype(np.int16), "not hold floating-point numbers; found int16"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(contract, values, message):
    with pytest.raises(ModelError, match=f"lst_kelvin: .*{message}"):
        contract.checked(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (lst_values(6, 6) - 273.15, "median .*degrees Celsius.*273.15"),
        (lst_values(6, 6) / 0.02, r"multiply by 0\.02, or give --scale 0\.02: that gives"),
        (np.where(np.eye(6) > 0, 0, lst_values(6, 6)), "6 of 36 values.*fill values.*NaN"),
        (np.where(np.eye(6) > 0, np.inf, lst_values(6, 6)), "6 of 36 values"),
        (lst_values(6, 6) * 10, r"multiply by 0\.1, .*degrees Celsius.*multiply by 0\.01"),
        (lst_values(6, 6) * 1e4, "scale, offset and unit"),
        (np.zeros((6, 6)), "All of them are 0"),
    ],
)
def test_values_that_are_no_kelvin_are_refused_and_named(values, message):
    with pytest.raises(ModelError, match=message):
        check_range(values, LST_INPUT)


def test_nan_and_the_ends_of_the_range_are_kelvin():
    check_range(np.array([np.nan, 150.0, 400.0]), LST_INPUT)
    check_range(np.full(3, np.nan), LST_INPUT)


def test_reading_a_contract_loads_no_tensorflow():
    code = "import keras_lstsr.artifacts.contract, sys; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.fixture
def guided_contract():
    return Contract.of_model(
        model_version=1,
        scale_factor=4,
        minimum_size_pixels=1,
        margin_pixels=13,
        guides=["ndvi"],
        outputs=["lst_kelvin_fine", "lst_std_kelvin", "guide_followed"],
        provenance={"run_name": "g"},
    )


def test_a_guided_contract_says_what_its_tensors_mean(guided_contract):
    assert Contract.from_json(guided_contract.to_json()) == guided_contract
    content = json.loads(guided_contract.to_json())
    assert content["contract_version"] == 2
    lst, ndvi = content["inputs"]
    assert (lst["name"], lst["units"], lst["optional"]) == ("lst_kelvin", "kelvin", False)
    assert (ndvi["name"], ndvi["units"], ndvi["optional"]) == ("ndvi", "1", True)
    assert ndvi["valid_range"] == [-1.0, 1.0]
    assert ndvi["shape"] == [None, None, None, 1]
    assert "NaN" in ndvi["missing"]
    outputs = [(tensor["name"], tensor["units"]) for tensor in content["outputs"]]
    assert outputs == [
        ("lst_kelvin_fine", "kelvin"), ("lst_std_kelvin", "kelvin"), ("guide_followed", "1"),
    ]  # fmt: skip
    assert content["alignment_pixels"] * content["scale_factor"] == 8
    assert list(guided_contract.guides) == ["ndvi"]
    assert guided_contract.gives("lst_std_kelvin")
    assert not guided_contract.gives("ndvi")


# As written by the first releases.
CONTRACT_OF_VERSION_1 = """{
  "contract_version": 1, "model_version": 3, "signature": "serving_default",
  "inputs": [{"name": "lst_kelvin", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "row", "column", "channel"], "units": "kelvin",
    "missing": "NaN; a missing pixel gives missing fine pixels", "valid_range": [150.0, 400.0]}],
  "outputs": [{"name": "lst_kelvin_fine", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "row", "column", "channel"], "units": "kelvin",
    "missing": "NaN where the input pixel is missing", "valid_range": null}],
  "scale_factor": 4, "minimum_size_pixels": 4, "alignment_pixels": 16,
  "provenance": {"run_name": "r"}
}"""


def test_a_contract_of_version_1_is_read_as_a_model_of_one_image(contract):
    old = Contract.from_json(CONTRACT_OF_VERSION_1)
    assert old == contract
    assert contract.contract_version == 1
    assert old.guides == {}
    assert not old.gives("lst_std_kelvin")
    assert old.margin_pixels == 0


# As written before models told how far they follow their guide.
CONTRACT_OF_VERSION_2 = """{
  "contract_version": 2, "model_version": 1, "signature": "serving_default",
  "inputs": [{"name": "lst_kelvin", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "row", "column", "channel"], "units": "kelvin",
    "missing": "NaN; a missing pixel gives missing fine pixels", "valid_range": [150.0, 400.0],
    "optional": false},
   {"name": "ndvi", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "fine_row", "fine_column", "channel"], "units": "1",
    "missing": "NaN; without NDVI the result is about bicubic there. NaN throughout means that \
there is no NDVI", "valid_range": [-1.0, 1.0], "optional": true}],
  "outputs": [{"name": "lst_kelvin_fine", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "fine_row", "fine_column", "channel"], "units": "kelvin",
    "missing": "NaN where the pixel of lst_kelvin is missing", "valid_range": null,
    "optional": false},
   {"name": "lst_std_kelvin", "dtype": "float32", "shape": [null, null, null, 1],
    "dimensions": ["batch", "fine_row", "fine_column", "channel"], "units": "kelvin",
    "missing": "NaN where the pixel of lst_kelvin is missing", "valid_range": null,
    "optional": false}],
  "scale_factor": 4, "minimum_size_pixels": 1, "alignment_pixels": 2, "margin_pixels": 13,
  "provenance": {"run_name": "g"}
}"""


def test_a_contract_of_version_2_is_read_as_a_guided_model(guided_contract):
    old = Contract.from_json(CONTRACT_OF_VERSION_2)
    assert old.inputs == guided_contract.inputs
    assert old.outputs == guided_contract.outputs[:2]
    assert not old.gives("guide_followed")
    assert old.margin_pixels == 13


def test_a_fitting_guide_passes_and_none_stands_for_missing_throughout(guided_contract):
    values = np.random.default_rng(0).uniform(-1, 1, (2, 20, 28, 1))
    values[0, 0, 0, 0] = np.nan
    lst = lst_values(2, 5, 7, 1)
    checked = guided_contract.checked(lst, {"ndvi": values})
    assert list(checked) == ["lst_kelvin", "ndvi"]
    assert checked["ndvi"].dtype == np.float32
    np.testing.assert_allclose(checked["ndvi"], values, rtol=1e-6)
    np.testing.assert_array_equal(checked["lst_kelvin"], lst)
    none = guided_contract.checked(lst)["ndvi"]
    assert none.shape == (2, 20, 28, 1)
    assert np.isnan(none).all()


@pytest.mark.parametrize(
    ("guide", "message"),
    [
        (np.zeros((1, 5, 7, 1)), r"fine grid of its LST; found \[1, 5, 7, 1\]; expected \[1, 20"),
        (np.zeros((20, 28)), "fine grid"),
        (
            np.zeros((1, 20, 28, 1), np.int16),
            "not hold floating-point numbers; found int16.*0.0001",
        ),
        (np.full((1, 20, 28, 1), 4500.0), "cannot be NDVI; found 560 of 560.*0.0001"),
        (np.full((1, 20, 28, 1), -1.5), "cannot be NDVI"),
    ],
)
def test_a_guide_that_does_not_fit_is_refused_by_name(guided_contract, guide, message):
    with pytest.raises(ModelError, match=f"ndvi: .*{message}"):
        guided_contract.checked(lst_values(1, 5, 7, 1), {"ndvi": guide})


def test_a_model_of_one_image_takes_no_guide(contract):
    assert list(contract.checked(lst_values(1, 5, 7, 1))) == ["lst_kelvin"]
    with pytest.raises(ModelError, match="ndvi: this model takes no guide; found inputs"):
        contract.checked(lst_values(1, 5, 7, 1), {"ndvi": np.zeros((1, 20, 28, 1))})


def test_a_guide_of_another_name_is_refused(guided_contract):
    with pytest.raises(ModelError, match=r"water: this model takes no such guide; found .*ndvi"):
        guided_contract.checked(lst_values(1, 5, 7, 1), {"water": np.zeros((1, 20, 28, 1))})


def test_a_guide_that_the_model_needs_cannot_be_left_out(guided_contract):
    lst, ndvi = guided_contract.inputs
    needed = ndvi.model_copy(update={"optional": False})
    demanding = guided_contract.model_copy(update={"inputs": (lst, needed)})
    with pytest.raises(ModelError, match="ndvi: this model needs the guide"):
        demanding.checked(lst_values(1, 5, 7, 1))


@pytest.mark.parametrize("name", list(GUIDES))
def test_every_guide_is_checked_by_its_own_range_and_unit(name):
    guide = GUIDES[name]
    contract = Contract.of_model(
        model_version=1, scale_factor=2, minimum_size_pixels=1, guides=[name], provenance={}
    )
    assert contract.guides[name].units == guide.units
    lst, (low, high) = lst_values(1, 2, 2, 1), guide.valid_range
    for end in (low, high, np.nan):
        contract.checked(lst, {name: np.full((1, 4, 4, 1), end)})
    for beyond in (low - 1, high + 1):
        with pytest.raises(ModelError, match=f"{name}: .* {guide.long_name}; found 16 of 16"):
            contract.checked(lst, {name: np.full((1, 4, 4, 1), beyond)})


def test_a_guide_that_this_version_does_not_know_is_checked_by_the_contract(guided_contract):
    text = guided_contract.to_json().replace('"ndvi"', '"haze"')
    contract = Contract.from_json(text)
    fine = np.full((1, 20, 28, 1), 0.5)
    assert list(contract.checked(lst_values(1, 5, 7, 1), {"haze": fine})) == ["lst_kelvin", "haze"]
    with pytest.raises(ModelError, match=r"haze: these values cannot be haze.*-1 to 1"):
        contract.checked(lst_values(1, 5, 7, 1), {"haze": fine + 1})
