"""The data-mining sharpener: exact on scenes of a few classes; the same for the same seed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.grids.resample import interpolated
from keras_lstsr.sharpening import data_mining as module
from keras_lstsr.sharpening.data_mining import data_mining
from keras_lstsr.sharpening.fallback import ConstantGuideError


@pytest.fixture
def _three_classes(block_means):
    def make(shape=(36, 36)):
        """Coarse LST, guide and fine LST of fields; LST is no monotone function of the guide."""
        row, column = np.mgrid[: 4 * shape[0], : 4 * shape[1]]
        classes = ((row + column // 3) // 50) % 3
        guide = np.array([0.2, 0.5, 0.8])[classes]
        fine = np.array([300.0, 315.0, 305.0])[classes]
        return block_means(fine), guide, fine

    return make


def _rmse(truth, found):
    return float(np.sqrt(np.mean((truth - found) ** 2)))


@pytest.mark.parametrize("residual", ["block", "bicubic", "kriging"])
def test_fields_of_a_few_classes_are_recovered(_three_classes, residual):
    lst, guide, fine = _three_classes()
    found = data_mining(lst, guide, 4, trees=10, window_pixels=0, residual=residual)
    # Mixed pixels, a tenth of all, are no samples, and the pure ones say all: the borders
    # of the fields come out inside of LST's pixels.
    np.testing.assert_allclose(found, fine, rtol=0, atol=1e-6)


def test_windows_that_know_less_do_no_harm(_three_classes):
    lst, guide, fine = _three_classes()
    found = data_mining(lst, guide, 4, trees=10, window_pixels=15)
    assert np.abs(found - fine).max() < 0.2
    assert _rmse(fine, found) < 0.01


def test_uneven_pixels_mislead_if_they_are_samples(block_means):
    rng = np.random.default_rng(0)
    coarse = rng.uniform(0.1, 0.9, (30, 30))
    guide = np.repeat(np.repeat(coarse, 4, 0), 4, 1)
    uneven = np.zeros((30, 30), bool)
    uneven.ravel()[rng.permutation(900)[:180]] = True
    detail = np.repeat(np.repeat(uneven, 4, 0), 4, 1) * np.tile([-0.02, 0.02], (120, 60))
    lst = 300 + np.where(uneven, -10, 10) * (coarse - 0.5)
    slopes = {}
    for share in (0.8, 1.0):
        options = {"window_pixels": 0, "homogeneous_share": share, "residual": "block"}
        found = data_mining(lst, guide + detail, 4, trees=5, **options)
        found -= np.repeat(np.repeat(block_means(found), 4, 0), 4, 1)
        slopes[share] = np.sum(found * detail) / np.sum(detail**2)
    assert slopes[0.8] == pytest.approx(10, abs=0.1)
    assert slopes[1.0] < 8


def test_two_guides_split_what_one_cannot(block_means):
    rng = np.random.default_rng(0)
    guide = np.repeat(np.repeat(rng.integers(0, 2, (2, 30, 30)).astype(float), 4, 1), 4, 2)
    fine = 300 + 10.0 * (guide[0] != guide[1])
    # One border inside of LST's pixels; the rest is pure.
    guide[:, :, 2:] = guide[:, :, :-2].copy()
    fine[:, 2:] = fine[:, :-2].copy()
    lst = block_means(fine)
    options = {"trees": 5, "window_pixels": 0, "homogeneous_share": 0.3, "bounded": False}
    both = data_mining(lst, guide, 4, **options)
    one = data_mining(lst, guide[0], 4, **options)
    assert _rmse(fine, both) < 0.05
    assert _rmse(fine, one) > 1


def test_windows_follow_a_relation_that_changes(block_means):
    rng = np.random.default_rng(0)
    guide = rng.uniform(0.1, 0.9, (96, 128))
    slope = np.where(np.arange(128) < 64, -12.0, 4.0)
    fine = 300.0 + slope * (guide - 0.5)
    lst = block_means(fine)
    errors = {
        size: _rmse(fine, data_mining(lst, guide, 4, trees=12, window_pixels=size))
        for size in (0, 10)
    }
    assert errors[10] < 0.7 * errors[0]


def test_lst_that_is_linear_in_the_guides_is_recovered_where_leaves_reach(block_means):
    rng = np.random.default_rng(0)
    # The coarse guides span nearly what the fine ones do: only beyond do leaves hold back.
    guide = np.repeat(np.repeat(rng.uniform(0, 1, (2, 24, 24)), 4, 1), 4, 2)
    guide[:, ::2] += 0.01
    guide[:, 1::2] -= 0.01
    fine = 300 - 8 * guide[0] + 5 * guide[1]
    found = data_mining(block_means(fine), guide, 4, trees=6, residual="block")
    assert np.median(np.abs(found - fine)) < 1e-5
    assert _rmse(fine, found) < 0.01


@given(st.integers(1, 300), st.integers(1, 60))
def test_windows_cover_an_axis_and_overlap(length, window_pixels):
    windows = module._window_slices(length, window_pixels)
    covered = np.zeros(length, int)
    for window in windows:
        covered[window] += 1
        assert 0 <= window.start < window.stop <= length
    assert (covered > 0).all()
    if window_pixels >= 6:
        overlaps = [a.stop - b.start for a, b in itertools.pairwise(windows)]
        assert all(overlap >= window_pixels / 3 - 1 for overlap in overlaps)


def test_the_same_seed_gives_the_same_result(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.1, guides=2, shape=(20, 20))
    first = data_mining(lst, guide, 4, trees=6, seed=3)
    np.testing.assert_array_equal(first, data_mining(lst, guide, 4, trees=6, seed=3))
    assert np.nanmax(np.abs(first - data_mining(lst, guide, 4, trees=6, seed=4))) > 1e-3


@pytest.mark.slow
def test_any_number_of_processes_gives_the_same_result(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.1, guides=2, shape=(20, 20))
    one, two = (data_mining(lst, guide, 4, trees=3, n_jobs=jobs) for jobs in (1, 2))
    np.testing.assert_array_equal(one, two)


@given(
    st.integers(0, 10_000),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([0.0, 0.2, 0.6]),
    st.sampled_from(["block", "bicubic"]),
    st.sampled_from([0, 7]),
)
@settings(max_examples=25, deadline=None)
def test_gaps_stay_where_they_are(
    expected_gaps, noisy_scene_with_gaps, seed, lst_gaps, guide_gaps, residual, window_pixels
):
    lst, guide = noisy_scene_with_gaps(seed, lst_gaps, guide_gaps, guides=2)
    found = data_mining(lst, guide, 4, trees=2, residual=residual, window_pixels=window_pixels)
    np.testing.assert_array_equal(np.isnan(found), expected_gaps(lst, guide))


@pytest.mark.parametrize("residual", ["block", "kriging"])
def test_block_means_are_those_of_lst(block_means, noisy_scene_with_gaps, residual):
    lst, guide = noisy_scene_with_gaps(0, 0.2, 0.0)
    means = block_means(data_mining(lst, guide, 4, trees=3, residual=residual))
    np.testing.assert_allclose(means, lst, rtol=0, atol=1e-7)


def test_a_constant_guide_beside_another_counts_for_its_gaps_alone(
    expected_gaps, noisy_scene_with_gaps
):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.0)
    constant = np.full_like(guide, 7.0)
    alone = data_mining(lst, guide, 4, trees=3)
    both = data_mining(lst, np.concatenate([guide, constant]), 4, trees=3)
    np.testing.assert_allclose(both, alone, rtol=0, atol=1e-9)
    constant[0, 5, 6] = np.nan
    both = data_mining(lst, np.concatenate([guide, constant]), 4, trees=3)
    np.testing.assert_array_equal(
        np.isnan(both), expected_gaps(lst, np.concatenate([guide, constant]))
    )


def test_few_pixels_are_enough_for_a_line(linear_scene):
    lst, guide, _ = linear_scene(shape=(3, 3))
    found = data_mining(lst, guide, 4, trees=3)
    assert np.isfinite(found).all()


def test_the_float_type_of_lst_is_kept(noisy_scene_with_gaps):
    lst, guide = noisy_scene_with_gaps(0, 0.1, 0.1)
    found = data_mining(lst.astype(np.float32), guide.astype(np.float32), 4, trees=2)
    assert found.dtype == np.float32


def test_a_constant_guide_or_too_few_pixels_explain_nothing(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(ConstantGuideError, match="constant"):
        data_mining(lst, np.full_like(guide, 0.3), 4)
    lst.ravel()[2:] = np.nan
    with pytest.raises(ConstantGuideError, match="too few"):
        data_mining(lst, guide, 4)


@pytest.mark.parametrize(
    ("field", "value"),
    [("trees", 0), ("window_pixels", -1), ("homogeneous_share", 0.0), ("homogeneous_share", 1.1)],
)
def test_options_out_of_range_are_refused(linear_scene, field, value):
    lst, guide, _ = linear_scene()
    with pytest.raises(ConfigError, match=field):
        data_mining(lst, guide, 4, **{field: value})


def test_a_guide_on_another_grid_is_refused(linear_scene):
    lst, guide, _ = linear_scene()
    with pytest.raises(GridError, match="fine grid"):
        data_mining(lst, guide[:, 4:], 4)


@pytest.mark.real_data
def test_a_real_pair_gains_over_bicubic(real_pair, real_error_kelvin):
    lst, ndvi = real_pair.lst.values, real_pair.guides["ndvi"].values
    found = real_error_kelvin(data_mining(lst, ndvi, 4))
    assert found < 0.97 * real_error_kelvin(interpolated(lst, 4))
