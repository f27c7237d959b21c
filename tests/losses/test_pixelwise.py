from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_lstsr.losses import (
    MaskedCharbonnier,
    MaskedHuber,
    MaskedMeanAbsoluteError,
    MaskedMeanSquaredError,
)


def values(loss, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return keras.ops.convert_to_numpy(loss.call(*tensors))


def case() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    y_true, y_pred = rng.normal(300, 3, (3, 8, 8, 2)), rng.normal(300, 3, (3, 8, 8, 1))
    y_true[0, :4, :, 0] = np.nan
    y_pred[1, :, 5] = np.nan
    y_true[2, ..., 0] = np.nan
    return y_true, y_pred


def huber(error: np.ndarray, delta: float) -> np.ndarray:
    return np.where(np.abs(error) <= delta, error**2 / 2, delta * (np.abs(error) - delta / 2))


@pytest.mark.parametrize(
    ("loss", "penalty"),
    [
        (MaskedMeanSquaredError(2.0, dtype="float64"), lambda e: (e / 2) ** 2),
        (MaskedMeanAbsoluteError(2.0, dtype="float64"), lambda e: np.abs(e) / 2),
        (MaskedHuber(1.5, dtype="float64"), lambda e: huber(e, 1.5)),
        (MaskedHuber(1.5, 10.0, dtype="float64"), lambda e: huber(e, 1.5) / 100),
        (MaskedCharbonnier(0.3, dtype="float64"), lambda e: np.sqrt(e**2 + 0.09)),
        (MaskedCharbonnier(0.3, 10.0, dtype="float64"), lambda e: np.sqrt(e**2 + 0.09) / 10),
    ],
    ids=["mse", "mae", "huber", "huber scaled", "charbonnier", "charbonnier scaled"],
)
def test_nanmean_of_the_penalty_per_sample(loss, penalty):
    y_true, y_pred = case()
    penalties = penalty(y_pred - y_true[..., :1])
    expected = [*np.nanmean(penalties[:2], axis=(1, 2, 3)), 0.0]
    np.testing.assert_allclose(values(loss, y_true, y_pred), expected, rtol=1e-12)
    # One number for the batch is the mean over samples.
    assert float(loss(y_true, y_pred)) == pytest.approx(np.mean(expected), rel=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.floats(-50, 50), st.floats(0.1, 10))
def test_huber_lies_between_its_two_branches(error, delta):
    truth = np.full((1, 2, 2, 1), 300.0)
    loss = values(MaskedHuber(delta, dtype="float64"), truth, truth + error)[0]
    assert loss == pytest.approx(huber(np.array(error), delta), rel=1e-9, abs=1e-12)
    assert loss <= error**2 / 2 + 1e-9


def test_charbonnier_of_a_perfect_prediction_is_epsilon():
    truth = np.full((1, 4, 4, 1), 300.0)
    assert values(MaskedCharbonnier(dtype="float64"), truth, truth)[0] == pytest.approx(1e-3)


class TestMaskedMeanSquaredError:
    def test_gradient(self, value_and_gradient):
        y_true, y_pred = case()
        loss = MaskedMeanSquaredError(dtype="float64")
        value, gradient = value_and_gradient(loss, y_true, y_pred)
        assert np.isfinite(value)
        error = y_pred - y_true[..., :1]
        count = np.isfinite(error).sum(axis=(1, 2, 3), keepdims=True)
        expected = np.where(np.isfinite(error), 2 * error / np.maximum(count, 1), 0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)

    def test_divergence_shows_in_value_and_gradient(self, value_and_gradient):
        y_true = np.full((1, 4, 4, 1), 300.0)
        value, gradient = value_and_gradient(
            MaskedMeanSquaredError(dtype="float64"), y_true, np.full(y_true.shape, np.nan)
        )
        assert np.isnan(value)
        assert gradient.shape == y_true.shape
