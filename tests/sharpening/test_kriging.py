"""Kriging against the system of the pixels that are there, solved one pixel at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.fallback import SharpeningWarning
from keras_lstsr.sharpening.kriging import (
    apply_weights,
    kriged_residual,
    kriging_weights,
    residual_variogram,
)
from keras_lstsr.sharpening.variogram import exponential

RANGES = [0.1, 1.0, 5.0, 100.0, 1e4]


def brute_force(residual, range_, factor, radius):
    """Ordinary area-to-point kriging, each coarse pixel's system written out from points."""
    points = (np.stack(np.mgrid[:factor, :factor], -1).reshape(-1, 2) + 0.5) / factor
    result = np.full([side * factor for side in residual.shape], np.nan)
    for centre in zip(*np.nonzero(~np.isnan(residual)), strict=True):
        used = [
            place
            for place in zip(*np.nonzero(~np.isnan(residual)), strict=True)
            if max(abs(place[0] - centre[0]), abs(place[1] - centre[1])) <= radius
        ]
        areas = np.array([points + np.array(place) for place in used])  # [n, points, 2]

        def gamma(first, second):
            distance = np.linalg.norm(first[..., None, :] - second[..., None, :, :], axis=-1)
            return exponential(distance, 1.0, range_)

        n = len(used)
        system = np.ones((n + 1, n + 1))
        system[n, n] = 0
        system[:n, :n] = [[gamma(a, b).mean() for b in areas] for a in areas]
        right = np.ones((n + 1, factor**2))
        right[:n] = [gamma(points + np.array(centre), area).mean(axis=-1) for area in areas]
        weights = np.linalg.solve(system, right)[:n]
        values = np.array([residual[place] for place in used])
        row, column = (int(part) * factor for part in centre)
        block = (weights.T @ values).reshape(factor, factor)
        result[row : row + factor, column : column + factor] = block
    return result


@pytest.mark.parametrize("range_", [0.4, 4.0, 60.0])
@pytest.mark.parametrize(("factor", "radius"), [(4, 2), (3, 1)])
def test_near_gaps_and_borders_the_system_is_solved_exactly(
    noise_with_gaps, range_, factor, radius
):
    residual = noise_with_gaps(3, 0.35, (6, 5))
    found = apply_weights(residual, kriging_weights(range_, factor, radius))
    expected = brute_force(residual, range_, factor, radius)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize("range_", RANGES)
@pytest.mark.parametrize("factor", [2, 4, 5])
def test_weights_sum_to_one_and_average_to_the_middle_pixel(range_, factor):
    weights = kriging_weights(range_, factor).weights
    assert weights.shape == (factor**2, 25)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-9)
    middle = np.eye(25)[12]
    np.testing.assert_allclose(weights.mean(axis=0), middle, atol=1e-9)
    # Turning the window turns the weights.
    turned = weights.reshape(factor, factor, 5, 5)
    np.testing.assert_allclose(turned, turned.transpose(1, 0, 3, 2), atol=1e-9)
    np.testing.assert_allclose(turned, turned[::-1, :, ::-1], atol=1e-9)


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.1, 0.5, 0.9]), st.sampled_from(RANGES))
@settings(max_examples=60, deadline=None)
def test_block_means_are_kept_near_gaps_and_borders_too(noise_with_gaps, seed, share, range_):
    residual = noise_with_gaps(seed, share)
    fine = apply_weights(residual, kriging_weights(range_, 4))
    means = fine.reshape(8, 4, 9, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(means, residual, rtol=0, atol=1e-7)
    constant = apply_weights(np.where(np.isnan(residual), np.nan, 3.0), kriging_weights(range_, 4))
    np.testing.assert_allclose(constant[~np.isnan(constant)], 3.0, atol=1e-7)


def test_a_lone_pixel_and_tiny_rasters_are_repeated():
    residual = np.full((5, 5), np.nan)
    residual[2, 3] = 1.5
    fine = apply_weights(residual, kriging_weights(4.0, 4))
    np.testing.assert_allclose(fine[8:12, 12:16], 1.5, atol=1e-9)
    assert np.isnan(fine).sum() == 400 - 16
    np.testing.assert_allclose(apply_weights(np.array([[2.0]]), kriging_weights(4.0, 4)), 2.0)


def test_a_gap_changes_only_windows_that_reach_it(noise_with_gaps):
    residual = noise_with_gaps(0, 0.0, (12, 12))
    kriging = kriging_weights(4.0, 4)
    whole = apply_weights(residual, kriging)
    residual[5, 6] = np.nan
    changed = np.abs(apply_weights(residual, kriging) - whole) > 1e-9
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 12 and rows.max() < 32 and columns.min() >= 16 and columns.max() < 36


def test_batches_and_strips_make_no_difference(noise_with_gaps, monkeypatch):
    residual = noise_with_gaps(5, 0.4, (20, 13)).astype(np.float32)
    kriging = kriging_weights(3.0, 4)
    whole = apply_weights(residual, kriging)
    monkeypatch.setattr("keras_lstsr.sharpening.kriging._WINDOWS_AT_A_TIME", 30)
    monkeypatch.setattr("keras_lstsr.sharpening.kriging._NUMBERS_AT_A_TIME", 200)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(apply_weights(residual, kriging), whole, atol=1e-6)


def test_the_papers_border_has_no_residual(noise_with_gaps):
    residual = noise_with_gaps(5, 0.2)
    kriging = kriging_weights(3.0, 4)
    fine = apply_weights(residual, kriging, border=False)
    inner = (slice(8, -8), slice(8, -8))
    np.testing.assert_array_equal(fine[inner], apply_weights(residual, kriging)[inner])
    fine[inner] = 0.0
    assert set(np.unique(fine[~np.isnan(fine)])) == {0.0}
    np.testing.assert_array_equal(
        np.isnan(fine[:8]), np.isnan(np.repeat(np.repeat(residual, 4, 0), 4, 1))[:8]
    )


def test_range_is_fitted_unless_given():
    rng = np.random.default_rng(0)
    residual = rng.normal(size=(30, 30)).cumsum(axis=0).cumsum(axis=1) / 50
    fitted = residual_variogram(residual, 4).range_pixels
    np.testing.assert_array_equal(
        kriged_residual(residual, 4), kriged_residual(residual, 4, range_pixels=fitted)
    )
    assert (
        np.abs(kriged_residual(residual, 4, range_pixels=0.2) - kriged_residual(residual, 4)).max()
        > 0.01
    )


def test_a_fit_that_runs_away_becomes_a_straight_line():
    residual = np.add.outer(np.arange(12.0), np.arange(12.0))
    point = residual_variogram(residual, 4, report="averaged")
    assert point.range_pixels == 1e4  # the free fit goes to 1e9 and beyond
    inner = (slice(8, -8), slice(8, -8))
    found = kriged_residual(residual, 4, report="averaged")[inner]
    fine = np.add.outer(*[(np.arange(48) + 0.5) / 4 - 0.5] * 2)
    np.testing.assert_allclose(found, fine[inner], atol=0.05)


def test_a_residual_that_cannot_be_measured_is_kriged_with_a_stand_in():
    with pytest.warns(SharpeningWarning, match="could not be fitted"):
        residual_variogram(np.ones((3, 3)), 4, 2, "averaged")
    with pytest.warns(SharpeningWarning, match="too few pairs"):
        fine = kriged_residual(np.array([[1.0, 2.0]]), 4)
    np.testing.assert_allclose(fine.reshape(4, 2, 4).mean(axis=(0, 2)), [1.0, 2.0])


@pytest.mark.parametrize(
    "options", [{"radius": 0}, {"range_pixels": 0.0}, {"report": "exact"}, {"range_pixels": np.nan}]
)
def test_unusable_options(options):
    with pytest.raises(ConfigError):
        kriged_residual(np.ones((6, 6)), 4, **options)
