"""The loss of detail and its spread, by its closed form and by finite differences."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import DetailLoss


def case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    y_true = rng.normal(300, 3, (3, 8, 8, 1))
    y_pred = np.concatenate(
        [rng.normal(302, 3, y_true.shape), rng.uniform(0.5, 2.0, y_true.shape)], axis=-1
    )
    y_true[0, :4] = np.nan
    y_pred[1, :, 5] = np.nan
    y_true[2] = np.nan
    return y_true, y_pred


def values(loss: keras.losses.Loss, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return keras.ops.convert_to_numpy(loss.call(*tensors))


@pytest.mark.parametrize("weight", [0.0, 0.1, 2.0])
def test_is_what_it_says_per_image(weight):
    y_true, y_pred = case()
    error = y_pred[..., 0] - y_true[..., 0]
    std = y_pred[..., 1]
    expected = []
    for each, spread in zip(error[:2], std[:2], strict=True):
        squared = (each - np.nanmean(each)) ** 2
        density = np.log(spread) + squared / (2 * spread**2)
        expected.append(np.nanmean(squared) + weight * np.nanmean(density))
    found = values(DetailLoss(weight, dtype="float64"), y_true, y_pred)
    np.testing.assert_allclose(found, [*expected, 0.0], rtol=1e-12)


def test_the_second_channel_weighs_the_likelihood_alone():
    y_true, y_pred = case()
    loss, plain = (DetailLoss(weight, dtype="float64") for weight in (0.5, 0.0))
    for weight, expected in ((1, loss), (0, plain)):
        weighed = np.concatenate([y_true, np.full_like(y_true, weight)], axis=-1)
        np.testing.assert_allclose(
            values(loss, weighed, y_pred), values(expected, y_true, y_pred), rtol=1e-12
        )


def test_a_bias_costs_nothing_and_gets_no_gradient(value_and_gradient):
    y_true, y_pred = case()
    loss = DetailLoss(dtype="float64")
    warmer = y_pred.copy()
    warmer[..., 0] += np.array([5.0, -3.0, 1.0])[:, None, None]
    np.testing.assert_allclose(
        values(loss, y_true, warmer), values(loss, y_true, y_pred), rtol=1e-10
    )
    _, gradient = value_and_gradient(loss, y_true, y_pred)
    np.testing.assert_allclose(gradient[..., 0].sum(axis=(1, 2)), 0, atol=1e-12)


def test_the_best_spread_is_the_error_itself(value_and_gradient):
    rng = np.random.default_rng(6)
    y_true = np.full((1, 16, 16, 1), 300.0)
    kelvin = y_true + rng.normal(0, 1.7, y_true.shape)
    best = np.full_like(kelvin, kelvin.std())
    _, gradient = value_and_gradient(
        DetailLoss(dtype="float64"), y_true, np.concatenate([kelvin, best], axis=-1)
    )
    assert gradient[..., 1].sum() == pytest.approx(0, abs=1e-12)
    assert np.abs(gradient[..., 1]).max() > 0


@pytest.mark.parametrize("channel", [0, 1])
def test_gradient_is_that_of_finite_differences(channel, value_and_gradient):
    y_true, y_pred = case()
    loss = DetailLoss(0.7, dtype="float64")
    # The likelihood takes the error as given, so kelvin feels the squared error alone.
    felt = DetailLoss(0.0, dtype="float64") if channel == 0 else loss
    _, gradient = value_and_gradient(loss, y_true, y_pred)
    rng = np.random.default_rng(7)
    for _ in range(3):
        direction = np.zeros_like(y_pred)
        direction[..., channel] = rng.normal(size=y_pred.shape[:3])
        step = 1e-6 * direction
        ends = [values(felt, y_true, y_pred + sign * step).sum() for sign in (1, -1)]
        along = np.sum(gradient * direction, where=np.isfinite(y_pred))
        assert along == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=2e-5)


def test_gaps_weigh_nothing_and_spoil_nothing(value_and_gradient):
    y_true, y_pred = case()
    loss = DetailLoss(dtype="float64")
    value, gradient = value_and_gradient(loss, y_true, y_pred)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    missing = np.isnan(y_true[..., 0]) | np.isnan(y_pred[..., 0])
    np.testing.assert_array_equal(gradient[missing], 0)
    other = np.where(np.isnan(y_true), 1e4, y_pred)
    np.testing.assert_allclose(values(loss, y_true, other), values(loss, y_true, y_pred))


def test_divergence_shows():
    y_true, y_pred = np.full((2, 4, 4, 1), 300.0), np.full((2, 4, 4, 2), 300.0)
    y_pred[0] = np.nan
    assert np.isnan(values(DetailLoss(dtype="float64"), y_true, y_pred)).tolist() == [True, False]


def test_comes_back_from_its_configuration():
    config = keras.saving.serialize_keras_object(DetailLoss(0.3))
    assert config["registered_name"] == "keras_lstsr>DetailLoss"
    again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
    assert again.get_config() == DetailLoss(0.3).get_config()
    assert again.std_weight == 0.3
    with pytest.raises(ConfigError, match="std_weight"):
        DetailLoss(-0.1)


@pytest.mark.parametrize("power", [0.5, 1.0])
def test_squared_errors_are_divided_by_a_power_of_the_truths_detail(power):
    y_true, y_pred = case()
    expected = []
    for truth, kelvin in zip(y_true[:2, ..., 0], y_pred[:2, ..., 0], strict=True):
        error = kelvin - truth
        variance, pixels = 0.0, 0
        for row in (0, 4):
            for column in (0, 4):
                block = truth[row : row + 4, column : column + 4]
                known = block[np.isfinite(block)]
                if known.size:
                    variance += known.size * known.var()
                    pixels += known.size
        unit = (variance / pixels + 0.09) ** power
        expected.append(np.nanmean((error - np.nanmean(error)) ** 2) / unit)
    loss = DetailLoss(std_weight=0.0, detail_power=power)
    found = values(loss, y_true, y_pred)
    np.testing.assert_allclose(found[:2], expected, rtol=1e-5)
    assert found[2] == 0


def test_a_smooth_image_counts_as_much_as_its_detail_is_small():
    rng = np.random.default_rng(6)
    truth = rng.normal(300, 4, (1, 16, 16, 1))
    error = rng.normal(0, 1, truth.shape)
    std = np.ones_like(truth)

    def loss(scale, power):
        smooth = 300 + scale * (truth - 300)
        prediction = np.concatenate([smooth + scale * error, std], axis=-1)
        return values(DetailLoss(std_weight=0.0, detail_power=power), smooth, prediction)[0]

    assert loss(0.2, 0.0) == pytest.approx(0.04 * loss(1.0, 0.0), rel=1e-3)
    # Alike but for the least detail of 0.3 K beside 0.8 K.
    assert loss(0.2, 1.0) == pytest.approx(loss(1.0, 1.0), rel=0.15)
