from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy.signal import correlate2d

from keras_lstsr.losses.gradients import (
    magnitude,
    neighbourhood_valid,
    sobel,
    sobel_report,
)

GX = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=np.float64)
GY_REPORT = np.array([[-1, -2, 1], [0, 0, 0], [1, 2, 1]], dtype=np.float64)


def image(seed: int = 0, shape: tuple[int, int] = (12, 17)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def applied(operator, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gx, gy = operator(keras.ops.convert_to_tensor(values[None, :, :, None], "float64"))
    return tuple(keras.ops.convert_to_numpy(g)[0, :, :, 0] for g in (gx, gy))


@pytest.mark.parametrize(
    ("operator", "kernels"), [(sobel, (GX / 8, GX.T / 8)), (sobel_report, (GX, GY_REPORT))]
)
def test_operators_are_correlations_with_their_kernels(operator, kernels):
    values = image()
    for component, kernel in zip(applied(operator, values), kernels, strict=True):
        np.testing.assert_allclose(component, correlate2d(values, kernel, "valid"), atol=1e-12)


def test_a_ramp_of_one_per_pixel_has_the_gradient_one():
    rows, columns = np.mgrid[0:9, 0:11].astype(np.float64)
    gx, gy = applied(sobel, 290 + 2.0 * columns - 0.5 * rows)
    np.testing.assert_allclose(gx, 2.0, atol=1e-12)
    np.testing.assert_allclose(gy, -0.5, atol=1e-12)


def test_a_constant_field_has_no_gradient_but_in_the_report():
    constant = np.full((6, 6), 0.87)
    for component in applied(sobel, constant):
        np.testing.assert_array_equal(component, 0)
    gx, gy = applied(sobel_report, constant)
    np.testing.assert_array_equal(gx, 0)
    np.testing.assert_allclose(gy, 1.74, rtol=1e-12)


def test_flips_and_turns_turn_the_gradient_along():
    values = image(3)
    gx, gy = applied(sobel, values)
    flipped_gx, flipped_gy = applied(sobel, values[:, ::-1])
    np.testing.assert_allclose(flipped_gx, -gx[:, ::-1], atol=1e-12)
    np.testing.assert_allclose(flipped_gy, gy[:, ::-1], atol=1e-12)
    # Turned against the clock, what grew to the right grows upwards.
    turned_gx, turned_gy = applied(sobel, np.rot90(values))
    np.testing.assert_allclose(turned_gx, np.rot90(gy), atol=1e-12)
    np.testing.assert_allclose(turned_gy, -np.rot90(gx), atol=1e-12)


def test_magnitude_is_finite_and_smooth_at_zero():
    assert float(magnitude(0.0, 0.0)) == pytest.approx(0.01)
    assert float(magnitude(3.0, 4.0)) == pytest.approx(5.0, rel=1e-5)


def test_a_gradient_is_valid_where_its_nine_pixels_are():
    valid = np.random.default_rng(1).random((2, 9, 8, 1)) > 0.1
    expected = np.lib.stride_tricks.sliding_window_view(valid, (3, 3), axis=(1, 2)).all((-2, -1))
    np.testing.assert_array_equal(neighbourhood_valid(keras.ops.convert_to_tensor(valid)), expected)


@pytest.mark.real_data
@pytest.mark.parametrize("seed", [3, 4])
def test_golden_normalised_gradient(seed, lstsr_reference):
    golden = np.load(lstsr_reference / "golden" / "loss_gradient.npz")
    values = np.random.default_rng(seed).uniform(0, 1, (2, 1, 32, 32)).astype(np.float32)
    strength = keras.ops.convert_to_numpy(magnitude(*sobel_report(values[:, 0, :, :, None])))
    expected = golden[f"gradient_seed{seed}"][:, 0, :, :, None]
    np.testing.assert_allclose(strength / strength.max(), expected, rtol=0, atol=1e-6)
    if seed == 3:
        np.testing.assert_allclose(strength.max(), golden["raw_max_seed3"], rtol=1e-6)
