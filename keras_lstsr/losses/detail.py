"""The loss of the guided network: error of detail, and likelihood of its standard deviation."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.losses.masking import (
    MaskedLoss,
    expose_divergence,
    masked_error,
    masked_mean,
    replace_missing,
    valid_mask,
)
from keras_lstsr.losses.options import not_negative

# Detail of smoother ground is mostly noise.
_LEAST_DETAIL_KELVIN = 0.3


@keras.saving.register_keras_serializable(package="keras_lstsr")
class DetailLoss(MaskedLoss):
    """Mean squared error without each image's bias, and the likelihood of the error's spread.

    ``mean(e²) / (d² + 0.09 K²)^p + w · mean(ln σ + e² / (2 σ²))`` with e the error less its mean
    over the valid pixels of its image: two instruments differ in the mean, by their calibration and
    the minutes between them, and of that the network can know nothing. d is the standard deviation
    of the target's detail, which is the target less its mean over each coarse pixel: by night and
    on smooth ground it is a fifth of what it is over fields, and without p such images would teach
    next to nothing. In the second term e is taken as given, so that the network cannot trade
    accuracy for a smaller σ; it is the negative logarithm of the normal density without its
    constant.

    Args:
        std_weight: w; 0 leaves the squared error alone.
        detail_power: p; 0 leaves the error in square kelvin, 1 makes it relative to the detail.
        scale_factor: Fine pixels along a coarse pixel's side.
        name: Name in logs.
        **keywords: See ``MaskedLoss``.

    Target: ``[B, H, W, C]``, channel 0 LST in kelvin, NaN where missing; channel 1, if there is
    one, weighs the likelihood of each pixel, 0 to 1; further channels are not used.
    Prediction: ``[B, H, W, 2]``, LST and its standard deviation above 0, in kelvin.

    Raises:
        ConfigError: If ``std_weight`` is no number of 0 or more.

    Source: of the second term Nix and Weigend (1994), doi:10.1109/ICNN.1994.374138, eq. 3.
    """

    def __init__(
        self,
        std_weight: float = 0.1,
        detail_power: float = 0.0,
        scale_factor: int = 4,
        *,
        name: str = "detail",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.std_weight = not_negative("std_weight", std_weight)
        self.detail_power = not_negative("detail_power", detail_power)
        self.scale_factor = int(scale_factor)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        target, kelvin, std = y_true[..., :1], y_pred[..., :1], y_pred[..., 1:]
        target_valid = valid_mask(target)
        predicted_valid = ops.logical_and(valid_mask(kelvin), valid_mask(std))
        valid = ops.logical_and(target_valid, predicted_valid)
        error = masked_error(target, kelvin, valid)
        error = error - ops.reshape(masked_mean(error, valid), (-1, 1, 1, 1))
        squared = ops.square(error)
        spread = replace_missing(std, valid, 1.0)
        likelihood = ops.log(spread) + ops.stop_gradient(squared) / (2 * ops.square(spread))
        if y_true.shape[-1] > 1:
            likelihood = likelihood * y_true[..., 1:2]
        if self.detail_power:
            squared = squared / self._unit(target, target_valid)
        loss = masked_mean(squared + self.std_weight * likelihood, valid)
        return expose_divergence(loss, target_valid, predicted_valid)

    def _unit(self, target: Any, valid: Any) -> Any:
        """The divisor of squared errors, ``[B, 1, 1, 1]``."""
        factor, there = (
            self.scale_factor,
            ops.cast(valid, keras.backend.standardize_dtype(target.dtype)),
        )

        def means(values: Any) -> Any:
            return ops.average_pool(values, factor, strides=factor, padding="valid")

        # Anomalies keep the digits of squares.
        middle = ops.reshape(masked_mean(replace_missing(target, valid, 0.0), valid), (-1, 1, 1, 1))
        anomaly = there * (replace_missing(target, valid, 0.0) - middle)
        share = means(there)
        some = ops.maximum(share, 0.5 / factor**2)
        variance = ops.maximum(means(anomaly**2) / some - (means(anomaly) / some) ** 2, 0.0)
        total = ops.maximum(ops.sum(share, axis=(1, 2, 3), keepdims=True), 1e-6)
        mean = ops.sum(share * variance, axis=(1, 2, 3), keepdims=True) / total
        return (mean + _LEAST_DETAIL_KELVIN**2) ** self.detail_power
