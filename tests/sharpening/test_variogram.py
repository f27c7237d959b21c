"""Semivariograms against brute force over pairs, and fits of variograms that are known."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.sharpening.fallback import SharpeningWarning
from keras_lstsr.sharpening.variogram import (
    DEFAULT_RANGE_PIXELS,
    EmpiricalVariogram,
    block_semivariance,
    empirical_semivariogram,
    exponential,
    fit_as_published,
    fit_point_variogram,
    lag_classes,
    point_to_block_semivariance,
)


def pairs_by_lag(values):
    """Half squared differences of all pairs of valid pixels, by lag class."""
    found = {}
    places = list(zip(*np.nonzero(~np.isnan(values)), strict=True))
    for number, first in enumerate(places):
        for second in places[number + 1 :]:
            lag = tuple(sorted(abs(int(a) - int(b)) for a, b in zip(first, second, strict=True)))
            found.setdefault(lag, []).append((values[first] - values[second]) ** 2 / 2)
    return found


def test_semivariogram_over_pairs_is_brute_force(noise_with_gaps):
    values = noise_with_gaps(0, 0.2)
    measured = empirical_semivariogram(values)
    expected = pairs_by_lag(values)
    assert (
        measured.lags[0] == (0, 0) and measured.gamma_kelvin2[0] == 0 and len(measured.lags) == 15
    )
    for lag, gamma, pairs in zip(
        measured.lags[1:], measured.gamma_kelvin2[1:], measured.pairs[1:], strict=True
    ):
        assert pairs == len(expected[lag])
        assert gamma == pytest.approx(np.mean(expected[lag]))


def test_semivariogram_over_windows_is_brute_force(noise_with_gaps):
    values = noise_with_gaps(0, 0.2)
    measured = empirical_semivariogram(values, 2, "windows")
    by_window = [
        pairs_by_lag(values[row : row + 5, column : column + 5])
        for row in range(values.shape[0] - 4)
        for column in range(values.shape[1] - 4)
    ]
    for lag, gamma in zip(measured.lags[1:], measured.gamma_kelvin2[1:], strict=True):
        means = [np.mean(window[lag]) for window in by_window if lag in window]
        assert gamma == pytest.approx(np.mean([mean for mean in means if mean > 0]))


def test_lags_that_nothing_measures():
    measured = empirical_semivariogram(np.array([[1.0, 3.0]]))
    assert measured.gamma_kelvin2[:2].tolist() == [0.0, 2.0]
    assert measured.pairs.tolist() == [0.0, 1.0] + [0.0] * 13
    assert np.isnan(measured.gamma_kelvin2[2:]).all()
    assert np.isnan(empirical_semivariogram(np.ones((2, 2)), 2, "windows").gamma_kelvin2[1:]).all()


def test_means_over_areas_are_brute_force():
    factor, range_ = 3, 2.5
    points = np.stack(np.mgrid[:factor, :factor], -1).reshape(-1, 2) / factor
    for lag in [(0, 0), (0, 1), (2, 3)]:
        far = points + np.array(lag)
        distance = np.linalg.norm(points[:, None] - far[None], axis=-1)
        expected = exponential(distance, 1.0, range_).mean()
        assert block_semivariance((lag,), range_, factor)[0] == pytest.approx(expected)
    to_areas = point_to_block_semivariance(1, range_, factor)
    area = points + np.array([1, -1])  # the sixth of 3 × 3: below, to the left
    distance = np.linalg.norm(points[:, None] - area[None], axis=-1)
    np.testing.assert_allclose(to_areas[:, 6], exponential(distance, 1.0, range_).mean(axis=1))


@pytest.mark.parametrize("range_", [0.5, 3.0, 40.0])
def test_a_known_point_variogram_is_found_again(range_):
    lags = lag_classes(2)
    means = 1.7 * block_semivariance(lags, range_, 4)
    measured = EmpiricalVariogram(lags, means - means[0], np.r_[0.0, np.full(14, 500.0)])
    point = fit_point_variogram(measured, 4)
    assert point.range_pixels == pytest.approx(range_, rel=1e-2)
    assert point.sill_kelvin2 == pytest.approx(1.7, rel=1e-2)
    if range_ < 10:  # with longer ranges the published, free fit runs away
        published = fit_as_published(measured, 4, "averaged")[1]
        assert published.range_pixels == pytest.approx(range_, rel=1e-3)


def test_fallbacks():
    few = empirical_semivariogram(np.array([[1.0, 3.0]]))
    with pytest.warns(SharpeningWarning, match="too few pairs"):
        assert fit_point_variogram(few, 4).range_pixels == DEFAULT_RANGE_PIXELS
    flat = empirical_semivariogram(np.zeros((8, 8)))
    assert fit_point_variogram(flat, 4).sill_kelvin2 == 0.0
    with pytest.warns(SharpeningWarning, match="could not be fitted"):
        lone = empirical_semivariogram(np.array([[np.nan, 3.0]]), 2, "windows")
        assert fit_as_published(lone, 4, "averaged")[1].range_pixels == DEFAULT_RANGE_PIXELS
    with pytest.raises(ConfigError, match="factor 4 only"):
        fit_as_published(flat, 2, "verbatim")


def test_uncorrelated_and_trending_residuals_end_at_the_bounds():
    rng = np.random.default_rng(0)
    noise = fit_point_variogram(empirical_semivariogram(rng.normal(size=(200, 200))), 4)
    assert noise.range_pixels < 0.8
    slope = fit_point_variogram(empirical_semivariogram(np.add.outer(*[np.arange(40.0)] * 2)), 4)
    assert slope.range_pixels > 500
