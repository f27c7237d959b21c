"""The error in kelvin as a Keras metric that agrees with ``keras_lstsr.metrics.image``, masked.

It takes the training target ``[B, H, W, C]`` (channel 0: LST in kelvin) and the prediction
``[B, H, W, C]`` (likewise); NaN in either is not scored. Only sums are kept, so that replicas add
up. ``keras_lstsr.losses.MeanGradientError`` compares a prediction with NDVI.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

_PLACEHOLDER_KELVIN = 300.0


@keras.saving.register_keras_serializable(package="keras_lstsr")
class RootMeanSquareErrorKelvin(keras.metrics.Metric):
    """Root mean square error in kelvin over all scored pixels of all batches.

    Args:
        name: Name in logs.
        dtype: Of the sums; float32 by default.
    """

    def __init__(self, name: str = "rmse_kelvin", dtype: Any = None) -> None:
        super().__init__(name=name, dtype=dtype)
        self.total = self.add_variable((), "zeros", dtype=self.dtype, name="total")
        self.count = self.add_variable((), "zeros", dtype=self.dtype, name="count")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Adds a batch."""
        target = ops.cast(ops.convert_to_tensor(y_true), self.dtype)[..., :1]
        predicted = ops.cast(ops.convert_to_tensor(y_pred), self.dtype)[..., :1]
        scored = ops.logical_not(ops.logical_or(ops.isnan(target), ops.isnan(predicted)))
        placeholder = ops.cast(_PLACEHOLDER_KELVIN, self.dtype)
        target = ops.where(scored, target, placeholder)
        predicted = ops.where(scored, predicted, placeholder)
        weights = ops.cast(scored, self.dtype)
        if sample_weight is not None:
            sample_weight = ops.cast(ops.convert_to_tensor(sample_weight), self.dtype)
            while len(sample_weight.shape) < len(target.shape):
                sample_weight = ops.expand_dims(sample_weight, -1)
            weights = weights * sample_weight
        self.total.assign_add(ops.sum(ops.square(predicted - target) * weights))
        self.count.assign_add(ops.sum(weights))

    def result(self) -> Any:
        """The error so far; NaN before the first scored pixel, and not a perfect 0."""
        mean = self.total / ops.maximum(self.count, 1e-30)
        return ops.sqrt(ops.where(self.count > 0, mean, ops.cast(float("nan"), self.dtype)))
