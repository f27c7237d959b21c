from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.metrics import image
from keras_lstsr.metrics.streaming import (
    BiasKelvin,
    GlobalStructuralSimilarity,
    MeanAbsoluteErrorKelvin,
    PeakSignalToNoiseRatio,
    RootMeanSquareErrorKelvin,
    StructuralSimilarity,
)

POOLED = [
    (RootMeanSquareErrorKelvin, image.rmse),
    (MeanAbsoluteErrorKelvin, image.mae),
    (BiasKelvin, image.bias),
]

PER_IMAGE = [
    (PeakSignalToNoiseRatio, image.psnr),
    (StructuralSimilarity, image.ssim),
    (GlobalStructuralSimilarity, image.ssim_global),
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


def images() -> list[tuple[np.ndarray, np.ndarray]]:
    """Smooth fields, a gap in some, of sides that are no multiple of anything."""
    rng = np.random.default_rng(1)
    made = []
    for samples in (3, 4, 2):
        truth = 300 + np.cumsum(rng.normal(0, 0.5, (samples, 23, 26, 1)), axis=2)
        predicted = truth + rng.normal(0.3, 0.8, truth.shape)
        truth[0, 5:9, 20:] = np.nan
        predicted[1, 18:, 2:5] = np.nan
        ndvi = np.full(truth.shape, 0.4)
        made.append((np.concatenate([truth, ndvi], -1), predicted))
    made[1][0][2, :, :, 0] = np.nan  # an image without any truth
    made[1][0][3, ::6, ::6, 0] = np.nan  # one without a whole window
    made[2][0][0, ..., 0] = 300.0  # and one without range
    return [(a.astype(np.float32), b.astype(np.float32)) for a, b in made]


@pytest.mark.parametrize("data_range", [None, 25.0])
@pytest.mark.parametrize(("metric", "definition"), PER_IMAGE)
def test_metrics_of_images_are_numpys_averaged(metric, definition, data_range):
    streaming = metric(data_range)
    expected = []
    for target, predicted in images():
        streaming.update_state(target, predicted)
        expected += [
            definition(truth, guess, data_range=data_range)
            for truth, guess in zip(target[..., 0], predicted[..., 0], strict=True)
        ]
    assert np.isnan(expected).any()
    assert float(streaming.result()) == pytest.approx(np.nanmean(expected), rel=2e-5)


@pytest.mark.parametrize(("metric", "definition"), PER_IMAGE)
def test_float64_agrees_to_rounding(metric, definition):
    truth = 300 + np.cumsum(np.random.default_rng(2).normal(size=(1, 20, 20, 1)), axis=1)
    predicted = truth + np.random.default_rng(3).normal(size=truth.shape)
    streaming = metric(dtype="float64")
    streaming.update_state(truth, predicted)
    expected = definition(truth[0, ..., 0], predicted[0, ..., 0])
    assert float(streaming.result()) == pytest.approx(expected, rel=1e-9)


def test_similarity_of_the_same_image_and_of_one_too_small():
    truth = np.random.default_rng(0).normal(300, 3, (2, 9, 9, 1)).astype(np.float32)
    for metric in (StructuralSimilarity(), GlobalStructuralSimilarity()):
        metric.update_state(truth, truth)
        assert float(metric.result()) == pytest.approx(1, abs=1e-6)
    small = StructuralSimilarity()
    small.update_state(truth[:, :6], truth[:, :6])
    assert np.isnan(float(small.result()))


def test_a_compiled_evaluation_gives_the_same():
    model = keras.Sequential([keras.Input((23, 26, 1)), keras.layers.Identity()])
    metrics = [metric() for metric, _ in (*POOLED, *PER_IMAGE)]
    model.compile(loss="mse", metrics=metrics, jit_compile=keras.backend.backend() == "jax")
    target, predicted = images()[0]
    found = model.evaluate(predicted, target, batch_size=2, verbose=0, return_dict=True)
    for metric, _ in (*POOLED, *PER_IMAGE):
        eager = metric()
        eager.update_state(target, predicted)
        assert found[eager.name] == pytest.approx(float(eager.result()), rel=1e-5)


def test_a_perfect_image_has_an_infinite_ratio():
    truth = np.random.default_rng(0).normal(300, 3, (1, 8, 8, 1)).astype(np.float32)
    metric = PeakSignalToNoiseRatio()
    metric.update_state(truth, truth)
    assert float(metric.result()) == np.inf


@pytest.mark.parametrize("metric", [metric for metric, _ in (*POOLED, *PER_IMAGE)])
class TestEach:
    def test_nothing_scored_is_nan_and_reset_forgets(self, metric):
        streaming = metric()
        assert np.isnan(float(streaming.result()))
        target, predicted = images()[0]
        streaming.update_state(target, predicted)
        assert np.isfinite(float(streaming.result()))
        streaming.reset_state()
        streaming.update_state(np.full_like(target, np.nan), predicted)
        assert np.isnan(float(streaming.result()))

    def test_sample_weights_choose_images(self, metric):
        target, predicted = images()[0]
        weighted, alone = metric(), metric()
        weighted.update_state(target, predicted, sample_weight=np.array([0.0, 1.0, 1.0]))
        alone.update_state(target[1:], predicted[1:])
        assert float(weighted.result()) == pytest.approx(float(alone.result()), rel=1e-6)

    def test_comes_back_from_its_configuration(self, metric):
        config = keras.saving.serialize_keras_object(metric(name="score"))
        assert config["registered_name"] == f"keras_lstsr>{metric.__name__}"
        again = keras.saving.deserialize_keras_object(config)
        assert isinstance(again, metric)
        assert again.get_config() == metric(name="score").get_config()
