"""The optimiser of a training: its rate over the steps, clipped gradients, averaged weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import TrainingConfig
from keras_lstsr.training.strategy import summed_over_replicas

_OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW}
# Where the rate begins that rises in ``schedule.warmup_steps``.
_WARMUP_SHARE = 0.1


def build_optimizer(
    training: TrainingConfig, steps_per_epoch: int, replicas: int = 1
) -> keras.optimizers.Optimizer:
    """Builds the optimiser for so many replicas of the model."""
    kind = _OPTIMIZERS[training.optimizer]
    options: dict[str, Any] = {"epsilon": training.adam_epsilon}
    if training.optimizer == "adamw":
        options["weight_decay"] = training.weight_decay
    if training.ema_momentum is not None:
        options |= {"use_ema": True, "ema_momentum": training.ema_momentum}
    if training.clip_norm is not None:
        if replicas > 1:
            kind = _clipping_the_sum(kind, training.clip_norm)
        else:
            options["clipnorm"] = training.clip_norm
    return kind(learning_rate(training, steps_per_epoch), **options)


def learning_rate(
    training: TrainingConfig, steps_per_epoch: int
) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """Returns the rate, or how it changes from step to step."""
    schedule, rate = training.schedule, training.learning_rate
    steps = training.epochs * steps_per_epoch
    if schedule.kind == "drop":
        # Up to the boundary, that step included, the rate is the full one.
        last = (schedule.drop_epoch or training.epochs) * steps_per_epoch - 1
        return keras.optimizers.schedules.PiecewiseConstantDecay(
            [last], [rate, rate / schedule.drop_factor]
        )
    if schedule.kind == "cosine":
        warmup = min(schedule.warmup_steps, steps // 2)
        return keras.optimizers.schedules.CosineDecay(
            rate * (_WARMUP_SHARE if warmup else 1.0),
            max(1, steps - warmup),
            alpha=schedule.final_share,
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    return rate


def _clipping_the_sum(
    kind: type[keras.optimizers.Optimizer], norm: float
) -> type[keras.optimizers.Optimizer]:
    # Keras clips each replica's own gradients before it adds them up, so that weights would depend
    # on the number of devices.
    class ClipsTheSum(kind):
        def apply(self, grads: Sequence[Any], trainable_variables: Any = None) -> None:
            super().apply(summed_over_replicas(grads, norm), trainable_variables)

    return ClipsTheSum


@contextlib.contextmanager
def averaged_weights(model: keras.Model) -> Iterator[None]:
    """Puts the averaged weights into a compiled model for a while, where its optimiser has them."""
    optimizer = model.optimizer
    # Keras wraps the optimiser of a training in float16.
    if not getattr(optimizer, "inner_optimizer", optimizer).use_ema:
        yield
        return
    weights = _copied(model)
    optimizer.finalize_variable_values(model.trainable_variables)
    # JAX shares the arrays of the average with the model, and frees the model's in validation.
    model.set_weights(_copied(model))
    try:
        yield
    finally:
        model.set_weights(weights)


def _copied(model: keras.Model) -> list[NDArray[np.floating]]:
    return [np.array(weights) for weights in model.get_weights()]


class ValidateAverage(keras.callbacks.Callback):
    """Scores the averaged weights in validation, since those are what is kept."""

    def __init__(self) -> None:
        super().__init__()
        self._stack = contextlib.ExitStack()

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the average in place."""
        self._stack.enter_context(averaged_weights(self.model))

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Puts the weights of the training back."""
        self._stack.close()
