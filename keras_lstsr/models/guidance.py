"""What a guide says of LST before any network looks: statistics and regression in windows.

All of it is of window size, never of image size, so that a tile of a scene gives what the whole
scene gives. The layers compute in float32 whatever the global dtype policy says.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from keras_lstsr.models.layers import (
    PACKAGE,
    KelvinLayer,
    ScaleFactorLayer,
    Shape,
    resized,
    window_mean,
)

_LEAST_NARROW_VARIANCE = 1e-5
# Variance of the guide below which a window says nothing of how LST follows it.
_LEAST_GUIDE_VARIANCE = 1e-4
# Variance of LST, in square kelvin, that a window has at least.
_LEAST_LST_VARIANCE = 1e-4
# Of a window's weight: less is rounding.
_LEAST_SHARE = 1e-4
# Of a coarse pixel, that a guide covers, for it to take part in a regression.
_LEAST_COVER = 0.25
_WATER_SHARE = 0.5


@keras.saving.register_keras_serializable(package=PACKAGE)
class BlockMean(ScaleFactorLayer):
    """Averages blocks of ``scale_factor`` × ``scale_factor`` pixels.

    Input: ``[B, h·f, w·f, C]`` without NaN. Output: ``[B, h, w, C]``.
    """

    def call(self, values: Any) -> Any:
        """Averages ``[B, h·f, w·f, C]``."""
        factor = self.scale_factor
        return ops.average_pool(values, factor, strides=factor, padding="valid")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """``[B, h, w, C]``."""
        return resized(input_shape, lambda side: side // self.scale_factor)


@keras.saving.register_keras_serializable(package=PACKAGE)
class WindowMean(KelvinLayer):
    """Averages each pixel's window; beyond the border no pixel counts.

    Args:
        window_pixels: Side of the window, odd.

    Input and output: ``[B, h, w, 1]`` without NaN.
    """

    def __init__(self, window_pixels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.window_pixels = int(window_pixels)

    def call(self, values: Any) -> Any:
        """Averages ``[B, h, w, 1]``."""
        # Divided by the share of pixels that are there, whatever a backend counts at the border.
        sums = ops.concatenate([values, ops.ones_like(values)], axis=-1)
        sums = window_mean(sums, self.window_pixels)
        return sums[..., :1] / sums[..., 1:]


@keras.saving.register_keras_serializable(package=PACKAGE)
class CoverWeight(ScaleFactorLayer):
    """Weight of each coarse pixel in a regression: the share of it in which the guide is known.

    A pixel of which less than a quarter is known, or whose LST is missing, has no weight.

    Inputs: ``[lst_kelvin, guide]``: ``[B, h, w, 1]`` and ``[B, h·f, w·f, 1]``, NaN where missing.
    Output: ``[B, h, w, 1]``, 0 to 1.
    """

    def call(self, inputs: list[Any]) -> Any:
        """Weighs ``[lst_kelvin, guide]``."""
        lst_kelvin, guide = inputs
        factor = self.scale_factor
        known = ops.cast(ops.logical_not(ops.isnan(guide)), self.compute_dtype)
        share = ops.average_pool(known, factor, strides=factor, padding="valid")
        usable = ops.logical_and(ops.logical_not(ops.isnan(lst_kelvin)), share > _LEAST_COVER)
        return ops.where(usable, share, 0.0)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LandAlone(KelvinLayer):
    """Marks water as missing in a guide, so that it sets no slope of land.

    Inputs: ``[guide, water]``, ``[B, H, W, 1]`` each, NaN where missing; where ``water`` is
    missing all is land. Output: the guide, NaN where more than half is water.
    """

    def call(self, inputs: list[Any]) -> Any:
        """See the class."""
        guide, water = inputs
        return ops.where(water > _WATER_SHARE, float("nan"), guide)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LocalSpread(KelvinLayer):
    """What LST alone says around each coarse pixel.

    Args:
        narrow_window_pixels: Side of the narrow window, odd.
        wide_window_pixels: Side of the wide window, odd.

    Inputs: ``[lst_filled, lst_kelvin]``, ``[B, h, w, 1]`` each; NaN in the second where missing.
    Output: ``[B, h, w, 4]`` in kelvin: means in the narrow and in the wide window, the wide
    window's standard deviation, and that of what is left of LST without the narrow means, the
    contrast between neighbours, in the wide window.
    """

    def __init__(
        self, narrow_window_pixels: int = 5, wide_window_pixels: int = 25, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.narrow_window_pixels = int(narrow_window_pixels)
        self.wide_window_pixels = int(wide_window_pixels)

    def call(self, inputs: list[Any]) -> Any:
        """See the class."""
        filled, lst_kelvin = inputs
        weight = ops.cast(ops.logical_not(ops.isnan(lst_kelvin)), self.compute_dtype)
        # Anomalies of the filled image keep the digits of squares.
        middle = ops.mean(filled, axis=(1, 2), keepdims=True)
        lst = filled - middle
        narrow = weighted_mean(lst, weight, self.narrow_window_pixels)
        wide = weighted_mean(
            ops.concatenate([lst, lst**2, (lst - narrow) ** 2], axis=-1),
            weight,
            self.wide_window_pixels,
        )
        variance = ops.maximum(wide[..., 1:2] - wide[..., :1] ** 2, 0.0)
        spread, contrast = (
            ops.sqrt(ops.maximum(each, _LEAST_LST_VARIANCE)) for each in (variance, wide[..., 2:])
        )
        return ops.concatenate([narrow + middle, wide[..., :1] + middle, spread, contrast], axis=-1)

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """``[B, h, w, 4]``."""
        return (*input_shape[0][:3], 4)


@keras.saving.register_keras_serializable(package=PACKAGE)
class DetailAgreement(KelvinLayer):
    """Finds how LST's differences between neighbours go with those of a guide.

    Both without their means in the narrow window, regressed in the wide one: what holds there holds
    closer to the size of a coarse pixel than a regression of the levels does, which a shore or a
    mountain may rule.

    Args:
        narrow_window_pixels: Side of the narrow window, odd.
        wide_window_pixels: Side of the wide window, odd.
        least_spread: Spread of a guide below which it says nothing, in its unit.

    Inputs: ``[lst_filled, guide, weight]``, ``[B, h, w, 1]`` each, without NaN.
    Output: ``[B, h, w, 2]``: slope in kelvin per unit of the guide, and correlation, −1 to 1.
    """

    def __init__(
        self,
        narrow_window_pixels: int = 5,
        wide_window_pixels: int = 25,
        least_spread: float = 1e-3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.narrow_window_pixels = int(narrow_window_pixels)
        self.wide_window_pixels = int(wide_window_pixels)
        self.least_spread = float(least_spread)

    def call(self, inputs: list[Any]) -> Any:
        """See the class."""
        lst, guide, weight = inputs
        lst = lst - ops.mean(lst, axis=(1, 2), keepdims=True)
        lst = lst - weighted_mean(lst, weight, self.narrow_window_pixels)
        guide = guide - weighted_mean(guide, weight, self.narrow_window_pixels)
        products = ops.concatenate([lst * guide, guide**2, lst**2], axis=-1)
        means = weighted_mean(products, weight, self.wide_window_pixels)
        variance = means[..., 1:2] + self.least_spread**2
        slope = means[..., :1] / variance
        correlation = means[..., :1] / ops.sqrt(
            variance * ops.maximum(means[..., 2:], _LEAST_LST_VARIANCE)
        )
        return ops.concatenate([slope, correlation], axis=-1)

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """``[B, h, w, 2]``."""
        return (*input_shape[0][:3], 2)


def weighted_mean(values: Any, weight: Any, window: int) -> Any:
    """Means of ``[B, h, w, C]`` in each pixel's window, weighted by ``[B, h, w, 1]``.

    0 where the window has no weight; beyond the border there is none.
    """
    sums = window_mean(ops.concatenate([weight * values, weight], axis=-1), window)
    share = sums[..., -1:]
    some = share > _LEAST_SHARE
    return ops.where(some, sums[..., :-1] / ops.where(some, share, 1.0), 0.0)


@keras.saving.register_keras_serializable(package=PACKAGE)
class LocalRegression(KelvinLayer):
    """Regresses LST on the guide around each coarse pixel, in a narrow and in a wide window.

    The narrow window's slope is ``(c + p·V·S) / (v + p·V)`` with its covariance ``c`` and guide
    variance ``v``, the wide window's variance ``V`` and slope ``S``, and ``slope_prior`` p: where
    the guide hardly varies nearby, the wide slope holds. Pixels of weight 0 take no part; without
    any weight in the window all outputs are 0 but the mean of LST.

    Args:
        narrow_window_pixels: Side of the narrow window, odd.
        wide_window_pixels: Side of the wide window, odd.
        slope_prior: See above.

    Inputs: ``[lst_kelvin, guide, weight]``, each ``[B, h, w, 1]`` without NaN.
    Output: ``[B, h, w, 8]``: 0 narrow slope (K per unit of the guide), 1 narrow residual of LST
    (K), 2 narrow mean of LST (K), 3 wide mean of LST (K), 4 wide slope, 5 wide standard deviation
    of LST (K), 6 wide share of LST's variance that the guide explains (0 to 1), 7 wide share of
    pixels with weight.
    """

    def __init__(
        self,
        narrow_window_pixels: int = 5,
        wide_window_pixels: int = 25,
        slope_prior: float = 0.3,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.narrow_window_pixels = int(narrow_window_pixels)
        self.wide_window_pixels = int(wide_window_pixels)
        self.slope_prior = float(slope_prior)

    def call(self, inputs: list[Any]) -> Any:
        """Regresses ``[lst_kelvin, guide, weight]``."""
        lst_kelvin, guide, weight = inputs
        total = ops.sum(weight, axis=(1, 2), keepdims=True)
        image_mean = ops.sum(weight * lst_kelvin, axis=(1, 2), keepdims=True) / ops.maximum(
            total, 1.0
        )
        image_mean = ops.where(total > 0, image_mean, ops.mean(lst_kelvin, (1, 2), keepdims=True))
        # Any constant may be taken off; the image's mean keeps the digits of squares.
        lst = lst_kelvin - image_mean
        wide = self._moments(lst, guide, weight, self.wide_window_pixels)
        narrow = self._moments(lst, guide, weight, self.narrow_window_pixels)
        wide_slope = wide["covariance"] / (wide["guide_variance"] + _LEAST_GUIDE_VARIANCE)
        prior = self.slope_prior * wide["guide_variance"]
        slope = (narrow["covariance"] + prior * wide_slope) / (
            narrow["guide_variance"] + _LEAST_NARROW_VARIANCE + prior
        )
        lst_variance = ops.maximum(wide["lst_variance"], _LEAST_LST_VARIANCE)
        explained = wide["covariance"] ** 2 / (
            (wide["guide_variance"] + _LEAST_GUIDE_VARIANCE) * lst_variance
        )
        residual = lst - narrow["lst_mean"] - slope * (guide - narrow["guide_mean"])
        return ops.concatenate(
            [
                slope,
                residual,
                narrow["lst_mean"] + image_mean,
                wide["lst_mean"] + image_mean,
                wide_slope,
                ops.sqrt(lst_variance),
                explained,
                wide["share"],
            ],
            axis=-1,
        )

    @staticmethod
    def _moments(lst: Any, guide: Any, weight: Any, window: int) -> dict[str, Any]:
        factors = (1.0, lst, guide, lst**2, guide**2, lst * guide)
        products = ops.concatenate([weight * factor for factor in factors], axis=-1)
        # Beyond the border no pixel counts, whatever a backend divides by, since all are divided by
        # their weight.
        products = window_mean(products, window)
        share = products[..., 0:1]
        some = share > _LEAST_SHARE
        mean = ops.where(some, products / ops.where(some, share, 1.0), 0.0)
        lst_mean, guide_mean = mean[..., 1:2], mean[..., 2:3]
        return {
            "share": share,
            "lst_mean": lst_mean,
            "guide_mean": guide_mean,
            "lst_variance": ops.maximum(mean[..., 3:4] - lst_mean**2, 0.0),
            "guide_variance": ops.maximum(mean[..., 4:5] - guide_mean**2, 0.0),
            "covariance": mean[..., 5:6] - lst_mean * guide_mean,
        }

    def compute_output_shape(self, input_shape: list[Shape]) -> Shape:
        """``[B, h, w, 8]``."""
        return (*input_shape[0][:3], 8)
