"""Calibrated intervals hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.training.calibration import calibrate, standardised_errors


def test_errors_are_without_bias_in_standard_deviations():
    truth = np.array([[300.0, 301.0], [np.nan, 303.0]])
    kelvin = np.array([[302.0, 305.0], [300.0, 305.0]])
    std = np.array([[1.0, 2.0], [1.0, 0.5]])
    # Errors 2, 4 and 2, mean 8/3.
    expected = (np.array([2, 4, 2]) - 8 / 3) / np.array([1, 2, 0.5])
    np.testing.assert_allclose(standardised_errors(kelvin, std, truth), expected)
    assert standardised_errors(kelvin, std, np.full((2, 2), np.nan)).size == 0


def test_too_narrow_ones_are_widened_by_what_they_lack():
    rng = np.random.default_rng(0)
    errors = {
        fold: [1.6 * rng.normal(size=20_000), 1.6 * rng.normal(size=10_000)] for fold in (1, 2)
    }
    found = calibrate(errors)
    assert found.factor == pytest.approx(1.6, rel=0.01)
    assert found.coverage_before == pytest.approx(0.696, abs=0.01)  # 2 Φ(1.645 / 1.6) − 1
    assert found.coverage_by_fold == pytest.approx((0.9, 0.9), abs=0.01)
    assert found.pixels == 60_000


def test_whatever_their_distribution_the_share_is_held_exactly():
    errors = np.random.default_rng(1).standard_t(2, 9_999)
    found = calibrate({1: [errors]}, share=0.8)
    held = np.abs(errors) <= 1.2815515655446004 * found.factor
    assert held.mean() == pytest.approx(0.8, abs=2e-4)
    assert found.coverage_by_fold == ()


def test_a_fold_is_judged_by_the_others():
    quiet, loud = np.linspace(-1, 1, 1001), np.linspace(-2, 2, 1001)
    found = calibrate({1: [quiet], 2: [loud]})
    assert found.coverage_by_fold == pytest.approx((1.0, 0.45), abs=0.01)


def test_nothing_to_calibrate_on():
    with pytest.raises(ConfigError, match="no pixel"):
        calibrate({1: [np.array([])], 2: []})
