"""ATPRK: exact where LST is linear in the guides, and coherent everywhere."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import GridError
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.linear import atprk, tsharp


@pytest.mark.parametrize("guides", [1, 2, 3])
def test_lst_that_is_linear_in_the_guides_is_recovered(linear_scene, guides):
    lst, guide, fine = linear_scene(guides)
    np.testing.assert_allclose(atprk(lst, guide, 4, bounded=False), fine, rtol=0, atol=1e-8)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5]), st.sampled_from([1, 2]))
@settings(max_examples=30, deadline=None)
def test_block_means_are_lst_and_gaps_stay(
    block_means, expected_gaps, noisy_scene_with_gaps, seed, lst_gaps, guides
):
    lst, guide = noisy_scene_with_gaps(seed, lst_gaps, 0.0, guides)
    found = atprk(lst, guide, 4)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))
    np.testing.assert_allclose(block_means(found), lst, rtol=0, atol=1e-7)


@given(st.integers(0, 10_000), st.sampled_from([0.2, 0.8]))
@settings(max_examples=10, deadline=None)
def test_gaps_of_the_guide(expected_gaps, noisy_scene_with_gaps, seed, guide_gaps):
    lst, guide = noisy_scene_with_gaps(seed, 0.2, guide_gaps)
    found = atprk(lst, guide, 4)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))


def test_it_is_tsharp_with_a_kriged_residual(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.2, 0.0)
    np.testing.assert_array_equal(atprk(lst, guide, 4), tsharp(lst, guide, 4, residual="kriging"))


@pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.SharpeningWarning")
def test_the_papers_border_is_the_plain_trend(block_means, noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.0, 0.0)
    ours, theirs = atprk(lst, guide, 4), atprk(lst, guide, 4, report="averaged")
    off = np.abs(block_means(theirs) - lst)
    assert off[2:-2, 2:-2].max() < 1e-9 and np.median(off[0]) > 0.1
    assert np.abs(block_means(ours) - lst).max() < 1e-9


def test_errors(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(GridError, match="fine grid"):
        atprk(lst, guide[:, 4:], 4)
    with pytest.raises(ConstantGuideError):
        atprk(lst, np.full_like(guide, 0.3), 4)
