from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.losses import MeanGradientError, MixedGradientLoss
from keras_lstsr.losses.monitoring import mge_options
from keras_lstsr.metrics import image


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for samples in (4, 4, 3):
        target = rng.normal([300, 0.4], [4, 0.1], (samples, 16, 16, 2)).astype(np.float32)
        predicted = rng.normal(300, 2, (samples, 16, 16, 1)).astype(np.float32)
        target[rng.random(target.shape) < 0.03] = np.nan
        predicted[rng.random(predicted.shape) < 0.03] = np.nan
        made.append((target, predicted))
    made[1][0][2] = np.nan
    made[2][1][0] = np.nan
    return made


def test_is_the_mean_of_numpys_over_images_that_have_any():
    scale = -12.0
    metric = MeanGradientError({"ndvi_scale_kelvin": scale})
    expected = []
    for target, predicted in batches():
        metric.update_state(target, predicted)
        for truth, guess in zip(target, predicted[..., 0], strict=True):
            seen = np.where(np.isnan(truth[..., 0]), np.nan, guess)
            expected.append(image.mean_gradient_error(seen, truth[..., 1], ndvi_scale_kelvin=scale))
    assert np.isnan(expected).sum() == 2
    assert float(metric.result()) == pytest.approx(np.nanmean(expected), rel=1e-5)


def test_by_default_it_is_that_of_the_right_mixgl():
    target, predicted = batches()[0]
    metric = MeanGradientError()
    metric.update_state(target, predicted)
    loss = MixedGradientLoss(0.2, consistency="none")
    assert mge_options(loss) == mge_options(MixedGradientLoss())
    tensors = (keras.ops.convert_to_tensor(each, "float32") for each in (target, predicted))
    expected = np.mean(keras.ops.convert_to_numpy(loss.mean_gradient_error(*tensors)))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_as_the_reports_loss_sees_it():
    target, predicted = batches()[0]
    loss = MixedGradientLoss.report(edge_crop=2)
    metric = MeanGradientError(mge_options(loss))
    metric.update_state(target, predicted)
    tensors = (keras.ops.convert_to_tensor(each, "float32") for each in (target, predicted))
    expected = np.mean(keras.ops.convert_to_numpy(loss.mean_gradient_error(*tensors)))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-6)


def test_nothing_scored_is_nan_weights_choose_and_reset_forgets():
    metric = MeanGradientError()
    assert np.isnan(float(metric.result()))
    target, predicted = batches()[0]
    metric.update_state(target, predicted, sample_weight=np.array([0.0, 1.0, 0.0, 0.0]))
    chosen = float(metric.result())
    metric.reset_state()
    assert np.isnan(float(metric.result()))
    metric.update_state(target[1:2], predicted[1:2])
    assert float(metric.result()) == pytest.approx(chosen, rel=1e-6)
