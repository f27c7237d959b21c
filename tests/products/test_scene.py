"""Stored numbers and physical values, against plain arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lstsr.errors import ProductError
from keras_lstsr.products.scene import Packing, multiplier

DTYPES = ["uint8", "int8", "uint16", "int16", "int32", "float32"]


@given(
    dtype=st.sampled_from(DTYPES),
    scale=st.floats(1e-4, 1.0),
    offset=st.floats(-300, 300),
    data=st.data(),
)
def test_decode_rounds_float64_arithmetic_once(dtype, scale, offset, data):
    kind = np.dtype(dtype)
    low, high = (-1000, 1000) if kind.kind == "f" else (np.iinfo(kind).min, np.iinfo(kind).max)
    numbers = data.draw(st.lists(st.integers(low, high), min_size=1, max_size=9))
    stored = np.array([numbers], dtype=kind)
    decoded = Packing(dtype, scale, offset).decode(stored)
    assert decoded.dtype == np.float32
    assert decoded.tolist() == [[float(np.float32(number * scale + offset)) for number in numbers]]


@given(st.integers(0, 65535), st.sampled_from([0.02, 0.1, 0.0001, 0.01]))
def test_stored_integers_come_back_from_float32(number, scale):
    decoded = Packing("uint16", scale).decode(np.array([[number]], np.uint16))
    assert round(float(decoded[0, 0]) / scale) == number


@pytest.mark.parametrize(("stored", "factor"), [(0.02, 0.02), (0.0001, 0.0001), (1.0, 1.0)])
def test_scale_up_to_one_is_multiplied_with(stored, factor):
    assert multiplier(stored) == factor


def test_scale_above_one_divides():
    assert multiplier(10000.0) == 0.0001


@pytest.mark.parametrize("scale", [0.0, -0.02, float("nan"), float("inf")])
def test_unusable_scale_is_refused(scale):
    with pytest.raises(ProductError, match="scale factor is unusable"):
        multiplier(scale, path="a.hdf", field="LST_Day_1km")


def test_fill_is_found_in_integers_and_nan_in_floats():
    assert Packing("int16", fill_value=-28672).is_fill(
        np.array([[-28672, 0]], np.int16)
    ).tolist() == [[True, False]]
    floats = np.array([[np.nan, -9999.0, 1.0]], np.float32)
    assert Packing("float32", fill_value=-9999.0).is_fill(floats).tolist() == [[True, True, False]]


def test_fill_value_outside_the_type_marks_nothing():
    assert not Packing("uint16", fill_value=-9999).is_fill(np.zeros((2, 2), np.uint16)).any()


def test_encoding_names_what_is_on_disk():
    assert Packing("uint16", 0.02, 0.0, 0).as_encoding() == {
        "dtype": "uint16",
        "scale_factor": 0.02,
        "add_offset": 0.0,
        "_FillValue": 0,
    }
    assert "_FillValue" not in Packing("uint16", 0.02).as_encoding()
