"""Rates by their closed forms, clipping, and averages of weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.config import TrainingConfig
from keras_lstsr.training.optimizer import averaged_weights, build_optimizer, learning_rate


def rates(steps, at, **settings) -> list[float]:
    training = TrainingConfig(learning_rate=2e-3, **settings)
    schedule = learning_rate(training, steps)
    return [float(schedule(step)) for step in at]


def test_cosine_rises_and_falls():
    schedule = {"kind": "cosine", "warmup_steps": 100}
    found = rates(100, (0, 50, 100, 850, 1600), epochs=16, schedule=schedule)
    assert found == pytest.approx([2e-4, 1.1e-3, 2e-3, 1.01e-3, 2e-5], rel=1e-3)
    # A warm-up takes at most half of all steps; without one the rate begins in full.
    assert rates(10, (5,), epochs=1, schedule=schedule) == pytest.approx([2e-3])
    plain = {"kind": "cosine", "final_share": 0.0}
    assert rates(5, (0, 5, 10), epochs=2, schedule=plain) == pytest.approx([2e-3, 1e-3, 0.0])


def test_drop_begins_with_its_epoch():
    schedule = {"kind": "drop", "drop_epoch": 2, "drop_factor": 10}
    found = rates(5, (0, 9, 10, 99), epochs=20, schedule=schedule)
    assert found == pytest.approx([2e-3, 2e-3, 2e-4, 2e-4])


def test_constant():
    assert learning_rate(TrainingConfig(), 7) == 1e-3


def line(**settings) -> keras.Model:
    """A model y = w x + b at w = 0, b = 0."""
    training = TrainingConfig(learning_rate=0.5, **settings)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(build_optimizer(training, 1), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def flat(model: keras.Model) -> np.ndarray:
    return np.concatenate([np.ravel(weights) for weights in model.get_weights()])


ONE = np.ones((1, 1), np.float32)


def test_gradients_are_clipped_tensor_by_tensor():
    # With an epsilon this large Adam's first step is rate · gradient / epsilon.
    plain, clipped = (line(adam_epsilon=1e3, clip_norm=norm) for norm in (None, 0.5))
    for model in (plain, clipped):
        model.train_on_batch(ONE, 3 * ONE)  # the gradient of w and of b is −6
    steps = [flat(model) for model in (plain, clipped)]
    np.testing.assert_allclose(steps[0] / steps[1], 12, rtol=0.02)


def test_weights_decay():
    model = line(optimizer="adamw", weight_decay=0.1)
    model.layers[-1].kernel.assign(ONE)
    model.layers[-1].bias.assign([2.0])
    model.train_on_batch(ONE, 3 * ONE)  # no error, no gradient
    np.testing.assert_allclose(flat(model), [0.95, 1.9], rtol=1e-6)


def test_the_average_is_lent_and_taken_back():
    model = line(ema_momentum=0.75)
    seen = []
    for _ in range(3):
        model.train_on_batch(ONE, 3 * ONE)
        seen.append(flat(model))
    expected = seen[0]  # the average starts with the first step's weights
    for weights in seen[1:]:
        expected = 0.75 * expected + 0.25 * weights
    with averaged_weights(model):
        np.testing.assert_allclose(flat(model), expected, rtol=1e-5)
    np.testing.assert_array_equal(flat(model), seen[-1])


def test_without_an_average_the_weights_stay():
    model = line()
    with averaged_weights(model):
        np.testing.assert_array_equal(flat(model), [0, 0])
