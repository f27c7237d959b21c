"""Masks and masked means: how missing pixels stay out of values and gradients."""

from __future__ import annotations

from typing import Any

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
    """Mean over the valid pixels of each sample; 0 where a sample has none.

    Args:
        values: ``[B, H, W, C]``, finite where ``valid`` is False too.
        valid: Booleans of the same shape.

    Returns:
        ``[B]``.
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

    Args:
        loss: Loss per sample, ``[B]``.
        target_valid: Valid LST of the target, ``[B, H, W, 1]``.
        predicted_valid: Valid predictions, ``[B, H, W, 1]``.

    Returns:
        ``[B]``; NaN in value and gradient where the prediction has diverged.
    """
    diverged = ops.logical_and(
        ops.all(target_valid, axis=(1, 2, 3)),
        ops.logical_not(ops.any(predicted_valid, axis=(1, 2, 3))),
    )
    # By multiplication: the gradient is NaN too, and a loss-scaling optimiser skips the step.
    return loss * ops.where(diverged, ops.cast(float("nan"), loss.dtype), 1.0)
