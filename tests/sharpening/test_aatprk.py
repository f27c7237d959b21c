"""AATPRK: exact where LST is linear in the guides, also if the relation changes; coherent."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.linear import aatprk, atprk


@pytest.mark.parametrize("guides", [1, 2, 3])
@pytest.mark.parametrize("prior_pixels", [0.0, 16.0])
def test_lst_that_is_linear_in_the_guides_is_recovered(linear_scene, guides, prior_pixels):
    lst, guide, fine = linear_scene(guides)
    found = aatprk(lst, guide, 4, prior_pixels=prior_pixels, bounded=False)
    np.testing.assert_allclose(found, fine, rtol=0, atol=1e-8)


def test_two_relations_are_recovered_away_from_their_seam(block_means, linear_scene):
    _, guide, _ = linear_scene(shape=(12, 24))
    fine = 300.0 + np.where(np.arange(96) < 48, -12.0, 4.0) * (guide[0] - 0.5)
    options = {"range_pixels": 5.0, "bounded": False}
    found = aatprk(block_means(fine), guide, 4, prior_pixels=0.0, **options)
    # Windows of 5 for the regression and of 5 for its residual reach 4 coarse pixels.
    # What the windows on the seam leave unexplained draws all slopes to 0 by a little.
    np.testing.assert_allclose(found[:, :32], fine[:, :32], rtol=0, atol=0.1)
    np.testing.assert_allclose(found[:, -32:], fine[:, -32:], rtol=0, atol=0.1)
    off = np.std(atprk(block_means(fine), guide, 4, bounded=False) - fine)
    assert np.std(found - fine) < 0.4 * off


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5, 0.85]), st.sampled_from([1, 2]))
@settings(max_examples=30, deadline=None)
@pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.SharpeningWarning")
def test_block_means_are_lst_and_gaps_stay(
    block_means, expected_gaps, noisy_scene_with_gaps, seed, lst_gaps, guides
):
    lst, guide = noisy_scene_with_gaps(seed, lst_gaps, 0.0, guides)
    found = aatprk(lst, guide, 4)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))
    np.testing.assert_allclose(block_means(found), lst, rtol=0, atol=1e-7)


def test_a_flat_window_takes_the_scenes_relation(block_means, noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.0, 0.0)
    guide[:, 12:32, 12:32] = 0.5  # a lake
    found = aatprk(lst, guide, 4, prior_pixels=0.0)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(block_means(found), lst, rtol=0, atol=1e-7)


def test_errors(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(ConfigError, match="regression_radius"):
        aatprk(lst, guide, 4, regression_radius=0)
    with pytest.raises(ConstantGuideError):
        aatprk(lst, np.full_like(guide, 0.3), 4)
