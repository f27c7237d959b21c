"""Layers of the shipped network ``guided-1``, which takes NDVI alone; no other network has them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.models.layers import PACKAGE, KelvinLayer, ScaleFactorLayer, Shape

# The network gets kelvin, slopes and the guide in units in which they are about 1 on real scenes.
_LST_SCALE_KELVIN, _NARROW_SCALE_KELVIN, _WARMTH_SCALE_KELVIN = 5.0, 2.0, 15.0
_SPREAD_SCALE_KELVIN, _SLOPE_SCALE, _DETAIL_SCALE, _REFERENCE_KELVIN = 3.0, 20.0, 0.1, 300.0


@keras.saving.register_keras_serializable(package=PACKAGE)
class CoarseWeight(ScaleFactorLayer):
    """Weight of each coarse pixel in a regression: 1 where LST and all of the guide are there.

    Inputs: ``[lst_kelvin, guide]``: ``[B, h, w, 1]`` and ``[B, h·f, w·f, 1]``, NaN where missing.
    Output: ``[B, h, w, 1]``, 0 or 1.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Weighs ``[lst_kelvin, guide]``."""
        lst_kelvin, guide = inputs
        factor = self.scale_factor
        missing = ops.cast(ops.isnan(guide), self.compute_dtype)
        touched = ops.max_pool(missing, factor, strides=factor, padding="valid")
        usable = ops.logical_and(ops.logical_not(ops.isnan(lst_kelvin)), touched < 0.5)
        return ops.cast(usable, self.compute_dtype)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GuideDetail(KelvinLayer):
    """What the guide shows below a coarse pixel; none where the guide is missing.

    Inputs: ``[filled guide, its coarse means upsampled, guide]``, ``[B, H, W, 1]`` each; the last
    is NaN where missing. Output: ``[B, H, W, 1]``, the first less the second, 0 where missing.
    """

    def call(self, inputs: list[Any]) -> Any:
        """See the class."""
        filled, smooth, guide = inputs
        return ops.where(ops.isnan(guide), 0.0, filled - smooth)


@keras.saving.register_keras_serializable(package=PACKAGE)
class GuidedFeatures(KelvinLayer):
    """Puts together what the guided network sees and its first guess.

    Inputs: ``[lst_bicubic, guide, guide_detail, statistics_bilinear, residual_bicubic]``, all on
    the fine grid; ``statistics_bilinear`` are those of ``LocalRegression``. Outputs: the network's
    ``[B, H, W, 11]`` in units of about 1; and, ``[B, H, W, 1]`` each, the first guess's detail in
    kelvin, the part of the network's correction that holds, 0 to 1, and how far the guide is
    followed, 0 to 1.

    How far the guide is followed is ``min(e / e₀, 1) · min(|s| / s₀, 1)`` with the share e of LST's
    variance that the guide explains in the wide window, and the slope s there. It multiplies guess
    and correction; where the wide window has no guide at all there is no guess, and the correction
    rests on LST alone and holds whole.

    Args:
        full_explained_share: e₀.
        full_slope_kelvin: s₀, in kelvin per unit of the guide.
    """

    def __init__(
        self, full_explained_share: float = 0.3, full_slope_kelvin: float = 12.0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.full_explained_share = float(full_explained_share)
        self.full_slope_kelvin = float(full_slope_kelvin)

    def call(self, inputs: list[Any]) -> tuple[Any, Any, Any, Any]:
        """See the class."""
        lst, guide, detail, statistics, residual = inputs
        slope, _, narrow_mean, wide_mean, wide_slope, spread, explained, wide_share = (
            statistics[..., k : k + 1] for k in range(8)
        )
        followed = ops.clip(explained / self.full_explained_share, 0.0, 1.0) * ops.minimum(
            ops.abs(wide_slope) / self.full_slope_kelvin, 1.0
        )
        guess = followed * slope * detail
        held = ops.where(wide_share > 0, followed, 1.0)
        features = [
            (lst - wide_mean) / _LST_SCALE_KELVIN,
            (lst - narrow_mean) / _NARROW_SCALE_KELVIN,
            guide,
            detail / _DETAIL_SCALE,
            guess,
            slope / _SLOPE_SCALE,
            wide_slope / _SLOPE_SCALE,
            (wide_mean - _REFERENCE_KELVIN) / _WARMTH_SCALE_KELVIN,
            spread / _SPREAD_SCALE_KELVIN,
            explained,
            residual / _NARROW_SCALE_KELVIN,
        ]
        return ops.concatenate(features, axis=-1), guess, held, followed

    def compute_output_shape(self, input_shape: list[Shape]) -> tuple[Shape, ...]:
        """``[B, H, W, 11]`` and three times ``[B, H, W, 1]``."""
        fine = tuple(input_shape[0][:3])
        return (*fine, 11), (*fine, 1), (*fine, 1), (*fine, 1)
