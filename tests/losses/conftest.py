"""Gradients of a loss by its prediction, on the backend that Keras runs on."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

if keras.backend.backend() == "jax":
    import jax

    # Finite differences are taken in float64, which JAX has to be asked for.
    jax.config.update("jax_enable_x64", True)


def _value_and_gradient(loss, target, prediction):
    """Sum of the loss over samples, and its gradient by the prediction."""
    if keras.backend.backend() == "jax":
        import jax

        value, gradient = jax.value_and_grad(lambda y: loss.call(target, y).sum())(prediction)
        return float(value), np.asarray(gradient)
    import tensorflow as tf

    y = tf.convert_to_tensor(prediction)
    with tf.GradientTape() as tape:
        tape.watch(y)
        value = tf.reduce_sum(loss.call(tf.convert_to_tensor(target), y))
    return float(value), np.asarray(tape.gradient(value, y))


@pytest.fixture(scope="session")
def value_and_gradient() -> Callable[..., tuple[float, np.ndarray]]:
    return _value_and_gradient
