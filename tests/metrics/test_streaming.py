from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.metrics import image
from keras_lstsr.metrics.streaming import RootMeanSquareErrorKelvin


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
    return made


@pytest.mark.parametrize(("dtype", "tolerance"), [(None, 1e-5), ("float64", 1e-9)])
def test_it_is_numpys_over_all_pixels(dtype, tolerance):
    streaming = RootMeanSquareErrorKelvin(dtype=dtype)
    for target, predicted in batches():
        streaming.update_state(target, predicted)
    truth = np.concatenate([target[..., :1] for target, _ in batches()])
    expected = image.rmse(truth, np.concatenate([predicted for _, predicted in batches()]))
    assert float(streaming.result()) == pytest.approx(expected, rel=tolerance)


def test_what_stands_beside_lst_is_not_scored():
    target, predicted = batches()[0]
    alone, beside = RootMeanSquareErrorKelvin(), RootMeanSquareErrorKelvin()
    alone.update_state(target, predicted)
    beside.update_state(target, np.concatenate([predicted, np.ones_like(predicted)], axis=-1))
    assert float(beside.result()) == float(alone.result())


def test_a_compiled_evaluation_gives_the_same():
    model = keras.Sequential([keras.Input((12, 12, 1)), keras.layers.Identity()])
    jit = keras.backend.backend() == "jax"
    model.compile(loss="mse", metrics=[RootMeanSquareErrorKelvin()], jit_compile=jit)
    target, predicted = batches()[0]
    found = model.evaluate(predicted, target, batch_size=2, verbose=0, return_dict=True)
    eager = RootMeanSquareErrorKelvin()
    eager.update_state(target, predicted)
    assert found["rmse_kelvin"] == pytest.approx(float(eager.result()), rel=1e-5)


def test_nothing_scored_is_nan_and_reset_forgets():
    streaming = RootMeanSquareErrorKelvin()
    assert np.isnan(float(streaming.result()))
    target, predicted = batches()[0]
    streaming.update_state(target, predicted)
    assert np.isfinite(float(streaming.result()))
    streaming.reset_state()
    streaming.update_state(np.full_like(target, np.nan), predicted)
    assert np.isnan(float(streaming.result()))


def test_sample_weights_choose_images():
    target, predicted = batches()[0]
    weighted, alone = RootMeanSquareErrorKelvin(), RootMeanSquareErrorKelvin()
    weighted.update_state(target, predicted, sample_weight=np.array([0.0, 1.0, 1.0, 1.0]))
    alone.update_state(target[1:], predicted[1:])
    assert float(weighted.result()) == pytest.approx(float(alone.result()), rel=1e-6)


def test_comes_back_from_its_configuration():
    config = keras.saving.serialize_keras_object(RootMeanSquareErrorKelvin(name="score"))
    assert config["registered_name"] == "keras_lstsr>RootMeanSquareErrorKelvin"
    again = keras.saving.deserialize_keras_object(config)
    assert isinstance(again, RootMeanSquareErrorKelvin)
    assert again.name == "score"
