"""Alpha changes between the epochs of one compiled training, on any backend."""

from __future__ import annotations

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

from keras_lstsr.config import AlphaScheduleConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import AlphaWeight, MaskedMeanSquaredError, MixedGradientLoss
from keras_lstsr.training.schedules import AlphaSchedule

LINEAR = AlphaScheduleConfig(kind="linear", end=0.9, epochs=2)
ALPHAS = [0.1, 0.5, 0.9, 0.9]


def data() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    lst = np.kron(rng.normal(300, 3, (8, 4, 4)), np.ones((4, 4)))
    ndvi = rng.uniform(0.1, 0.8, lst.shape)
    inputs = rng.normal(300, 3, lst.shape)[..., None].astype("float32")
    return inputs, np.stack([lst, ndvi], axis=-1).astype("float32")


def frozen_model(loss, metrics=(), xla: bool = False) -> keras.Model:
    """A model that does not learn: what changes in its loss is the loss."""
    inputs = keras.Input((16, 16, 1))
    kernel = keras.initializers.Ones()
    outputs = keras.layers.Conv2D(1, 1, kernel_initializer=kernel, dtype="float32")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(
        optimizer=keras.optimizers.SGD(0.0),
        loss=loss,
        metrics=list(metrics),
        jit_compile=xla or keras.backend.backend() == "jax",
    )
    return model


def fit(model: keras.Model, schedule=LINEAR, **keywords) -> dict[str, list[float]]:
    inputs, target = data()
    history = model.fit(
        inputs,
        target,
        batch_size=4,
        epochs=4,
        shuffle=False,
        verbose=0,
        validation_data=(inputs, target),
        callbacks=[AlphaSchedule(schedule)],
        **keywords,
    )
    return history.history


def expected_losses(alphas: list[float]) -> list[float]:
    inputs, target = data()
    return [float(MixedGradientLoss(alpha)(target, inputs)) for alpha in alphas]


@pytest.mark.parametrize(
    "xla", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["graph", "xla"]
)
def test_a_compiled_step_follows_alpha(xla):
    loss = MixedGradientLoss(0.1)
    history = fit(frozen_model(loss, [AlphaWeight(loss)], xla))
    np.testing.assert_allclose(history["alpha"], ALPHAS, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], expected_losses(ALPHAS), rtol=1e-5)
    # Validation is scored with the last alpha, or epochs would not compare.
    np.testing.assert_allclose(history["val_loss"], expected_losses([0.9] * 4), rtol=1e-5)
    assert loss.get_config()["alpha"] == 0.1


def test_a_later_start_has_the_alpha_of_its_epoch():
    loss = MixedGradientLoss(0.1)
    history = fit(frozen_model(loss, [AlphaWeight(loss)]), initial_epoch=1)
    np.testing.assert_allclose(history["loss"], expected_losses(ALPHAS[1:]), rtol=1e-5)


def test_a_fixed_beta_stays():
    loss = MixedGradientLoss(0.1, beta=0.4)
    history = fit(frozen_model(loss, [AlphaWeight(loss)]))
    inputs, target = data()
    last = float(MixedGradientLoss(0.9, beta=0.4)(target, inputs))
    assert history["loss"][-1] == pytest.approx(last, rel=1e-5)


def test_mixed_precision_leaves_alpha_in_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        loss = MixedGradientLoss(0.1)
        history = fit(frozen_model(loss, [AlphaWeight(loss)]))
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_allclose(history["alpha"], ALPHAS, rtol=1e-6)
    np.testing.assert_allclose(history["loss"], expected_losses(ALPHAS), rtol=1e-5)


def test_a_loss_without_alpha_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.alpha_schedule.*MaskedMeanSquaredError"):
        fit(frozen_model(MaskedMeanSquaredError()))


def test_alpha_out_of_range_is_refused():
    with pytest.raises(ConfigError, match=r"loss\.alpha"):
        MixedGradientLoss(0.1).assign_alpha(1.5)


def test_jax_wants_alpha_among_the_models_state():
    model = frozen_model(MixedGradientLoss(0.1))
    if keras.backend.backend() == "jax":
        with pytest.raises(ConfigError, match="AlphaWeight"):
            fit(model)
    else:
        np.testing.assert_allclose(fit(model)["loss"], expected_losses(ALPHAS), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="tf.distribute")
def test_two_replicas_follow_alpha():
    program = """
import keras, numpy as np, runpy, sys, tensorflow as tf, types
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from keras_lstsr.losses import AlphaWeight, MixedGradientLoss
case = types.SimpleNamespace(**runpy.run_path(sys.argv[1]))
with tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"]).scope():
    loss = MixedGradientLoss(0.1)
    model = case.frozen_model(loss, [AlphaWeight(loss)])
history = case.fit(model)
np.testing.assert_allclose(history["alpha"], case.ALPHAS, rtol=1e-6)
np.testing.assert_allclose(history["loss"], case.expected_losses(case.ALPHAS), rtol=1e-5)
np.testing.assert_allclose(history["val_loss"], case.expected_losses([0.9] * 4), rtol=1e-5)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, __file__],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
