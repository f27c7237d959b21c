"""The loss without truth: which of its two terms a sample has, and what the metric counts."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import (
    DetailLoss,
    MeanGradientError,
    MixedGradientLoss,
    SelfSupervisedLoss,
)

OPTIONS = {"alpha": 0.3, "window_pixels": 3, "mtf_at_nyquist": 0.2, "std_weight": 0.4}


def case() -> tuple[np.ndarray, np.ndarray]:
    """Two samples of a truly fine target and one that repeats the coarse LST, with gaps."""
    rng = np.random.default_rng(5)
    y_true = rng.normal(300, 3, (3, 32, 32, 3))
    y_true[..., 1] = rng.uniform(0.1, 0.8, y_true.shape[:3])
    y_true[2, ..., 0] = np.kron(rng.normal(300, 3, (8, 8)), np.ones((4, 4)))
    y_true[..., 2] = np.array([1.0, 1.0, 0.0])[:, None, None]
    y_true[0, :4, :, 0] = np.nan
    y_true[2, :4, :, :2] = np.nan
    y_pred = np.concatenate(
        [rng.normal(300, 3, (3, 32, 32, 1)), rng.uniform(0.5, 2, (3, 32, 32, 1))], axis=-1
    )
    return y_true, y_pred


def values(loss: keras.losses.Loss, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return keras.ops.convert_to_numpy(loss.call(*tensors))


def test_each_sample_has_the_loss_of_its_step():
    y_true, y_pred = case()
    found = values(SelfSupervisedLoss(0.5, **OPTIONS, dtype="float64"), y_true, y_pred)
    detail = values(DetailLoss(0.4, dtype="float64"), y_true[..., :1], y_pred)
    mixgl = MixedGradientLoss(
        0.3,
        ndvi_scale_kelvin="windows",
        window_pixels=3,
        consistency="psf",
        mtf_at_nyquist=0.2,
        dtype="float64",
    )
    textured = values(mixgl, y_true[..., :2], y_pred[..., :1])
    np.testing.assert_allclose(found, [*detail[:2], 0.5 * textured[2]], rtol=1e-12)


def test_gradients_are_finite_and_stay_out_of_gaps(value_and_gradient):
    y_true, y_pred = case()
    value, gradient = value_and_gradient(SelfSupervisedLoss(dtype="float64"), y_true, y_pred)
    assert np.isfinite(value) and np.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[np.isnan(y_true[..., 0])], 0)
    # From 1 km to 250 m no error is known, and no standard deviation is taught.
    assert np.any(gradient[:2, ..., 1]) and not np.any(gradient[2, ..., 1])


def test_the_metric_counts_the_step_without_truth_alone():
    y_true, y_pred = case()
    metric, alone = MeanGradientError(dtype="float64"), MeanGradientError(dtype="float64")
    metric.update_state(y_true, y_pred)
    alone.update_state(y_true[2:, ..., :2], y_pred[2:, ..., :1])
    assert float(metric.result()) == pytest.approx(float(alone.result()), rel=1e-12)


def test_comes_back_from_its_configuration():
    loss = SelfSupervisedLoss(0.5, **OPTIONS, consistency="norm_l4", dtype="float64")
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(loss)))
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    np.testing.assert_array_equal(values(again, *case()), values(loss, *case()))
    with pytest.raises(ConfigError, match=r"loss\.options\.mixgl_weight"):
        SelfSupervisedLoss(-1.0)
