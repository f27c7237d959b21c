"""Masked pixelwise losses."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.losses.masking import (
    PLACEHOLDER_KELVIN,
    expose_divergence,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import positive


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MaskedMeanSquaredError(keras.losses.Loss):
    """Mean squared error over the pixels where both target and prediction are there.

    Returns one value per sample, so that a distributed step divides by the global batch; a sample
    without a valid pixel has the loss 0. A prediction that is NaN throughout although its target
    has no gap makes the loss NaN: the network has diverged.

    Args:
        scale_kelvin: Temperatures are divided by it: 1 gives K², the normalisation's scale gives
            the loss in the network's units.
        name: Name in logs.
        reduction: Of the values per sample, see ``keras.losses.Loss``.
        dtype: Of the computation; float32 by default.

    Target: ``[B, H, W, C]``, channel 0 LST in kelvin, NaN where missing; further channels are not
    used. Prediction: ``[B, H, W, 1]`` in kelvin.

    Raises:
        ConfigError: If ``scale_kelvin`` is not above zero.
    """

    def __init__(
        self,
        scale_kelvin: float = 1.0,
        *,
        name: str = "mse",
        reduction: str | None = "sum_over_batch_size",
        dtype: Any = None,
    ) -> None:
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        target = y_true[..., :1]
        target_valid, predicted_valid = valid_mask(target), valid_mask(y_pred)
        valid = ops.logical_and(target_valid, predicted_valid)
        difference = replace_missing(y_pred, valid, PLACEHOLDER_KELVIN) - replace_missing(
            target, valid, PLACEHOLDER_KELVIN
        )
        loss = masked_mean(ops.square(difference / self.scale_kelvin), valid)
        return expose_divergence(loss, target_valid, predicted_valid)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**super().get_config(), "scale_kelvin": self.scale_kelvin, "dtype": self.dtype}
