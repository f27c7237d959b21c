from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids import resample
from keras_lstsr.losses.consistency import (
    bicubic_reduction,
    block_all,
    block_mean,
    coarse_slope,
    norm_l4,
)


def tensor(values: np.ndarray, dtype: str = "float64"):
    return keras.ops.convert_to_tensor(values, dtype)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5), st.integers(0, 2**16))
def test_reductions_are_grids_resample(rows, columns, factor, seed):
    shape = (2, rows * factor, columns * factor)
    fine = np.random.default_rng(seed).uniform(220, 340, shape).astype(np.float32)
    for ours, definition in ((norm_l4, resample.norm_l4), (block_mean, resample.block_mean)):
        reduced = ours(tensor(fine[..., None], "float32"), factor)[..., 0]
        np.testing.assert_allclose(reduced, definition(fine, factor), rtol=0, atol=2e-4)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_block_all(factor):
    valid = np.random.default_rng(factor).random((1, 12, 24, 1)) > 0.03
    expected = resample.block_mean(valid[..., 0].astype(np.float64), factor) == 1
    np.testing.assert_array_equal(
        block_all(keras.ops.convert_to_tensor(valid), factor)[..., 0], expected
    )


@pytest.mark.real_data
def test_golden_bicubic_reduction_without_antialiasing(lstsr_reference):
    golden = np.load(lstsr_reference / "golden" / "preprocess.npz")
    fine = np.random.default_rng(3).uniform(0, 1, (1, 1, 64, 64)).astype(np.float32)
    reduced = bicubic_reduction(tensor(fine[:, 0, :, :, None], "float32"), 4)
    expected = golden["bicubic_down4_seed3_no_antialias"][:, 0, :, :, None]
    np.testing.assert_allclose(reduced, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 5])
def test_bicubic_reduction_keeps_what_is_linear_inside(factor):
    rows, columns = np.mgrid[0 : 8 * factor, 0 : 6 * factor].astype(np.float64)
    reduced = bicubic_reduction(tensor((2 * rows - 3 * columns)[None, :, :, None]), factor)
    centre = (factor - 1) / 2
    rows, columns = np.mgrid[0:8, 0:6] * factor + centre
    inner = np.s_[1:-1, 1:-1]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(reduced)[0, :, :, 0][inner],
        (2 * rows - 3 * columns)[inner],
        atol=1e-9,
    )


def test_sides_that_are_no_multiple_are_refused():
    with pytest.raises(ConfigError, match=r"scale_factor.*10 × 8.*multiples of 4"):
        norm_l4(tensor(np.zeros((1, 10, 8, 1))), 4)


class TestCoarseSlope:
    def test_is_least_squares_on_the_valid_pixels(self):
        rng = np.random.default_rng(0)
        ndvi = rng.uniform(0, 0.9, (3, 8, 8, 1))
        lst = 310 - 14 * ndvi + rng.normal(0, 1, ndvi.shape)
        valid = rng.random(ndvi.shape) > 0.3
        slopes = coarse_slope(tensor(lst), tensor(ndvi), keras.ops.convert_to_tensor(valid), 0.0)
        for sample in range(3):
            chosen = valid[sample]
            expected = np.polyfit(ndvi[sample][chosen], lst[sample][chosen], 1)[0]
            assert float(slopes[sample, 0, 0, 0]) == pytest.approx(expected, rel=1e-9)

    def test_is_zero_where_ndvi_is_flat_or_missing(self):
        lst = np.random.default_rng(1).normal(300, 5, (2, 4, 4, 1))
        valid = np.stack([np.ones((4, 4, 1), bool), np.zeros((4, 4, 1), bool)])
        slopes = coarse_slope(
            tensor(lst), tensor(np.full(lst.shape, 0.4)), keras.ops.convert_to_tensor(valid)
        )
        np.testing.assert_allclose(slopes, 0, atol=1e-9)
