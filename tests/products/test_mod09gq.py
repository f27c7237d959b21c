"""MOD09GQ: reflectance, NDVI and QC, against brute force."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.products import POLICIES, REASONS, guide_layer, open_product, rejection_reason
from keras_lstsr.products.mod09gq import ndvi_of

FILL = -28672
NUMBERS = [FILL, -101, -100, -1, 0, 1, 500, 3000, 16000, 16001]


def arrays(red, nir, qc=None):
    red = np.asarray(red, np.int16)
    qc = np.zeros(red.shape, np.uint16) if qc is None else np.asarray(qc, np.uint16)
    return {
        "sur_refl_b01_1": red,
        "sur_refl_b02_1": np.asarray(nir, np.int16),
        "QC_250m_1": qc,
    }


def pairs():
    return (grid.copy() for grid in np.meshgrid(NUMBERS, NUMBERS))


def ndvi_reason(red: int, nir: int) -> str:
    if FILL in (red, nir):
        return "fill"
    if not (-100 <= red <= 16000 and -100 <= nir <= 16000):
        return "out_of_range"
    if nir + red <= 0:
        return "undefined"
    return "out_of_range" if abs((nir - red) / (nir + red)) > 1 else "valid"


@pytest.mark.parametrize("scale", [10000.0, 0.0001])
def test_ndvi_of_every_kind_of_pair(write_mod09gq, scale):
    """The stored scale factor divides or multiplies, judged by its size: the result is one."""
    red, nir = pairs()
    bands = {name: {"scale_factor": scale} for name in ("sur_refl_b01_1", "sur_refl_b02_1")}
    scene = open_product(write_mod09gq(arrays(red, nir), overrides=bands))
    ndvi = guide_layer(scene, "ndvi")
    codes = rejection_reason(scene, "ndvi").values
    counts: dict[str, int] = {}
    for index in np.ndindex(red.shape):
        r, n = int(red[index]), int(nir[index])
        reason = ndvi_reason(r, n)
        counts[reason] = counts.get(reason, 0) + 1
        assert REASONS[int(codes[index])] == reason, (r, n)
        value = float(ndvi.values[index])
        if reason == "valid":
            assert value == pytest.approx((n - r) / (n + r), abs=1e-6)
        else:
            assert math.isnan(value)
    assert int(ndvi.notnull().sum()) == counts.pop("valid")
    assert json.loads(ndvi.attrs["rejected_pixels"]) == counts
    assert float(scene.red_reflectance.max()) == pytest.approx(1.6)
    assert float(np.abs(ndvi).max()) <= 1


@given(st.integers(-100, 16000), st.integers(-100, 16000))
def test_ndvi_is_bounded_or_missing(red, nir):
    ndvi, codes = ndvi_of(np.float32([[red * 0.0001]]), np.float32([[nir * 0.0001]]))
    if codes[0, 0]:
        assert np.isnan(ndvi[0, 0])
    else:
        assert -1 <= ndvi[0, 0] <= 1


def test_ndvi_closed_form():
    red = np.array([[0.1, 0.2, 0.0, 0.3]], np.float32)
    nir = np.array([[0.3, 0.2, 0.5, 0.0]], np.float32)
    np.testing.assert_allclose(ndvi_of(red, nir)[0], [[0.5, 0.0, 1.0, -1.0]], atol=1e-6)


def band_ok(qc: int, shift: int, policy: str) -> bool:
    quality = (qc >> shift) & 15
    if policy == "strict":
        return qc & 3 == 0 and quality == 0
    return policy == "lenient" or quality in (0, 7, 8, 12)


@pytest.mark.parametrize("policy", POLICIES)
def test_ndvi_needs_both_bands_of_good_quality(write_mod09gq, policy):
    # All combinations of MODLAND and the two band qualities, at random higher bits.
    numbers = np.arange(4096, dtype=np.uint16)
    qc = ((numbers >> 2) << 4) | (numbers & 3) | (np.uint16(0b0101) << 12)
    qc = qc.reshape(64, 64)
    scene = open_product(
        write_mod09gq(arrays(np.full((64, 64), 500), np.full((64, 64), 1500), qc)),
        qc_policy=policy,
    )
    codes = rejection_reason(scene, "ndvi").values
    for index in np.ndindex(qc.shape):
        number = int(qc[index])
        expected = "valid"
        if number & 3 == 2:
            expected = "cloud"
        elif number & 3 == 3:
            expected = "not_produced"
        elif not (band_ok(number, 4, policy) and band_ok(number, 8, policy)):
            expected = "quality"
        assert REASONS[int(codes[index])] == expected, f"{number:016b}"
    red_only = rejection_reason(scene, "red_reflectance").values == 0
    assert (red_only & (codes != 0)).any() or policy == "lenient"


def test_fill_of_qc_is_not_produced(write_mod09gq):
    """2995 has MODLAND 11."""
    scene = open_product(write_mod09gq(arrays([[500]], [[1500]], [[2995]])))
    assert json.loads(scene.ndvi.attrs["rejected_pixels"]) == {"not_produced": 1}


def test_variables_and_encodings(write_mod09gq):
    path = write_mod09gq(arrays([[500, FILL]], [[1500, 1500]]))
    scene = open_product(path)
    assert scene.attrs["product"] == "MOD09GQ" and scene.attrs["tile"] == "h18v04"
    assert scene.red_reflectance.encoding["scale_factor"] == 0.0001
    assert scene.red_reflectance.encoding["_FillValue"] == FILL
    assert scene.ndvi.encoding["dtype"] == "float32"
    assert scene.qc_250m.dtype == np.uint16 and scene.ndvi.dtype == np.float32
    assert set(open_product(path, variables=["ndvi"]).data_vars) == {"ndvi", "ndvi_rejection"}
    assert set(open_product(path, variables=["qc_250m"]).data_vars) == {"qc_250m"}
    with pytest.raises(ConfigError, match="no such variable"):
        open_product(path, variables=["lst_day_kelvin"])
