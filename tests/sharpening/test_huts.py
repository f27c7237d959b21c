"""HUTS: exact where LST is the polynomial; bounded beyond the range; gaps stay where they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import interpolated
from keras_lstsr.sharpening.fallback import ConstantGuideError, SharpeningWarning
from keras_lstsr.sharpening.huts import fit_polynomial, huts
from keras_lstsr.sharpening.linear import tsharp
from keras_lstsr.sharpening.regression import RESIDUALS

pytestmark = pytest.mark.filterwarnings("ignore::keras_lstsr.sharpening.fallback.SharpeningWarning")


def _blocks(values):
    return np.repeat(np.repeat(values, 4, axis=-2), 4, axis=-1)


def _quartic(guide):
    x, y = guide
    return 300 + 9 * x - 4 * y + 20 * x * y - 11 * x**2 * y**2 + 7 * x * y**3 - 13 * x**4 + 5 * y**4


@pytest.mark.parametrize("residual", RESIDUALS)
def test_a_quartic_of_two_guides_is_recovered(block_means, residual):
    rng = np.random.default_rng(0)
    guide = _blocks(rng.uniform(0, 1, (2, 12, 14)))
    fine = _quartic(guide)
    lst = block_means(fine)
    np.testing.assert_allclose(huts(lst, guide, 4, residual=residual), fine, rtol=0, atol=1e-7)


def test_detail_of_the_guide_becomes_detail_of_the_polynomial():
    rng = np.random.default_rng(1)
    coarse = rng.uniform(0, 1, (20, 20))
    guide = _blocks(coarse)
    # One pixel gets detail: its mean over the fine pixels is kept, so that the fit is the same.
    detail = rng.uniform(-0.3, 0.3, (4, 4))
    detail -= detail.mean()
    guide[40:44, 40:44] = 0.5 + detail
    coarse[10, 10] = 0.5
    lst = 300 + 10 * coarse - 25 * coarse**4
    found = huts(lst, guide, 4, residual="block")[40:44, 40:44]
    expected = 10 * guide[40:44, 40:44] - 25 * guide[40:44, 40:44] ** 4
    np.testing.assert_allclose(found - found.mean(), expected - expected.mean(), rtol=0, atol=1e-8)


@given(st.integers(1, 5), st.integers(0, 10_000), st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
@settings(max_examples=40, deadline=None)
def test_the_fit_of_one_guide_is_that_of_polyfit(degree, seed, scale, offset):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, 200)
    y = 300 + rng.normal(0, 5, 200)
    expected = np.polyval(np.polyfit(x, y, degree), x)
    found = fit_polynomial(y, (offset + scale * x)[None], degree)
    np.testing.assert_allclose(found((offset + scale * x)[None]), expected, rtol=0, atol=1e-4)


def test_two_guides_have_all_cross_terms_up_to_the_degree():
    rng = np.random.default_rng(2)
    x, y = rng.uniform(-1, 1, (2, 300))
    lst = 300 + rng.normal(0, 5, 300)
    terms = [x**i * y**j for i in range(5) for j in range(5) if i + j <= 4]
    matrix = np.stack(terms, axis=1)
    assert matrix.shape[1] == 15
    expected = matrix @ np.linalg.lstsq(matrix, lst, rcond=None)[0]
    found = fit_polynomial(lst, np.stack([x, y]), 4)(np.stack([x, y]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def test_degree_one_is_tsharp_where_the_guide_is_in_range(linear_scene):
    lst, guide, _ = linear_scene(2)
    guide[:, :4, :4], guide[:, :4, 4:8] = 0.0, 1.0
    lst += np.random.default_rng(0).normal(0, 1, lst.shape)
    np.testing.assert_allclose(
        huts(lst, guide, 4, degree=1, bounded=False), tsharp(lst, guide, 4), rtol=0, atol=1e-9
    )


def test_beyond_the_range_the_polynomial_stays_at_the_ends():
    rng = np.random.default_rng(3)
    coarse = rng.uniform(0, 1, (16, 16))
    coarse[8, 8] = 0.5
    lst = 300 + 10 * coarse**4
    guide = _blocks(coarse)
    guide[32, 32], guide[35, 35] = 0.5 + 1000, 0.5 - 1000
    found = huts(lst, guide, 4, residual="block")[32:36, 32:36]
    ends = 10 * coarse.max() ** 4, 10 * coarse.min() ** 4
    assert found[0, 0] - found[3, 3] == pytest.approx(ends[0] - ends[1], abs=1e-6)


def test_few_pixels_lower_the_degree_and_say_so():
    rng = np.random.default_rng(4)
    lst, guide = rng.uniform(290, 310, (4, 4)), rng.uniform(0, 1, (16, 16))
    with pytest.warns(SharpeningWarning, match="degree 2 instead of 4: only 16 coarse pixels"):
        found = huts(lst, guide, 4)
    np.testing.assert_array_equal(found, huts(lst, guide, 4, degree=2))


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from(["block", "bicubic"]),
)
@settings(max_examples=25, deadline=None)
def test_gaps_stay_where_they_are(
    expected_gaps, noisy_scene_with_gaps, seed, lst_gaps, guide_gaps, residual
):
    lst, guide = noisy_scene_with_gaps(seed, lst_gaps, guide_gaps, guides=2)
    found = huts(lst, guide, 4, residual=residual)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))


@pytest.mark.parametrize("residual", ["block", "kriging"])
def test_block_means_are_those_of_lst(block_means, noisy_scene_with_gaps, residual):
    lst, guide = noisy_scene_with_gaps(0, 0.2, 0.0)
    means = block_means(huts(lst, guide, 4, residual=residual))
    np.testing.assert_allclose(means, lst, rtol=0, atol=1e-7)


def test_a_constant_guide_beside_another_changes_nothing_but_its_gaps(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.0)
    constant = np.full_like(guide, 7.0)
    constant[0, 5, 6] = np.nan
    expected = huts(lst, guide, 4)
    expected[5, 6] = np.nan
    found = huts(lst, np.concatenate([guide, constant]), 4)
    # The fine pixel of the gap leaves its coarse pixel's mean, and so the fit changes a little.
    np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.3)


def test_the_float_type_of_lst_is_kept(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.1)
    found = huts(lst.astype(np.float32), guide.astype(np.float32), 4)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, huts(lst, guide, 4), rtol=0, atol=1e-3)


def test_a_constant_guide_or_too_few_pixels_explain_nothing(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(ConstantGuideError, match="constant"):
        huts(lst, np.full_like(guide, 0.3), 4)
    lst.ravel()[2:] = np.nan
    with pytest.raises(ConstantGuideError, match="too few"):
        huts(lst, guide, 4)


def test_bad_input_is_refused(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(GridError, match="fine grid"):
        huts(lst, guide[:, 4:], 4)
    with pytest.raises(ConfigError, match="degree"):
        huts(lst, guide, 4, degree=0)
    with pytest.raises(ConfigError, match="residual"):
        huts(lst, guide, 4, residual="spline")


@pytest.mark.real_data
def test_a_real_pair_gains_over_bicubic(real_pair, real_error_kelvin):
    lst, ndvi = real_pair.lst.values, real_pair.guides["ndvi"].values
    found = real_error_kelvin(huts(lst, ndvi, 4))
    assert found < 0.97 * real_error_kelvin(interpolated(lst, 4))
