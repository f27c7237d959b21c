"""Upsampled residuals: gaps and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import upsample_bicubic, upsample_bilinear, upsample_nearest
from keras_lstsr.sharpening.regression import (
    RESIDUALS,
    guide_bands,
    upsampled_residual,
)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.2, 0.7]), st.sampled_from(RESIDUALS))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.SharpeningWarning")
def test_a_gap_stays_over_its_own_fine_pixels(noise_with_gaps, seed, share, how):
    residual = noise_with_gaps(seed, share)
    fine = upsampled_residual(residual, 4, how)
    assert fine.dtype == residual.dtype
    np.testing.assert_array_equal(np.isnan(fine), upsample_nearest(np.isnan(residual), 4))


@pytest.mark.parametrize("how", RESIDUALS)
@pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.SharpeningWarning")
def test_weights_sum_to_one_next_to_gaps(noise_with_gaps, how):
    residual = np.where(np.isnan(noise_with_gaps(1, 0.4)), np.nan, 1.25)
    fine = upsampled_residual(residual, 4, how)
    np.testing.assert_allclose(fine[~np.isnan(fine)], 1.25, rtol=1e-10)


@pytest.mark.parametrize(
    ("how", "whole"), [("bilinear", upsample_bilinear), ("bicubic", upsample_bicubic)]
)
def test_far_from_a_gap_nothing_changes(noise_with_gaps, how, whole):
    residual = noise_with_gaps(2, 0.0, (12, 12))
    expected = whole(residual, 4)
    np.testing.assert_array_equal(upsampled_residual(residual, 4, how), expected)
    residual[5, 5] = np.nan
    found = upsampled_residual(residual, 4, how)
    reach = 2 if how == "bicubic" else 1
    near = np.zeros(residual.shape, bool)
    near[5 - reach : 6 + reach, 5 - reach : 6 + reach] = True
    far = ~upsample_nearest(near, 4)
    np.testing.assert_allclose(found[far], expected[far], rtol=1e-12)
    assert np.nanmax(np.abs(found - expected)) > 1e-3


def test_unknown_residual():
    with pytest.raises(ConfigError, match="residual"):
        upsampled_residual(np.ones((3, 3)), 4, "spline")


def test_shapes_that_do_not_fit():
    with pytest.raises(GridError, match="fine grid"):
        guide_bands(np.ones((2, 2)), np.ones((8, 12)), 4)
    with pytest.raises(GridError, match="not one band"):
        guide_bands(np.ones((1, 2, 2)), np.ones((8, 8)), 4)
    assert guide_bands(np.ones((2, 2)), np.ones((8, 8)), 4).shape == (1, 8, 8)
