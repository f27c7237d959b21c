"""TsHARP: exact where LST is linear in the guides; gaps stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.linear import tsharp
from keras_lstsr.sharpening.regression import RESIDUALS


@pytest.mark.parametrize("residual", RESIDUALS)
@pytest.mark.parametrize("regression", ["scene", "local"])
@pytest.mark.parametrize("guides", [1, 2, 3])
def test_lst_that_is_linear_in_the_guides_is_recovered(linear_scene, residual, regression, guides):
    lst, guide, fine = linear_scene(guides)
    lst[2:5, 3:6] = np.nan
    found = tsharp(lst, guide, 4, residual=residual, regression=regression, bounded=False)
    fine[8:20, 12:24] = np.nan
    np.testing.assert_allclose(found, fine, rtol=0, atol=1e-8)


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from(["scene", "local"]),
    st.sampled_from(RESIDUALS),
)
@settings(max_examples=30, deadline=None)
def test_gaps_stay_where_they_are(
    expected_gaps, noisy_scene_with_gaps, seed, lst_gaps, guide_gaps, regression, residual
):
    lst, guide = noisy_scene_with_gaps(seed, lst_gaps, guide_gaps, guides=2)
    found = tsharp(lst, guide, 4, regression=regression, residual=residual)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))


def test_the_block_residual_keeps_block_means_of_what_the_guide_covers(
    block_means, noisy_scene_with_gaps
):
    lst, guide = noisy_scene_with_gaps(0, 0.2, 0.3)
    means = block_means(tsharp(lst, guide[0], 4, residual="block"))
    there = ~np.isnan(means)
    np.testing.assert_allclose(means[there], lst[there], rtol=0, atol=1e-9)


def test_local_regressions_follow_a_relation_that_changes(block_means):
    rng = np.random.default_rng(0)
    guide = rng.uniform(0.1, 0.9, (64, 96))
    slope = np.where(np.arange(96) < 48, -12.0, 4.0)
    fine = 300.0 + slope * (guide - 0.5)
    lst = block_means(fine)
    errors = {
        regression: np.std(tsharp(lst, guide, 4, regression=regression, bounded=False) - fine)
        for regression in ("scene", "local")
    }
    assert errors["local"] < 0.6 * errors["scene"]


def test_cold_pixels_can_be_left_out(linear_scene):
    lst, guide, fine = linear_scene()
    lst[0, 0] = 200.0  # a cloud that the quality bits missed
    found = tsharp(lst, guide, 4, residual="block", min_lst_kelvin=250.0)
    np.testing.assert_allclose(found[4:], fine[4:], rtol=0, atol=1e-9)
    assert np.abs(tsharp(lst, guide, 4, residual="block") - fine)[4:].max() > 0.1


def test_float32_stays_float32(linear_scene):
    lst, guide, fine = linear_scene()
    found = tsharp(lst.astype(np.float32), guide.astype(np.float32), 4, bounded=False)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, fine, rtol=0, atol=2e-4)


def test_errors(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(ConfigError, match="regression"):
        tsharp(lst, guide, 4, regression="global")
    with pytest.raises(ConfigError, match="residual"):
        tsharp(lst, guide, 4, residual="none")
    with pytest.raises(GridError, match="fine grid"):
        tsharp(lst, guide[:, 4:], 4)
    with pytest.raises(ConstantGuideError):
        tsharp(lst, np.full_like(guide, 0.3), 4)
