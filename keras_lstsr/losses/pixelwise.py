"""Masked losses that compare pixel by pixel, for targets that are truly fine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import keras
from keras import ops

from keras_lstsr.losses.masking import (
    MaskedLoss,
    expose_divergence,
    masked_error,
    masked_mean,
    valid_mask,
)
from keras_lstsr.losses.options import positive


class MaskedPixelwiseLoss(MaskedLoss, ABC):
    """The mean of a penalty of each pixel's error: what all pixelwise losses share.

    Args:
        scale_kelvin: Errors are divided by it: 1 leaves kelvin, the normalisation's scale gives
            the loss in the network's units.
        **keywords: See ``MaskedLoss``.

    Target: ``[B, H, W, C]``, channel 0 LST in kelvin, NaN where missing; further channels are not
    used. Prediction: ``[B, H, W, 1]`` in kelvin.

    Raises:
        ConfigError: If an option is not a number above zero; it names the option.
    """

    def __init__(self, scale_kelvin: float = 1.0, **keywords: Any) -> None:
        super().__init__(**keywords)
        self.scale_kelvin = positive("scale_kelvin", scale_kelvin)

    @abstractmethod
    def penalty(self, error: Any) -> Any:
        """Penalty of each pixel, of the error divided by ``scale_kelvin``; same shape."""

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        target = y_true[..., :1]
        target_valid, predicted_valid = valid_mask(target), valid_mask(y_pred)
        valid = ops.logical_and(target_valid, predicted_valid)
        error = masked_error(target, y_pred, valid)
        loss = masked_mean(self.penalty(error / self.scale_kelvin), valid)
        return expose_divergence(loss, target_valid, predicted_valid)


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MaskedMeanSquaredError(MaskedPixelwiseLoss):
    """Mean squared error ``mean(e²)``; arguments as ``MaskedPixelwiseLoss``."""

    def __init__(self, scale_kelvin: float = 1.0, *, name: str = "mse", **keywords: Any) -> None:
        super().__init__(scale_kelvin, name=name, **keywords)

    def penalty(self, error: Any) -> Any:
        """``e²``."""
        return ops.square(error)


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MaskedMeanAbsoluteError(MaskedPixelwiseLoss):
    """Mean absolute error ``mean(|e|)``; arguments as ``MaskedPixelwiseLoss``."""

    def __init__(self, scale_kelvin: float = 1.0, *, name: str = "mae", **keywords: Any) -> None:
        super().__init__(scale_kelvin, name=name, **keywords)

    def penalty(self, error: Any) -> Any:
        """``|e|``."""
        return ops.abs(error)


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MaskedHuber(MaskedPixelwiseLoss):
    """Huber's loss: squared where errors are small, absolute where they are large.

    ``e² / 2`` up to ``δ``, then ``δ (|e| − δ / 2)``.

    Args:
        delta_kelvin: δ, where the two meet, in kelvin whatever ``scale_kelvin`` is. 1 K is the
            accuracy that MODIS claims for its LST: what is larger is likely an undetected cloud.
        scale_kelvin: See ``MaskedPixelwiseLoss``, as all further arguments.
        name: Name in logs.
        **keywords: ``reduction`` and ``dtype``.

    Source: Huber (1964), doi:10.1214/aoms/1177703732.
    """

    def __init__(
        self,
        delta_kelvin: float = 1.0,
        scale_kelvin: float = 1.0,
        *,
        name: str = "huber",
        **keywords: Any,
    ) -> None:
        super().__init__(scale_kelvin, name=name, **keywords)
        self.delta_kelvin = positive("delta_kelvin", delta_kelvin)

    def penalty(self, error: Any) -> Any:
        """``e² / 2`` up to δ, ``δ (|e| − δ / 2)`` beyond."""
        delta = self.delta_kelvin / self.scale_kelvin
        size = ops.abs(error)
        near = ops.minimum(size, delta)
        return near * (size - 0.5 * near)


@keras.saving.register_keras_serializable(package="keras_lstsr")
class MaskedCharbonnier(MaskedPixelwiseLoss):
    """Charbonnier's loss ``mean(sqrt(e² + ε²))``: the absolute error, smooth at zero.

    A perfect prediction has the loss ε.

    Args:
        epsilon_kelvin: ε in kelvin whatever ``scale_kelvin`` is.
        scale_kelvin: See ``MaskedPixelwiseLoss``, as all further arguments.
        name: Name in logs.
        **keywords: ``reduction`` and ``dtype``.

    Source: Charbonnier et al. (1994), doi:10.1109/ICIP.1994.413553; ε as Lai et al. (2017),
    doi:10.1109/CVPR.2017.618.
    """

    def __init__(
        self,
        epsilon_kelvin: float = 1e-3,
        scale_kelvin: float = 1.0,
        *,
        name: str = "charbonnier",
        **keywords: Any,
    ) -> None:
        super().__init__(scale_kelvin, name=name, **keywords)
        self.epsilon_kelvin = positive("epsilon_kelvin", epsilon_kelvin)

    def penalty(self, error: Any) -> Any:
        """``sqrt(e² + ε²)``."""
        epsilon = self.epsilon_kelvin / self.scale_kelvin
        return ops.sqrt(ops.square(error) + epsilon**2)
