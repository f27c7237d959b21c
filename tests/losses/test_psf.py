from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses.consistency import gaussian_reduction, gaussian_sigma, gaussian_taps


def reduced(values: np.ndarray, valid: np.ndarray, factor: int, mtf: float):
    coarse, share = gaussian_reduction(
        keras.ops.convert_to_tensor(values[None, :, :, None], "float64"),
        keras.ops.convert_to_tensor(valid[None, :, :, None]),
        factor,
        mtf,
    )
    return tuple(keras.ops.convert_to_numpy(each)[0, :, :, 0] for each in (coarse, share))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("mtf", [0.05, 0.1, 0.3])
def test_transfer_at_the_coarse_nyquist_frequency(factor, mtf):
    reach, weights = gaussian_taps(factor, mtf)
    pixels = np.arange(-reach, factor + reach) - (factor - 1) / 2
    assert sum(weights) == pytest.approx(1)
    assert np.dot(weights, pixels) == pytest.approx(0, abs=1e-12)
    # A wave of two coarse pixels' length.
    assert np.dot(weights, np.cos(np.pi * pixels / factor)) == pytest.approx(mtf, abs=2e-4)


def test_sigma_of_the_default():
    # exp(−2 π² σ² / 64) = 0.1
    assert gaussian_sigma(4, 0.1) == pytest.approx(np.sqrt(32 * np.log(10)) / np.pi)


@pytest.mark.parametrize(("factor", "mtf"), [(3, 0.1), (5, 0.2)])
def test_is_a_gaussian_filter_sampled_at_the_centres(factor, mtf):
    # For odd factors the centre is a pixel, where SciPy's filter can be sampled.
    values = np.random.default_rng(0).normal(size=(8 * factor, 10 * factor))
    coarse, share = reduced(values, np.ones(values.shape, bool), factor, mtf)
    sigma = gaussian_sigma(factor, mtf)
    filtered, weight = (
        ndimage.gaussian_filter(each, sigma, mode="constant", truncate=5)
        for each in (values, np.ones(values.shape))
    )
    centres = np.s_[factor // 2 :: factor, factor // 2 :: factor]
    np.testing.assert_allclose(share, weight[centres], atol=3e-4)
    np.testing.assert_allclose(coarse, (filtered / weight)[centres], atol=2e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**16), st.floats(0.0, 1.0))
def test_gaps_leave_a_weighted_mean_of_the_rest(seed, gaps):
    rng = np.random.default_rng(seed)
    values, valid = rng.uniform(1, 2, (16, 12)), rng.random((16, 12)) >= gaps
    coarse, share = reduced(values, valid, 4, 0.2)
    reach, taps = gaussian_taps(4, 0.2)
    padded, mask = (np.pad(each, reach) for each in (np.where(valid, values, 0), valid * 1.0))
    kernel = np.outer(taps, taps)
    for row in range(4):
        for column in range(3):
            window = np.s_[4 * row :, 4 * column :]
            seen = np.sum(kernel * mask[window][: len(taps), : len(taps)])
            total = np.sum(kernel * padded[window][: len(taps), : len(taps)])
            assert share[row, column] == pytest.approx(seen, abs=1e-12)
            assert coarse[row, column] == pytest.approx(total / seen if seen else 0, rel=1e-9)


def test_sides_that_are_no_multiple_are_refused():
    with pytest.raises(ConfigError, match=r"scale_factor.*10 × 8 pixels"):
        reduced(np.zeros((10, 8)), np.ones((10, 8), bool), 4, 0.1)
