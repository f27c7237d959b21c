"""The guided network: 1 km LST and a guide of 250 m in, 250 m LST and its uncertainty out.

A local regression of LST on the guide, such as NDVI, gives a first guess, as TsHARP does but window
by window; a small U-Net corrects it. Both fade out where LST hardly follows the guide, as by night:
what is left there is bicubic upsampling. Without a guide the network gives back some of the
contrast between LST pixels, but one 1 km image says next to nothing of the detail below them, and
the uncertainty tells.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import keras
from keras import layers, ops

from keras_lstsr.config.guides import guide_named
from keras_lstsr.errors import ConfigError
from keras_lstsr.models.guidance import (
    BlockMean,
    CoarseWeight,
    LocalRegression,
    WindowMean,
)
from keras_lstsr.models.layers import (
    PACKAGE,
    ConfiguredLayer,
    CropToReference,
    FillGaps,
    KelvinLayer,
    MaskGaps,
    PadToMinimum,
    Shape,
    Upsample,
)

if TYPE_CHECKING:
    from keras_lstsr.config import GuidedModelConfig

EMPTY_KELVIN = 290.0
LEVELS = 3
# Pixels of this level are four fine ones wide, as those of LST.
COARSE_LEVEL = 2
SIDE_MULTIPLE = 2**LEVELS
"""Fine pixels: the network halves the fine grid three times."""

# The network gets kelvin, slopes and the guide in units in which they are about 1 on real scenes.
_LST_SCALE_KELVIN, _NARROW_SCALE_KELVIN, _WARMTH_SCALE_KELVIN = 5.0, 2.0, 15.0
_SPREAD_SCALE_KELVIN, _SLOPE_SCALE, _DETAIL_SCALE, _REFERENCE_KELVIN = 3.0, 20.0, 0.1, 300.0
# Standard deviations that the uncertainty can take, in kelvin.
_LEAST_STD_KELVIN, _INITIAL_STD_KELVIN = 0.05, 1.0


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


@keras.saving.register_keras_serializable(package=PACKAGE)
class StandardDeviation(KelvinLayer):
    """Turns any number into a standard deviation in kelvin, at least 0.05 K.

    ``softplus(x + x0) · calibration``, with x0 such that 0 gives 1 K before calibration.

    Args:
        calibration: Factor found by cross-validation; 1 before.
    """

    def __init__(self, calibration: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.calibration = float(calibration)

    def call(self, values: Any) -> Any:
        """Maps ``[B, H, W, 1]``."""
        shift = math.log(math.expm1(_INITIAL_STD_KELVIN))
        return (ops.softplus(values + shift) + _LEAST_STD_KELVIN) * self.calibration


@keras.saving.register_keras_serializable(package=PACKAGE)
class StopGradient(ConfiguredLayer):
    """Passes values on and no gradient back."""

    def call(self, values: Any) -> Any:
        """Returns its input."""
        return ops.stop_gradient(values)


def build_guided(config: GuidedModelConfig, *, calibration: float = 1.0) -> keras.Model:
    """Builds the guided model: coarse kelvin and a fine guide in, fine kelvin and its spread out.

    Gaps are filled inside for the network's sake. A missing coarse pixel is missing on its own
    fine pixels, and nowhere else. Where the guide is missing, its detail is taken as none: the
    result there is about bicubic. With the guide missing altogether the model works from LST
    alone. Where LST does not follow the guide the result is bicubic, by degrees; see
    ``GuidedFeatures``.

    Args:
        config: The network's shape; its defaults are those of the shipped weights.
        calibration: Factor of the uncertainty.

    Returns:
        A model with the inputs ``lst_kelvin`` ``[B, h, w, 1]`` and the guide by its name, e.g.
        ``ndvi``, ``[B, h·f, w·f, 1]`` (float32, NaN where missing) and the outputs
        ``lst_kelvin_fine`` (kelvin), ``lst_std_kelvin`` and ``guide_followed`` (0 to 1), all
        ``[B, h·f, w·f, 1]``; batch, height and width are free. The standard deviation is that of
        the error of detail, not of a bias that a whole scene has. The network itself is the layer
        ``guided``; untrained, it adds nothing to the first guess.

    Raises:
        ConfigError: If the settings name more than one guide.
    """
    factor = config.scale_factor
    lst = keras.Input((None, None, 1), dtype="float32", name="lst_kelvin")
    fine_guides = {
        name: keras.Input((None, None, 1), dtype="float32", name=name) for name in config.guides
    }
    if len(fine_guides) != 1:
        raise ConfigError(
            "the guided network takes one guide",
            field="model.guides",
            found=", ".join(config.guides),
            action="Name one of them.",
        )
    ((name, fine_guide),) = fine_guides.items()
    filled_lst = FillGaps(EMPTY_KELVIN, name="fill_lst")(lst)
    guide = FillGaps(guide_named(name).stand_in, name=f"fill_{name}")(fine_guide)
    coarse_guide = BlockMean(factor, name="coarse_guide")(guide)
    statistics = LocalRegression(
        config.narrow_window_pixels,
        config.wide_window_pixels,
        config.slope_prior,
        name="local_regression",
    )([filled_lst, coarse_guide, CoarseWeight(factor, name="weight")([lst, fine_guide])])
    bicubic = Upsample(factor, name="upsample_lst")(filled_lst)
    guide_bicubic = Upsample(factor, name="upsample_guide")(coarse_guide)
    detail = GuideDetail(name="guide_detail")([guide, guide_bicubic, fine_guide])
    smooth = Upsample(factor, "bilinear", name="upsample_statistics")(statistics)
    residual = Upsample(factor, name="upsample_residual")(statistics[..., 1:2])
    features, guess, held, followed = GuidedFeatures(
        config.full_explained_share, config.full_slope_kelvin, name="features"
    )([bicubic, guide, detail, smooth, residual])
    padded = PadToMinimum(SIDE_MULTIPLE, SIDE_MULTIPLE, "end", dtype="float32", name="pad")(
        features
    )
    correction, spread = guided_network(config.width)(padded)
    correction = CropToReference(side="end", name="crop_correction")([correction, guess])
    correction = layers.Multiply(dtype="float32", name="held_correction")([correction, held])
    coarse_correction = BlockMean(factor, name="coarse_correction")(correction)
    level = WindowMean(config.level_window_pixels, name="correction_level")(coarse_correction)
    level = Upsample(factor, "bilinear", name="upsample_level")(level)
    correction = layers.Subtract(dtype="float32", name="detail_alone")([correction, level])
    spread = CropToReference(side="end", name="crop_spread")([spread, guess])
    kelvin = layers.Add(dtype="float32", name="first_guess_plus_correction")(
        [bicubic, guess, correction]
    )
    std = StandardDeviation(calibration, name="standard_deviation")(spread)
    outputs = {
        "lst_kelvin_fine": MaskGaps(factor, name="lst_kelvin_fine")([kelvin, lst]),
        "lst_std_kelvin": MaskGaps(factor, name="lst_std_kelvin")([std, lst]),
        "guide_followed": MaskGaps(factor, name="guide_followed")([followed, lst]),
    }
    return keras.Model({"lst_kelvin": lst, **fine_guides}, outputs, name="guided_model")


def guided_network(width: int) -> keras.Model:
    """Builds the U-Net of the guided model.

    Four levels of 1, 2, 3 and 4 times ``width`` channels with residual blocks (Conv → SiLU → Conv,
    + input, SiLU) and strided convolutions between them; only one block works on the finest level,
    where a pixel costs most. The level of every fourth pixel, about that of LST itself, also sees
    the features' own means and gives a part of the correction: what LST alone says of contrast
    between neighbouring LST pixels is learnt soon there, and hardly ever from the finest level.
    No normalisation layers: they blur temperature differences between scenes, and batches are
    small.

    Args:
        width: Channels of the finest level.

    Returns:
        A model ``[B, H, W, 11] → ([B, H, W, 1], [B, H, W, 1])``: correction in kelvin, zero before
        training, and the logit of the standard deviation. H and W are multiples of 8. The second
        output sends no gradient into what makes the first.
    """
    features = keras.Input((None, None, 11), dtype="float32", name="features")
    means = layers.AveragePooling2D(2**COARSE_LEVEL, name="coarse_features")(features)
    skips = [_activated(_convolution(features, width, 3, "stem"), "stem")]
    x = skips[0]
    for level in range(1, LEVELS + 1):
        channels = (level + 1) * width
        x = _activated(
            layers.Conv2D(channels, 2, strides=2, name=f"down{level}_conv")(x), f"down{level}"
        )
        if level == COARSE_LEVEL:
            x = layers.Concatenate(name="with_coarse_features")([x, means])
            x = _activated(_convolution(x, channels, 3, "coarse_merge"), "coarse_merge")
        for block in range(1, 2 if level == 1 else 3):
            x = _residual_block(x, f"down{level}_block{block}")
        skips.append(x)
    for level in range(LEVELS - 1, -1, -1):
        channels = (level + 1) * width
        x = layers.Conv2DTranspose(channels, 2, strides=2, name=f"up{level}_conv")(x)
        x = layers.Concatenate(name=f"up{level}_skip")([x, skips[level]])
        x = _activated(_convolution(x, channels, 1, f"up{level}_merge"), f"up{level}_merge")
        x = _residual_block(x, f"up{level}_block")
        if level == COARSE_LEVEL:
            coarse = _correction(x, "coarse_correction")
    coarse = Upsample(2**COARSE_LEVEL, name="upsample_coarse_correction")(coarse)
    correction = layers.Add(dtype="float32", name="both_corrections")(
        [_correction(x, "fine_correction"), coarse]
    )
    apart = StopGradient(name="apart")(x)
    hidden = _activated(_convolution(apart, width // 2 or 1, 3, "spread_hidden"), "spread_hidden")
    spread = layers.Conv2D(1, 1, kernel_initializer="zeros", dtype="float32", name="spread")(hidden)
    return keras.Model(features, [correction, spread], name="guided")


def _correction(x: Any, name: str) -> Any:
    return layers.Conv2D(1, 1, kernel_initializer="zeros", dtype="float32", name=name)(x)


def _convolution(x: Any, filters: int, size: int, name: str) -> Any:
    return layers.Conv2D(
        filters, size, padding="same", kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)


def _activated(x: Any, name: str) -> Any:
    return layers.Activation("silu", name=f"{name}_silu")(x)


def _residual_block(x: Any, name: str) -> Any:
    y = _activated(_convolution(x, x.shape[-1], 3, f"{name}_1"), f"{name}_1")
    y = _convolution(y, x.shape[-1], 3, f"{name}_2")
    return _activated(layers.Add(name=f"{name}_add")([x, y]), name)
