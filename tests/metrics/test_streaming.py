from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.metrics import image
from keras_lstsr.metrics.streaming import (
    BiasKelvin,
    MeanAbsoluteErrorKelvin,
    PeakSignalToNoiseRatio,
    RootMeanSquareErrorKelvin,
)

POOLED = [
    (RootMeanSquareErrorKelvin, image.rmse),
    (MeanAbsoluteErrorKelvin, image.mae),
    (BiasKelvin, image.bias),
]


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    made = []
    for samples in (4, 4, 3):
        target = rng.normal(300, 4, (samples, 12, 12, 2)).astype(np.float32)
        predicted = (target[..., :1] + rng.normal(0.3, 1, (samples, 12, 12, 1))).astype(np.float32)
        target[rng.random(target.shape) < 0.2] = np.nan
        predicted[rng.random(predicted.shape) < 0.1] = np.nan
        made.append((target, predicted))
    made[1][0][2] = np.nan  # an image without any truth
    made[2][0][0, ..., 0] = 300.0  # and one without range
    return made


@pytest.mark.parametrize(("metric", "definition"), POOLED)
def test_pooled_metrics_are_numpys(metric, definition):
    streaming = metric()
    for target, predicted in batches():
        streaming.update_state(target, predicted)
    truth = np.concatenate([target[..., :1] for target, _ in batches()])
    expected = definition(truth, np.concatenate([predicted for _, predicted in batches()]))
    assert float(streaming.result()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("data_range", [None, 25.0])
def test_psnr_is_the_mean_over_images(data_range):
    streaming = PeakSignalToNoiseRatio(data_range)
    ratios = []
    for target, predicted in batches():
        streaming.update_state(target, predicted)
        ratios += [
            image.psnr(truth, guess, data_range=data_range)
            for truth, guess in zip(target[..., 0], predicted[..., 0], strict=True)
        ]
    assert np.isnan(ratios).any()
    assert float(streaming.result()) == pytest.approx(np.nanmean(ratios), rel=1e-5)


def test_a_perfect_image_has_an_infinite_ratio():
    truth = np.random.default_rng(0).normal(300, 3, (1, 8, 8, 1)).astype(np.float32)
    metric = PeakSignalToNoiseRatio()
    metric.update_state(truth, truth)
    assert float(metric.result()) == np.inf


@pytest.mark.parametrize("metric", [*(m for m, _ in POOLED), PeakSignalToNoiseRatio])
class TestEach:
    def test_nothing_scored_is_nan_and_reset_forgets(self, metric):
        streaming = metric()
        assert np.isnan(float(streaming.result()))
        target, predicted = batches()[0]
        streaming.update_state(target, predicted)
        assert np.isfinite(float(streaming.result()))
        streaming.reset_state()
        streaming.update_state(np.full_like(target, np.nan), predicted)
        assert np.isnan(float(streaming.result()))

    def test_sample_weights_choose_images(self, metric):
        target, predicted = batches()[0]
        weighted, alone = metric(), metric()
        weighted.update_state(target, predicted, sample_weight=np.array([0.0, 1.0, 1.0, 0.0]))
        alone.update_state(target[1:3], predicted[1:3])
        assert float(weighted.result()) == pytest.approx(float(alone.result()), rel=1e-6)

    def test_comes_back_from_its_configuration(self, metric):
        config = keras.saving.serialize_keras_object(metric(name="score"))
        assert config["registered_name"] == f"keras_lstsr>{metric.__name__}"
        again = keras.saving.deserialize_keras_object(config)
        assert isinstance(again, metric)
        assert again.get_config() == metric(name="score").get_config()
