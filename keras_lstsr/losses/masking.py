"""Masks and masked means: how missing pixels stay out of values and gradients."""

from __future__ import annotations

import inspect
from typing import Any

import keras
from keras import ops

# Stands in for missing temperature before any arithmetic. Close to real ones, so that no power or
# root of it overflows; its value never reaches a result.
PLACEHOLDER_KELVIN = 300.0


def valid_mask(values: Any) -> Any:
    """True where a value is not NaN. Infinite values count as valid: they are no gaps."""
    return ops.logical_not(ops.isnan(values))


def replace_missing(values: Any, valid: Any, placeholder: float) -> Any:
    """Puts ``placeholder`` where ``valid`` is False.

    Masking after the arithmetic alone would leave NaN gradients: 0 × NaN is NaN.
    """
    return ops.where(valid, values, ops.cast(placeholder, values.dtype))


def masked_mean(values: Any, valid: Any) -> Any:
    """Mean over the valid pixels of each sample, ``[B]``; 0 where a sample has none.

    Values ``[B, H, W, C]`` are finite where ``valid`` is False, too.
    """
    weights = ops.cast(valid, values.dtype)
    count = ops.sum(weights, axis=(1, 2, 3))
    total = ops.sum(values * weights, axis=(1, 2, 3))
    return total / ops.maximum(count, 1.0)


def expose_divergence(loss: Any, target_valid: Any, predicted_valid: Any) -> Any:
    """Makes the loss NaN for samples whose prediction is NaN throughout without a cause.

    Missing predictions carry no weight, since a model answers gaps with NaN. A network whose
    weights have become NaN would hide behind that and report a perfect loss of 0. A sample
    without any gap in its target gives a model no cause for a prediction without a single value.
    The loss ``[B]`` then is NaN in value and gradient.
    """
    diverged = ops.logical_and(
        ops.all(target_valid, axis=(1, 2, 3)),
        ops.logical_not(ops.any(predicted_valid, axis=(1, 2, 3))),
    )
    # By multiplication: the gradient is NaN too, and a loss-scaling optimiser skips the step.
    return loss * ops.where(diverged, ops.cast(float("nan"), loss.dtype), 1.0)


def masked_error(target: Any, predicted: Any, valid: Any) -> Any:
    """Prediction less target in kelvin; 0 where ``valid`` is False."""
    there = replace_missing(predicted, valid, PLACEHOLDER_KELVIN)
    return there - replace_missing(target, valid, PLACEHOLDER_KELVIN)


class MaskedLoss(keras.losses.Loss):
    """What all losses here share: one value per sample, so that replicas add up.

    A sample without a valid pixel has the loss 0. A prediction that is NaN throughout although its
    target has no gap makes the loss NaN: the network has diverged. A constructor's arguments are
    attributes of the same names.

    Args:
        name: Name in logs.
        reduction: Of the values per sample, see ``keras.losses.Loss``.
        dtype: Of the computation; float32 by default.
    """

    def __init__(
        self,
        *,
        name: str | None = None,
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        _, *parameters = inspect.signature(type(self).__init__).parameters.values()
        own = [each.name for each in parameters if each.kind is not each.VAR_KEYWORD]
        settings = {name: getattr(self, name) for name in own}
        return {**super().get_config(), **settings, "dtype": self.dtype}
