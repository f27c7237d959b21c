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


@keras.saving.register_keras_serializable(package="keras_lstsr")
class DetailLoss(MaskedLoss):
    """Mean squared error without each image's bias, and the likelihood of the error's spread.

    ``mean(e²) + w · mean(ln σ + e² / (2 σ²))`` with e the error less its mean over the valid
    pixels of its image: two instruments differ in the mean, by their calibration and the minutes
    between them, and of that the network can know nothing. In the second term e is taken as
    given, so that the network cannot trade accuracy for a smaller σ; it is the negative
    logarithm of the normal density without its constant.

    Args:
        std_weight: w; 0 leaves the squared error alone.
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
        *,
        name: str = "detail",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.std_weight = not_negative("std_weight", std_weight)

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
        loss = masked_mean(squared + self.std_weight * likelihood, valid)
        return expose_divergence(loss, target_valid, predicted_valid)
