"""Least squares against lstsq of each window, one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.regression import (
    fine_trend,
    global_fit,
    local_fits,
    pixels_of_fit,
)


def scene(seed=0, guides=1, shape=(9, 11), gaps=0.0):
    rng = np.random.default_rng(seed)
    guide = rng.uniform(0.1, 0.9, (guides, *shape))
    lst = 305.0 - 9.0 * guide.sum(axis=0) + rng.normal(0, 0.5, shape)
    lst[rng.uniform(size=shape) < gaps] = np.nan
    guide[0][rng.uniform(size=shape) < gaps / 2] = np.nan
    return lst, guide


@given(st.integers(0, 1000), st.integers(1, 3), st.sampled_from([0.0, 0.3]))
@settings(max_examples=20, deadline=None)
def test_the_scenes_fit_is_lstsq(seed, guides, gaps):
    lst, guide = scene(seed, guides, gaps=gaps)
    there = np.isfinite(lst) & np.isfinite(guide).all(axis=0)
    design = np.column_stack([np.ones(there.sum()), *guide[:, there]])
    expected = np.linalg.lstsq(design, lst[there])[0]
    fit = global_fit(lst, guide)
    np.testing.assert_allclose([fit.intercept_kelvin, *fit.slopes], expected, rtol=1e-8)


@given(st.integers(0, 1000), st.integers(1, 2), st.sampled_from([0.0, 0.4]))
@settings(max_examples=10, deadline=None)
def test_each_windows_fit_is_lstsq(seed, guides, gaps):
    lst, guide = scene(seed, guides, gaps=gaps)
    there = np.isfinite(lst) & np.isfinite(guide).all(axis=0)
    whole = global_fit(lst, guide)
    fits = local_fits(lst, guide, whole, radius_pixels=2, min_share=0.5)
    for row, column in np.ndindex(lst.shape):
        window = (slice(max(row - 2, 0), row + 3), slice(max(column - 2, 0), column + 3))
        use = there[window]
        expected = np.array([whole.intercept_kelvin, *whole.slopes])
        assert fits.local[row, column] == (use.sum() > use.size / 2 and use.sum() >= guides + 2)
        if fits.local[row, column]:
            x = guide[(slice(None), *window)][:, use]
            design = np.column_stack([np.ones(use.sum()), *x])
            expected = np.linalg.lstsq(design, lst[window][use])[0]
        found = [fits.intercepts_kelvin[row, column], *fits.slopes[:, row, column]]
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_a_weight_of_two_is_two_pixels():
    lst, guide = scene(guides=2, gaps=0.3)
    weights = np.random.default_rng(1).integers(1, 4, lst.shape)
    found = global_fit(lst, guide, weights=weights / 3)
    twice = np.repeat(lst.ravel(), weights.ravel())[None]
    expected = global_fit(twice, np.repeat(guide.reshape(2, 1, -1), weights.ravel(), axis=2))
    for name in ("intercept_kelvin", "slopes", "means", "deviations"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9)


def test_a_window_without_contrast_takes_the_scenes_fit():
    lst, guide = scene()
    guide[0, 2:7, 3:8] = 0.5
    whole = global_fit(lst, guide)
    fits = local_fits(lst, guide, whole)
    assert not fits.local[4, 5] and fits.local[0, 0]
    assert fits.slopes[0, 4, 5] == whole.slopes[0]


def test_windows_beyond_the_border_can_be_left_out():
    lst, guide = scene()
    fits = local_fits(lst, guide, global_fit(lst, guide), whole_windows=True)
    assert fits.local[2:-2, 2:-2].all() and fits.local.sum() == fits.local[2:-2, 2:-2].size


def test_a_constant_guide_is_flagged_and_gets_no_slope():
    lst, guide = scene(guides=2)
    alone = global_fit(lst, guide[:1])
    guide[1] = 0.1 + 1e-9 * np.arange(guide[1].size).reshape(guide[1].shape)
    fit = global_fit(lst, guide)
    assert fit.constant.tolist() == [False, True] and fit.slopes[1] == 0.0
    assert fit.slopes[0] == pytest.approx(alone.slopes[0])
    with pytest.raises(ConstantGuideError, match="constant"):
        global_fit(lst, guide[1:])


def test_collinear_guides_share_the_slope():
    lst, guide = scene()
    alone = global_fit(lst, guide)
    fit = global_fit(lst, np.concatenate([guide, 2 * guide + 1]))
    assert fit.slopes[0] + 2 * fit.slopes[1] == pytest.approx(alone.slopes[0])
    twice = np.concatenate([guide, 2 * guide + 1])
    assert not local_fits(lst, twice, fit).local.any()


def test_too_few_pixels():
    lst, guide = scene()
    lst.ravel()[2:] = np.nan
    with pytest.raises(ConstantGuideError, match="too few"):
        global_fit(lst, guide)


def test_pixels_of_fit():
    lst = np.array([[250.0, 250.1, np.nan, 300.0]])
    guide = np.array([[[0.1, 0.2, 0.3, np.nan]]])
    assert pixels_of_fit(lst, guide).tolist() == [[True, True, False, False]]
    cold = pixels_of_fit(lst, guide, min_lst_kelvin=250.0)
    assert cold.tolist() == [[False, True, False, False]]


def test_local_trend_on_the_fine_grid_repeats_the_coefficients():
    lst, guide = scene(shape=(70, 5))  # more rows than a strip
    fits = local_fits(lst, guide, global_fit(lst, guide))
    fine = np.repeat(np.repeat(guide, 3, 1), 3, 2)
    expected = np.repeat(np.repeat(fits.trend(guide), 3, 0), 3, 1)
    np.testing.assert_allclose(fine_trend(fits, fine, 3), expected, rtol=1e-12)


def test_unusable_options():
    lst, guide = scene()
    with pytest.raises(ConfigError):
        local_fits(lst, guide, global_fit(lst, guide), radius_pixels=0)


def test_strips_make_no_difference(monkeypatch):
    lst, guide = scene(guides=2, shape=(23, 7), gaps=0.2)
    whole = local_fits(lst, guide, global_fit(lst, guide))
    monkeypatch.setattr("keras_lstsr.sharpening.regression._STRIP_ROWS", 5)
    strips = local_fits(lst, guide, global_fit(lst, guide))
    np.testing.assert_array_equal(strips.local, whole.local)
    np.testing.assert_allclose(strips.slopes, whole.slopes, rtol=1e-10)


def test_a_constant_second_guide_takes_nothing_from_local_fits():
    lst, guide = scene()
    alone = local_fits(lst, guide, global_fit(lst, guide))
    both = np.concatenate([guide, np.full_like(guide, 0.3)])
    fits = local_fits(lst, both, global_fit(lst, both))
    assert alone.local.all() and fits.local.all() and not fits.slopes[1].any()
    np.testing.assert_allclose(fits.trend(both), alone.trend(guide), rtol=1e-12)
