"""Schedules of a loss's weights over the epochs."""

from __future__ import annotations

import math
from typing import Any

import keras

from keras_lstsr.config import AlphaScheduleConfig, LossConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import MixedGradientLoss


def scheduled_alpha(schedule: AlphaScheduleConfig, start: float, epoch: int) -> float:
    """Returns MixGL's weight of the gradient term in an epoch, counted from 0."""
    if schedule.end is None or schedule.epochs is None:
        return start
    share = min(epoch / schedule.epochs, 1.0)
    if schedule.kind == "step":
        share = math.floor(share)
    elif schedule.kind == "cosine":
        share = (1.0 - math.cos(math.pi * share)) / 2.0
    return start + (schedule.end - start) * share


class AlphaSchedule(keras.callbacks.Callback):
    """Moves the weight alpha of a ``MixedGradientLoss`` over the epochs.

    Alpha hangs on the number of the epoch alone, so a training that goes on after a kill has the
    alphas of an unbroken one. Validation is always scored with the schedule's last value: losses
    of two epochs would not compare otherwise, and the best epoch would be one of cheap weights.

    Args:
        schedule: How alpha changes; it starts at the loss's own alpha.

    Raises:
        ConfigError: From training, if the model is not compiled with a ``MixedGradientLoss``, or,
            under JAX, not with the metric ``AlphaWeight`` of that loss.
    """

    def __init__(self, schedule: AlphaScheduleConfig) -> None:
        super().__init__()
        self._schedule = schedule
        self._epoch = 0

    def alpha(self, epoch: int) -> float:
        """Returns alpha in an epoch, counted from 0."""
        return scheduled_alpha(self._schedule, self._loss().alpha, epoch)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Checks the model."""
        loss = self._loss()
        if keras.backend.backend() != "jax":
            return
        if not any(each is loss.alpha_variable for each in self.model.metrics_variables):
            raise ConfigError(
                "under JAX a compiled step would keep the first alpha",
                field="loss.alpha_schedule",
                action="Compile the model with metrics=[keras_lstsr.losses.AlphaWeight(loss)].",
            )

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch's alpha."""
        self._epoch = epoch
        self._loss().assign_alpha(self.alpha(epoch))

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the last alpha for validation."""
        end = self._schedule.end
        self._loss().assign_alpha(self._loss().alpha if end is None else end)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Sets the epoch's alpha again."""
        self._loss().assign_alpha(self.alpha(self._epoch))

    def _loss(self) -> MixedGradientLoss:
        loss = getattr(self.model, "loss", None)
        if isinstance(loss, MixedGradientLoss):
            return loss
        raise ConfigError(
            "the model's loss has no alpha to schedule",
            field="loss.alpha_schedule",
            found=type(loss).__name__,
            expected="a MixedGradientLoss",
        )


def alpha_callbacks(config: LossConfig) -> list[keras.callbacks.Callback]:
    """Returns the callback that the settings ask for, or none."""
    return [] if config.alpha_schedule is None else [AlphaSchedule(config.alpha_schedule)]
