from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.losses import MixedGradientLoss, ScaleInvarianceFreeLoss
from keras_lstsr.losses.consistency import gaussian_sigma
from keras_lstsr.losses.gradients import directional_derivatives

SCALE = -12.0
TENTH = {"mtf_at_nyquist": 0.1}


def loss(**options) -> ScaleInvarianceFreeLoss:
    return ScaleInvarianceFreeLoss(**{"ndvi_scale_kelvin": SCALE, "dtype": "float64", **options})


def term(method, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return keras.ops.convert_to_numpy(method(*tensors))


def stacked(lst_kelvin: np.ndarray, ndvi: np.ndarray | float = 0.4) -> np.ndarray:
    return np.concatenate([lst_kelvin, np.broadcast_to(ndvi, lst_kelvin.shape)], axis=-1)


def ndvi(side: int = 48) -> np.ndarray:
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.uniform(0.1, 0.8, (2, side // 8, side // 8)), np.ones((8, 8)))
    return (blocks + rng.normal(0, 0.03, blocks.shape))[..., None]


class TestDirections:
    @pytest.mark.parametrize("angle", [0.0, 0.4, 1.1, 2.7])
    def test_a_ramp_costs_its_squared_slope_in_two_and_four(self, angle):
        rows, columns = np.mgrid[0:9, 0:11].astype(np.float64)
        ramp = (3.0 * (np.cos(angle) * columns + np.sin(angle) * rows))[None, :, :, None]
        for directions in (2, 4):
            texture = term(loss(directions=directions).texture_error, stacked(ramp + 300), ramp)
            np.testing.assert_allclose(texture, 9.0, rtol=1e-12)

    def test_the_diagonal_of_a_diagonal_ramp(self):
        rows, columns = np.mgrid[0:7, 0:7].astype(np.float64)
        north_east = ((columns - rows) / np.sqrt(2))[None, :, :, None]
        slopes = [
            float(keras.ops.convert_to_numpy(each)[0, 0, 0, 0])
            for each in directional_derivatives(keras.ops.convert_to_tensor(north_east), 4)
        ]
        half = np.sqrt(0.5)
        np.testing.assert_allclose(slopes, [half, -half, 1, 0], atol=1e-6)

    def test_two_directions_are_the_gradient_error_of_mixgl(self):
        green = ndvi()
        prediction = np.random.default_rng(1).normal(300, 2, green.shape)
        mixgl = MixedGradientLoss(ndvi_scale_kelvin=SCALE, dtype="float64")
        y_true = stacked(prediction + 1, green)
        np.testing.assert_allclose(
            term(loss(directions=2).texture_error, y_true, prediction),
            term(mixgl.mean_gradient_error, y_true, prediction),
            rtol=1e-10,
        )

    @pytest.mark.parametrize(
        "move",
        [lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: np.rot90(x, axes=(1, 2))],
        ids=["up-down", "left-right", "quarter turn"],
    )
    def test_flips_and_turns_change_nothing(self, move):
        green = ndvi()
        prediction = np.random.default_rng(2).normal(300, 2, green.shape)
        y_true = stacked(305 + SCALE * green, green)
        np.testing.assert_allclose(
            term(loss().call, move(y_true).copy(), move(prediction).copy()),
            term(loss().call, y_true, prediction),
            rtol=1e-9,
        )


class TestTexture:
    @pytest.mark.parametrize("directions", [2, 4])
    def test_zero_for_a_field_that_follows_ndvi_and_four_times_for_its_negative(self, directions):
        green = ndvi()
        texture = loss(directions=directions).texture_error
        y_true = stacked(np.full(green.shape, 305.0), green)
        np.testing.assert_allclose(term(texture, y_true, 305 + SCALE * green), 0, atol=1e-20)
        flat = term(texture, y_true, np.full(green.shape, 305.0))
        assert flat.min() > 0.1
        np.testing.assert_allclose(term(texture, y_true, 305 - SCALE * green), 4 * flat, rtol=1e-9)

    def test_gamma_weighs_it(self):
        green = ndvi()
        prediction = np.random.default_rng(3).normal(300, 2, green.shape)
        y_true = stacked(305 + SCALE * green, green)
        for gamma in (0.0, 2.5):
            made = loss(gamma=gamma)
            expected = term(made.consistency_error, y_true, prediction)
            expected = expected + gamma * term(made.texture_error, y_true, prediction)
            np.testing.assert_allclose(term(made.call, y_true, prediction), expected, rtol=1e-12)


class TestConsistency:
    @pytest.mark.parametrize("psf", ["gaussian", "norm_l4", "box"])
    def test_of_a_shift(self, psf):
        flat = np.full((1, 48, 48, 1), 300.0)
        np.testing.assert_allclose(
            term(loss(psf=psf).consistency_error, stacked(flat), flat + 1.5), 2.25, rtol=1e-7
        )

    def test_the_gaussian_transfers_a_tenth_of_the_nyquist_wave(self):
        # L is flat; T has a wave of two coarse pixels, of which the sensor sees a tenth.
        columns = np.arange(96)
        wave = 0.5 * np.cos(np.pi * (columns - 1.5) / 4)
        fine = np.broadcast_to(300 + wave, (96, 96))[None, :, :, None]
        flat = np.full(fine.shape, 300.0)
        error = term(loss(**TENTH, minimum_coverage=0.999).consistency_error, stacked(flat), fine)
        # The fourth power of a wave has a mean above its own: 1.5 var / 300 = 0.6 mK.
        assert np.sqrt(error[0]) == pytest.approx(0.05, rel=0.02)
        box = term(loss(psf="box").consistency_error, stacked(flat), fine)
        # The box transfers sin(π/2)/(π/2) of it, a little more for four samples.
        assert np.sqrt(box[0]) == pytest.approx(0.5 / (4 * np.sin(np.pi / 8)), rel=1e-9)

    def test_norm_l4_is_mixgls(self):
        green = ndvi()
        prediction = np.random.default_rng(5).normal(300, 2, green.shape)
        y_true = stacked(305 + SCALE * green, green)
        mixgl = MixedGradientLoss(dtype="float64")
        np.testing.assert_allclose(
            term(loss(psf="norm_l4").consistency_error, y_true, prediction),
            term(mixgl.mean_squared_error, y_true, prediction),
            rtol=1e-12,
        )

    def test_pixels_whose_psf_lies_in_gaps_do_not_count(self):
        flat = np.full((1, 96, 96, 1), 300.0)
        spiked = flat.copy()
        spiked[0, 40:44, 40:44] += 5.0  # one coarse pixel in the middle
        assert term(loss(**TENTH).consistency_error, stacked(flat), spiked)[0] > 0
        # Blind the sensor where the spike would have been seen.
        reach = int(np.ceil(4 * gaussian_sigma(4, 0.1))) + 4
        holed = stacked(flat)
        holed[0, 40 - reach : 44 + reach, 40 - reach : 44 + reach, 0] = np.nan
        np.testing.assert_allclose(
            term(loss(**TENTH).consistency_error, holed, spiked), 0, atol=1e-12
        )

    def test_the_outermost_pixels_saw_beyond_the_image(self):
        flat = np.full((1, 48, 48, 1), 300.0)
        edge = flat.copy()
        edge[0, :1] += 50.0
        inner = loss(minimum_coverage=0.999).consistency_error
        assert term(inner, stacked(flat), edge)[0] < 1e-3
        assert term(loss(minimum_coverage=0.5).consistency_error, stacked(flat), edge)[0] > 1


def test_going_down_the_loss_finds_the_fine_field(value_and_gradient):
    green = ndvi(24)[:1]
    truth = 305 + SCALE * green
    blocks = truth.reshape(1, 6, 4, 6, 4)
    coarse = np.mean(blocks**4, axis=(2, 4)) ** 0.25
    field = start = np.kron(coarse, np.ones((1, 4, 4)))[..., None]
    made = loss(psf="norm_l4")
    for _ in range(60):
        _, gradient = value_and_gradient(made, stacked(start, green), field)
        field = field - 100.0 * gradient
    # Sobel's operator does not see the finest noise of NDVI, so some is left.
    assert np.std(field - truth) < 0.4 * np.std(start - truth)
