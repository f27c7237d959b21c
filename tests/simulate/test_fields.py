from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.simulate.fields import (
    RandomStreams,
    power_law_field,
    uniform_hash,
)


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_spectrum_falls_with_the_exponent_asked_for(exponent: float, log_spectrum) -> None:
    field = power_law_field(np.random.default_rng(1), 512, exponent, outer_scale_pixels=1e6)
    wavenumber, power = log_spectrum(field)
    band = (wavenumber > 0.01) & (wavenumber < 0.3)
    slope = np.polyfit(np.log(wavenumber[band]), np.log(power[band]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.15)


def test_spectrum_levels_off_above_the_outer_scale(log_spectrum) -> None:
    field = power_law_field(np.random.default_rng(2), 512, 4.0, outer_scale_pixels=16)
    wavenumber, power = log_spectrum(field)
    band = (wavenumber > 0.004) & (wavenumber < 0.02)
    slope = np.polyfit(np.log(wavenumber[band]), np.log(power[band]), 1)[0]
    assert abs(slope) < 0.6


def test_field_is_standardised() -> None:
    field = power_law_field(np.random.default_rng(3), 96, 3.0, 50)
    assert field.dtype == np.float32
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)


def test_streams_depend_on_key_and_name_alone() -> None:
    first = RandomStreams((1, 18, 4)).generator("clouds").standard_normal(8)
    again = RandomStreams((1, 18, 4)).generator("clouds").standard_normal(8)
    np.testing.assert_array_equal(first, again)
    for other in (
        RandomStreams((2, 18, 4)).generator("clouds"),
        RandomStreams((1, 18, 5)).generator("clouds"),
        RandomStreams((1, 18, 4)).generator("rivers"),
    ):
        assert not np.array_equal(first, other.standard_normal(8))


def test_hash_is_uniform_and_constant_per_key() -> None:
    rows, columns = np.mgrid[0:300, 0:300]
    values = uniform_hash(rows, columns, 7)
    assert values.min() >= 0
    assert values.max() < 1
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    # 90 000 draws: the standard deviation of a tenth's count is 90.
    assert np.abs(counts - 9000).max() < 450
    assert abs(np.corrcoef(values[:, :-1].ravel(), values[:, 1:].ravel())[0, 1]) < 0.02
    np.testing.assert_array_equal(
        uniform_hash(rows // 50, columns // 50, 7)[:50, :50], values[0, 0]
    )
    assert not np.array_equal(values, uniform_hash(rows, columns, 8))
