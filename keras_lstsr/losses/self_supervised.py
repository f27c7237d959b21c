"""The loss of a network that learns without fine truth: supervised one scale coarser, and MixGL."""

from __future__ import annotations

from typing import Any

import keras

from keras_lstsr.losses.detail import DetailLoss
from keras_lstsr.losses.masking import MaskedLoss
from keras_lstsr.losses.mixgl import MixedGradientLoss
from keras_lstsr.losses.options import not_negative


@keras.saving.register_keras_serializable(package="keras_lstsr")
class SelfSupervisedLoss(MaskedLoss):
    """Error of detail where the target is truly fine, the Mixed Gradient Loss where it is not.

    LST of 1 km, degraded to 4 km, is its own truth: there the loss is ``DetailLoss``, which also
    teaches the standard deviation. From 1 km to 250 m there is none: the loss is
    ``mixgl_weight · MixedGradientLoss``, with gradients of LST against those of NDVI times the
    slope of each window.

    Args:
        mixgl_weight: Weight of the second beside the first.
        alpha: MixGL's weight of the gradient term, 0 to 1.
        window_pixels: MixGL's, side of a window in coarse pixels, odd.
        consistency: MixGL's: ``"psf"``, ``"norm_l4"``, ``"bicubic"`` or ``"none"``.
        mtf_at_nyquist: MixGL's.
        std_weight: ``DetailLoss``'s.
        detail_power: ``DetailLoss``'s.
        scale_factor: Fine pixels along a coarse pixel's side.
        name: Name in logs.
        **keywords: See ``MaskedLoss``.

    Target: ``[B, H, W, 3]``: LST in kelvin, NDVI, NaN where missing, and 1 in all pixels of a
    sample whose LST is truly fine, 0 where it repeats the coarse one. Prediction: ``[B, H, W, 2]``,
    LST and its standard deviation above 0, in kelvin.

    Raises:
        ConfigError: If an option is invalid; it names the option.
    """

    def __init__(
        self,
        mixgl_weight: float = 1.0,
        *,
        alpha: float = 0.5,
        window_pixels: int = 9,
        consistency: str = "psf",
        mtf_at_nyquist: float = 0.3,
        std_weight: float = 0.1,
        detail_power: float = 0.0,
        scale_factor: int = 4,
        name: str = "self_supervised",
        **keywords: Any,
    ) -> None:
        super().__init__(name=name, **keywords)
        self.mixgl_weight = not_negative("mixgl_weight", mixgl_weight)
        self._mixgl = MixedGradientLoss(
            alpha,
            ndvi_scale_kelvin="windows",
            window_pixels=window_pixels,
            consistency=consistency,
            mtf_at_nyquist=mtf_at_nyquist,
            scale_factor=scale_factor,
            dtype=self.dtype,
        )
        self._detail = DetailLoss(std_weight, detail_power, scale_factor, dtype=self.dtype)
        self.alpha, self.consistency = self._mixgl.alpha, self._mixgl.consistency
        self.window_pixels = self._mixgl.window_pixels
        self.mtf_at_nyquist = self._mixgl.mtf_at_nyquist
        self.std_weight, self.detail_power = self._detail.std_weight, self._detail.detail_power
        self.scale_factor = self._mixgl.scale_factor

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Loss per sample, ``[B]``."""
        truly_fine = y_true[:, 0, 0, 2]
        supervised = self._detail.call(y_true[..., :1], y_pred)
        textured = self._mixgl.call(y_true[..., :2], y_pred[..., :1])
        # Both are finite unless the network has diverged.
        return truly_fine * supervised + (1.0 - truly_fine) * self.mixgl_weight * textured
