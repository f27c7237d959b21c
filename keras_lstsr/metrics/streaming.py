"""Keras metrics that agree with ``keras_lstsr.metrics.image``, masked, on any backend.

They take the training target ``[B, H, W, C]`` (channel 0: LST in kelvin) and the prediction
``[B, H, W, 1]`` in kelvin; NaN in either is not scored. Only sums are kept, so that replicas add
up.
"""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

PACKAGE = "keras_lstsr"
_PLACEHOLDER_KELVIN = 300.0


def _prepared(y_true: Any, y_pred: Any, dtype: str) -> tuple[Any, Any, Any]:
    """Target channel 0 and prediction without NaN, and the mask of scored pixels."""
    target = ops.cast(ops.convert_to_tensor(y_true), dtype)[..., :1]
    predicted = ops.cast(ops.convert_to_tensor(y_pred), dtype)
    scored = ops.logical_not(ops.logical_or(ops.isnan(target), ops.isnan(predicted)))
    placeholder = ops.cast(_PLACEHOLDER_KELVIN, dtype)
    target = ops.where(scored, target, placeholder)
    return target, ops.where(scored, predicted, placeholder), scored


class _Average(keras.metrics.Metric):
    """Keeps a weighted sum and the sum of its weights."""

    def __init__(self, name: str, dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), initializer="zeros", name="total")
        self.count = self.add_variable((), initializer="zeros", name="count")

    def _add(self, values: Any, counted: Any, sample_weight: Any) -> None:
        weights = ops.cast(counted, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), self.dtype)
            rank = len(values.shape) - len(sample_weight.shape)
            for _ in range(rank):
                sample_weight = ops.expand_dims(sample_weight, -1)
            weights = weights * sample_weight
        # Where nothing is counted the value may be infinite, and 0 × inf is NaN.
        values = ops.where(weights > 0, values, ops.zeros_like(values))
        self.total.assign_add(ops.sum(values * weights))
        self.count.assign_add(ops.sum(weights))

    def _mean(self) -> Any:
        # Nothing scored yet is NaN, as in NumPy, and not a perfect 0.
        mean = self.total / ops.maximum(self.count, 1e-30)
        return ops.where(self.count > 0, mean, ops.cast(float("nan"), self.dtype))


@keras.saving.register_keras_serializable(package=PACKAGE)
class RootMeanSquareErrorKelvin(_Average):
    """Root mean square error in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "rmse_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(ops.square(predicted - target), scored, sample_weight)

    def result(self) -> Any:
        """The error so far; NaN before the first scored pixel."""
        return ops.sqrt(self._mean())


@keras.saving.register_keras_serializable(package=PACKAGE)
class MeanAbsoluteErrorKelvin(_Average):
    """Mean absolute error in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "mae_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(ops.abs(predicted - target), scored, sample_weight)

    def result(self) -> Any:
        """The error so far; NaN before the first scored pixel."""
        return self._mean()


@keras.saving.register_keras_serializable(package=PACKAGE)
class BiasKelvin(_Average):
    """Mean of prediction minus truth in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "bias_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        self._add(predicted - target, scored, sample_weight)

    def result(self) -> Any:
        """The bias so far; NaN before the first scored pixel."""
        return self._mean()


@keras.saving.register_keras_serializable(package=PACKAGE)
class PeakSignalToNoiseRatio(_Average):
    """Peak signal-to-noise ratio in decibels, per image, averaged over images.

    The range of each image is that of its truth over the scored pixels, unless given. Images
    without a scored pixel or without range do not count.

    Args:
        data_range_kelvin: One range for all images; None takes each image's own.
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(
        self, data_range_kelvin: float | None = None, name: str = "psnr", dtype: Any = None
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        self.data_range_kelvin = None if data_range_kelvin is None else float(data_range_kelvin)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch; ``sample_weight`` is per image, ``[B]``."""
        target, predicted, scored = _prepared(y_true, y_pred, self.dtype)
        axes = (1, 2, 3)
        weights = ops.cast(scored, self.dtype)
        count = ops.sum(weights, axis=axes)
        squared = ops.sum(ops.square(predicted - target) * weights, axis=axes)
        mean_square = squared / ops.maximum(count, 1.0)
        if self.data_range_kelvin is None:
            infinite = ops.cast(float("inf"), self.dtype)
            highest = ops.max(ops.where(scored, target, -infinite), axis=axes)
            lowest = ops.min(ops.where(scored, target, infinite), axis=axes)
            extent = highest - lowest
        else:
            extent = ops.full_like(mean_square, self.data_range_kelvin)
        counted = ops.logical_and(count > 0, extent > 0)
        extent = ops.where(counted, extent, ops.ones_like(extent))
        # A perfect image has an infinite ratio, here as in NumPy.
        ratio = (2.0 * ops.log(extent) - ops.log(mean_square)) * (10.0 / math.log(10.0))
        self._add(ratio, counted, sample_weight)

    def result(self) -> Any:
        """The mean ratio so far; NaN before the first image that counts."""
        return self._mean()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "data_range_kelvin": self.data_range_kelvin}
